//! What was promised, and whether it holds. The oracle sees every change of the store before and after.

use crate::key::{Digest, Key, Repo, Tag};
use crate::protocol::{Actor, Next, Protocol, State};
use crate::rules::{Request, Scenario};
use crate::store::{Age, OLD, Store};

pub(crate) const I1: &str = "I1 an answered manifest is readable with the children it relied on";
pub(crate) const LEASE: &str = "I1 an answered blob stays for half of the grace";
pub(crate) const LISTED: &str = "I1 an answered referrer is listed by its subject until a client deletes it";
pub(crate) const I2: &str = "I2 a tag changes only by its own writes and deletions";
pub(crate) const I3: &str = "I3 what is refused is never seen";
pub(crate) const I5: &str = "I5 deleted stays deleted";
pub(crate) const LINK: &str = "I7 an answered link never dangles";
pub(crate) const PULL: &str = "I1 a reader finds what is there all the time";
pub(crate) const ANSWERED: &str = "every request can succeed";
pub(crate) const RECLAIMED: &str = "garbage is reclaimed to 0";

/// Which promise was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "one for each promise")]
pub(crate) struct Broken {
    pub(crate) manifest: bool,
    pub(crate) blob: bool,
    pub(crate) listed: bool,
    pub(crate) tag: bool,
    pub(crate) refused: bool,
    pub(crate) deleted: bool,
    pub(crate) link: bool,
    pub(crate) pull: bool,
}

/// Something that was answered 2xx and that no client asked to delete since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Owed {
    repo: Repo,
    digest: Digest,
    /// One bit for each child that must be there with it.
    children: u16,
    age: Age,
    /// Answered itself, not only as the child of an index.
    itself: bool,
    /// Its subject has been there all the time since.
    has_subject: bool,
    /// The link that a blob was answered for.
    link: Option<Key>,
}

/// What clients could see of what a change is about to touch.
pub(crate) struct Views {
    present: bool,
    tags: Vec<((Repo, Tag), Option<Digest>)>,
}

fn manifest_is_seen(store: &Store, repo: Repo, digest: Digest) -> bool {
    store.records(repo, digest).next().is_some()
}

fn blob_is_seen(store: &Store, repo: Repo, digest: Digest) -> bool {
    store.links(repo, digest).any(|(_, data, _)| store.exists(Key::Data(data)))
}

fn is_seen(scenario: &Scenario, store: &Store, repo: Repo, digest: Digest) -> bool {
    if scenario.is_blob(digest) { blob_is_seen(store, repo, digest) } else { manifest_is_seen(store, repo, digest) }
}

pub(crate) fn views(next: &Next<'_>, key: Option<Key>) -> Views {
    let store = &next.state.store;
    let by_name = next.protocol.rules.tag_names_record;
    let tags = match key {
        None | Some(Key::Record(..)) => [(0, 0), (0, 1), (1, 0)]
            .map(|(repo, tag)| {
                let target = store.tag(repo, tag).filter(|target| {
                    let exact = store.exists(Key::Record(repo, target.digest, target.record));
                    exact || !by_name && manifest_is_seen(store, repo, target.digest)
                });
                ((repo, tag), target.map(|target| target.digest))
            })
            .to_vec(),
        _ => Vec::new(),
    };
    let present = match key {
        Some(Key::Record(repo, digest, _)) => manifest_is_seen(store, repo, digest),
        Some(Key::Link(repo, digest, ..)) => blob_is_seen(store, repo, digest),
        _ => false,
    };
    Views { present, tags }
}

/// Judges one change by who made it.
pub(crate) fn judge(next: &mut Next<'_>, key: Option<Key>, before: &Views) {
    let after = views(next, key);
    for ((name, was), (_, is)) in before.tags.iter().zip(&after.tags) {
        if was != is {
            judge_tag(next, *name, *was, *is);
        }
    }
    match key {
        Some(Key::Record(repo, digest, record)) if before.present != after.present => {
            judge_manifest(next, repo, digest, after.present);
            judge_torn_deletion(next, repo, digest, record);
        }
        Some(Key::Link(repo, digest, ..)) if after.present && !before.present && !may_bring(next, repo, digest) => {
            next.state.broken.deleted = true;
        }
        _ => {}
    }
    if key.is_some_and(|key| !next.state.store.exists(key)) {
        judge_loss(next);
    }
}

fn may_bring(next: &Next<'_>, r: Repo, d: Digest) -> bool {
    requester(next).is_some_and(|request| may_be_brought_by(&next.protocol.scenario, request, r, d))
}

fn may_be_brought_by(scenario: &Scenario, request: Request, r: Repo, d: Digest) -> bool {
    match request {
        Request::Put { repo, digest, .. } => repo == r && scenario.reaches(digest, d),
        Request::Finish { repo, digest } | Request::Mount { to: repo, digest, .. } => repo == r && digest == d,
        _ => false,
    }
}

fn requester(next: &Next<'_>) -> Option<Request> {
    next.protocol.scenario.requests.get(next.who).copied()
}

fn judge_manifest(next: &mut Next<'_>, repo: Repo, digest: Digest, appears: bool) {
    let may_hide = match requester(next) {
        Some(Request::DeleteManifest { repo: r, digest: d }) => r == repo && d == digest,
        Some(Request::Collect { .. }) => true,
        _ => false,
    };
    if appears && !may_bring(next, repo, digest) {
        next.state.broken.deleted = true;
    }
    if !appears && !may_hide {
        next.state.broken.refused = true;
    }
    if !appears {
        // From now on no subject holds these.
        let is_subject = |owed: &&mut Owed| next.protocol.scenario.subject(owed.digest) == Some(digest);
        for owed in next.state.owed.iter_mut().filter(|owed| owed.repo == repo).filter(is_subject) {
            owed.has_subject = false;
        }
    }
}

/// A deletion that dies in the middle must not leave a tag that was there before it, without its manifest.
fn judge_torn_deletion(next: &mut Next<'_>, repo: Repo, digest: Digest, record: u8) {
    let from_the_start = record < 10;
    if from_the_start
        && next.state.store.tags().any(|(r, _, target)| r == repo && target.digest == digest && target.record == record)
    {
        next.state.broken.tag = true;
    }
}

fn judge_tag(next: &mut Next<'_>, (repo, tag): (Repo, Tag), was: Option<Digest>, is: Option<Digest>) {
    let late = next.state.late & (1 << next.who) != 0;
    let deletes = |digest: Digest| next.protocol.scenario.requests.contains(&Request::DeleteManifest { repo, digest });
    let allowed = match requester(next) {
        Some(Request::Put { repo: r, digest, tags }) if r == repo && tags.contains(&tag) => {
            is == Some(digest) || is.is_none() && (late || deletes(digest))
        }
        Some(Request::DeleteTag { repo: r, tag: t }) => (r, t) == (repo, tag) && is.is_none(),
        Some(Request::DeleteManifest { repo: r, digest }) => r == repo && was == Some(digest) && is.is_none(),
        _ => false,
    };
    if allowed {
        return;
    }
    if was.is_none() {
        next.state.broken.deleted = true;
    } else {
        next.state.broken.tag = true;
    }
}

/// After a deletion: is anything gone that is owed?
fn judge_loss(next: &mut Next<'_>) {
    let state = &next.state;
    let mut broken = state.broken;
    for owed in state.owed.iter().filter(|owed| owed.itself) {
        if next.protocol.scenario.is_blob(owed.digest) {
            broken.blob |= owed.age < OLD && !blob_is_seen(&state.store, owed.repo, owed.digest);
            broken.link |= owed.link.is_some_and(|link| dangles(&state.store, link));
        } else {
            let kept = is_to_be_kept(&next.protocol.scenario, state, owed);
            broken.manifest |= kept && !is_readable(next.protocol, state, owed);
            broken.listed |= kept && !is_listed(&next.protocol.scenario, &state.store, owed);
        }
    }
    broken.link |=
        state.store.list().any(|(key, _)| matches!(key, Key::Link(_, _, 0..10, _)) && dangles(&state.store, key));
    next.state.broken = broken;
}

/// Whether no policy lets the collector take what was answered.
fn is_to_be_kept(scenario: &Scenario, state: &State, owed: &Owed) -> bool {
    !scenario.untagged_go
        || owed.age < OLD
        || owed.has_subject
        || state.store.tags().any(|(repo, _, target)| repo == owed.repo && target.digest == owed.digest)
}

fn subject_is_seen(scenario: &Scenario, store: &Store, repo: Repo, digest: Digest) -> bool {
    scenario.subject(digest).is_some_and(|subject| manifest_is_seen(store, repo, subject))
}

/// Whether its subject's referrers show it: an entry counts together with its record.
fn is_listed(scenario: &Scenario, store: &Store, owed: &Owed) -> bool {
    let Some(subject) = scenario.subject(owed.digest) else { return true };
    store.list().any(|(key, _)| match key {
        Key::Referrer(repo, s, digest, record) => {
            (repo, s, digest) == (owed.repo, subject, owed.digest) && store.exists(Key::Record(repo, digest, record))
        }
        _ => false,
    })
}

fn dangles(store: &Store, link: Key) -> bool {
    store.exists(link) && matches!(link, Key::Link(_, _, _, data) if !store.exists(Key::Data(data)))
}

fn is_readable(protocol: &Protocol, state: &State, owed: &Owed) -> bool {
    let repo = owed.repo;
    let child_is_readable = |child: Digest| {
        let owed = state.owed.iter().find(|other| other.repo == repo && other.digest == child);
        match owed {
            Some(owed) if !protocol.scenario.is_blob(child) => is_readable(protocol, state, owed),
            _ => is_seen(&protocol.scenario, &state.store, repo, child),
        }
    };
    manifest_is_seen(&state.store, owed.repo, owed.digest)
        && (0..16).filter(|child| owed.children & (1 << child) != 0).all(child_is_readable)
}

fn deletes(request: Request) -> Option<(Repo, Digest)> {
    match request {
        Request::DeleteManifest { repo, digest } | Request::DeleteBlob { repo, digest } => Some((repo, digest)),
        _ => None,
    }
}

/// A request has begun. From the moment a client asks for something to be gone nobody is owed it, and neither is a request
/// that overlaps the deletion.
pub(crate) fn begin(next: &mut Next<'_>) {
    let Some(begun) = requester(next) else { return };
    let overlapping = (0u8..).zip(&next.state.actors).filter(|(_, actor)| actor.is_in_flight()).map(|(who, _)| who);
    if let Some((repo, digest)) = deletes(begun) {
        let scenario = &next.protocol.scenario;
        let brings = |who: u8| may_be_brought_by(scenario, scenario.requests[usize::from(who)], repo, digest);
        next.state.overlapped |= u8::from(overlapping.clone().any(brings)) << next.who;
        next.state.excused |= overlapping.fold(0, |bits, who| bits | 1 << (16 * who + digest));
        next.state.owed.retain(|owed| owed.repo != repo || owed.digest != digest);
        for owed in next.state.owed.iter_mut().filter(|owed| owed.repo == repo) {
            owed.children &= !(1 << digest);
        }
    } else {
        let scenario = &next.protocol.scenario;
        let brought = overlapping.clone().filter(|who| {
            let deleted = deletes(scenario.requests[usize::from(*who)]);
            deleted.is_some_and(|(repo, digest)| may_be_brought_by(scenario, begun, repo, digest))
        });
        next.state.overlapped |= brought.fold(0, |bits, who| bits | 1 << who);
        let digests = overlapping.filter_map(|who| deletes(scenario.requests[usize::from(who)]));
        next.state.excused |= digests.fold(0, |bits, (_, digest)| bits | 1 << (16 * next.who + usize::from(digest)));
    }
}

pub(crate) fn grow_older(owed: &mut [Owed]) {
    for owed in owed {
        owed.age = (owed.age + 1).min(OLD);
    }
}

fn owe(owed: &mut Vec<Owed>, new: Owed) {
    if let Some(old) = owed.iter_mut().find(|old| old.repo == new.repo && old.digest == new.digest) {
        old.children |= new.children;
        old.age = old.age.min(new.age);
        old.itself |= new.itself;
        old.link = new.link;
        old.has_subject = new.has_subject;
    } else {
        owed.push(new);
        owed.sort_unstable_by_key(|owed| (owed.repo, owed.digest));
    }
}

/// A request was answered 2xx: from now on it is owed what it relied on, except what a client has begun to delete.
pub(crate) fn answered(next: &mut Next<'_>, relied: &[Key]) {
    match requester(next) {
        Some(Request::Put { repo, digest, .. }) => {
            let children: Vec<Digest> = relied
                .iter()
                .map(|key| match *key {
                    Key::Link(_, d, ..) | Key::Record(_, d, _) => d,
                    _ => digest,
                })
                .collect();
            owe_manifest(next, repo, digest, &children, true);
            for child in children {
                owe_below(next, repo, child);
            }
            judge_loss(next);
        }
        Some(Request::Finish { repo, digest } | Request::Mount { to: repo, digest, .. }) => {
            if !client_deletes(next, digest) {
                owe(
                    &mut next.state.owed,
                    Owed {
                        repo,
                        digest,
                        children: 0,
                        age: 0,
                        itself: true,
                        has_subject: false,
                        link: relied.first().copied(),
                    },
                );
            }
            judge_loss(next);
        }
        Some(request) => {
            let is_left = deletes(request)
                .is_some_and(|(repo, digest)| is_seen(&next.protocol.scenario, &next.state.store, repo, digest));
            next.state.broken.deleted |= is_left && next.state.overlapped & (1 << next.who) == 0;
        }
        None => {}
    }
}

/// What the manifest of an index relied on when it was answered, down to the blobs.
fn owe_below(next: &mut Next<'_>, repo: Repo, manifest: Digest) {
    if next.protocol.scenario.is_blob(manifest) {
        return;
    }
    let children = next.protocol.scenario.children(manifest).iter().copied();
    let children: Vec<Digest> = children.filter(|child| !was_deleted(next, repo, *child)).collect();
    owe_manifest(next, repo, manifest, &children, false);
    for child in children {
        owe_below(next, repo, child);
    }
}

fn owe_manifest(next: &mut Next<'_>, repo: Repo, digest: Digest, children: &[Digest], itself: bool) {
    if client_deletes(next, digest) {
        return;
    }
    let kept = children.iter().filter(|child| !client_deletes(next, **child));
    let children = kept.fold(0, |mask, child| mask | 1 << child);
    let has_subject = subject_is_seen(&next.protocol.scenario, &next.state.store, repo, digest);
    owe(&mut next.state.owed, Owed { repo, digest, children, age: 0, itself, has_subject, link: None });
}

/// Whether a client's deletion of this overlapped the request.
fn client_deletes(next: &Next<'_>, digest: Digest) -> bool {
    next.state.excused & (1 << (16 * next.who + usize::from(digest))) != 0
}

/// Whether a client ever began to delete this.
fn was_deleted(next: &Next<'_>, repo: Repo, digest: Digest) -> bool {
    let deletions = [Request::DeleteBlob { repo, digest }, Request::DeleteManifest { repo, digest }];
    let mut requests = next.protocol.scenario.requests.iter().zip(&next.state.actors);
    requests.any(|(request, actor)| deletions.contains(request) && *actor != Actor::Waiting)
}

pub(crate) fn owe_from_the_start(scenario: &Scenario, state: &mut State) {
    for digest in scenario.answered {
        let there = scenario.children(*digest).iter().filter(|child| is_seen(scenario, &state.store, 0, **child));
        let children = there.fold(0, |mask, child| mask | 1 << child);
        let has_subject = subject_is_seen(scenario, &state.store, 0, *digest);
        let (repo, digest) = (0, *digest);
        owe(&mut state.owed, Owed { repo, digest, children, age: OLD, itself: true, has_subject, link: None });
    }
}
