//! What is searched: the contents, who asks for what, and the rules. A rule that is switched off is a seeded bug.

use crate::key::{Digest, Key, Repo, Tag};
use crate::network::Place;
use crate::store::Target;

/// What a digest stands for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content {
    /// Bytes that refer to nothing.
    Blob,
    /// A manifest or an index: its children by digest, and its subject.
    Manifest { children: &'static [Digest], subject: Option<Digest> },
}

/// One client request, or a collector. Each runs once; each may stall for ever at every step, which is a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// `PUT /v2/<repo>/manifests/<digest>`, with tags.
    Put { repo: Repo, digest: Digest, tags: &'static [Tag] },
    /// `POST /v2/<to>/blobs/uploads/?mount=<digest>&from=<from>`.
    Mount { from: Repo, to: Repo, digest: Digest },
    /// The end of an upload: all bytes are received and verified.
    Finish { repo: Repo, digest: Digest },
    /// `DELETE /v2/<repo>/manifests/<digest>`.
    DeleteManifest { repo: Repo, digest: Digest },
    /// `DELETE /v2/<repo>/manifests/<tag>`.
    DeleteTag { repo: Repo, tag: Tag },
    /// `DELETE /v2/<repo>/blobs/<digest>`.
    DeleteBlob { repo: Repo, digest: Digest },
    /// `GET /v2/<repo>/manifests/<tag>`, then the blobs.
    Pull { repo: Repo, tag: Tag },
    /// Collects, that many runs.
    Collect { runs: u8 },
}

impl Request {
    pub(crate) fn deletes(self) -> bool {
        matches!(self, Self::DeleteManifest { .. } | Self::DeleteTag { .. } | Self::DeleteBlob { .. })
    }
}

/// The phases of PUT manifest after its validation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Intent,
    ListDead,
    Check,
    Record,
    Referrer,
    BackReferences,
    Tags,
}

/// The order that the protocol prescribes.
pub(crate) const PUT: &[Phase] = {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    &[Intent, ListDead, Check, Referrer, BackReferences, Record, Tags]
};

/// What the client of a bucket sends once more when no answer came, so that the first try may arrive at any time after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SentTwice {
    Nothing,
    Records,
    Links,
    /// Everything that is written once but records and links: data, intents, entries.
    TheRest,
}

impl SentTwice {
    pub(crate) fn covers(self, key: Key) -> bool {
        match self {
            Self::Nothing => false,
            Self::Records => matches!(key, Key::Record(..)),
            Self::Links => matches!(key, Key::Link(..)),
            Self::TheRest => !matches!(key, Key::Record(..) | Key::Link(..)),
        }
    }
}

/// The rules of the protocol. [`Rules::default`] is the protocol; every other value must be found out.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one rule that a test switches off")]
pub(crate) struct Rules {
    /// PUT manifest's phases.
    pub(crate) put: &'static [Phase],
    /// A fresh incarnation is listed and checked like anything else.
    pub(crate) fresh_is_checked: bool,
    /// A child record that is named dead is put again with its own children relied on, not only copied.
    pub(crate) child_is_put: bool,
    /// It may lack only what was absent while its record was still there.
    pub(crate) sparse_is_checked: bool,
    /// A mount leaves its own link where it is while the data exists.
    pub(crate) mount_keeps_link: bool,
    /// Mount and finish check that the data exists.
    pub(crate) blob_is_checked: bool,
    /// A tag names the record, not only the digest.
    pub(crate) tag_names_record: bool,
    /// DELETE by digest deletes a tag only if it still names the digest.
    pub(crate) untag_compares: bool,
    /// DELETE by digest deletes the tags before the records.
    pub(crate) tags_before_records: bool,
    /// It deletes only the back-references of the records that it deletes: another one's record may be about to come.
    pub(crate) delete_leaves_others_entries: bool,
    /// A request that took longer than half of the grace is not answered 2xx.
    pub(crate) deadline: bool,
    /// It also writes nothing more, except what was already on its way to the store.
    pub(crate) gives_up: bool,
    /// What is younger than the grace is no candidate. (An intent never is: it protects one request, which has a deadline.)
    pub(crate) grace: bool,
    /// A batch stays until all that it names is gone.
    pub(crate) dead_is_final: bool,
    /// There is a second mark.
    pub(crate) second_mark: bool,
    /// The second mark lists intents before records.
    pub(crate) intents_first: bool,
    /// The second mark spares the record of an intent: its tags may still be to come.
    pub(crate) intent_spares_its_record: bool,
    /// The second mark spares data that any other link names.
    pub(crate) any_link_spares: bool,
    /// A collector gives what it spared no fresh incarnation.
    pub(crate) spared_is_left: bool,
    /// Links are deleted before data.
    pub(crate) links_before_data: bool,
    /// Duplicates are collected only beside a keeper that no batch names.
    pub(crate) keeper_is_not_dead: bool,
    /// What may arrive twice.
    pub(crate) sent_twice: SentTwice,
    /// Entries without their record are garbage only when they are older than the grace.
    pub(crate) entries_have_grace: bool,
    /// On a network: how often the collector waits between batch and second mark until all see what has changed.
    pub(crate) waits: u8,
    /// On a network: it waits once more before it retires a batch.
    pub(crate) waits_before_retiring: bool,
    /// On a network: intents are left to the sweep.
    pub(crate) intents_are_left: bool,
    /// On a network: a deletion lists what is there now, whatever it takes.
    pub(crate) deletions_list_afresh: bool,
    /// A reader that finds something gone looks once more before it says so.
    pub(crate) reader_looks_again: bool,
    /// Finish may answer for a link that another request wrote, if it is younger than half of the grace.
    pub(crate) reuse_young_link: bool,
    /// ... or of any age: not the protocol.
    pub(crate) reuse_any_link: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            put: PUT,
            fresh_is_checked: true,
            child_is_put: true,
            sparse_is_checked: true,
            mount_keeps_link: true,
            blob_is_checked: true,
            tag_names_record: true,
            untag_compares: true,
            tags_before_records: true,
            delete_leaves_others_entries: true,
            deadline: true,
            gives_up: true,
            grace: true,
            dead_is_final: true,
            second_mark: true,
            intents_first: true,
            intent_spares_its_record: true,
            any_link_spares: true,
            spared_is_left: true,
            links_before_data: true,
            keeper_is_not_dead: true,
            sent_twice: SentTwice::Nothing,
            entries_have_grace: true,
            waits: 2,
            waits_before_retiring: true,
            intents_are_left: true,
            deletions_list_afresh: true,
            reader_looks_again: true,
            reuse_young_link: false,
            reuse_any_link: false,
        }
    }
}

/// One configuration: small enough to be searched to the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) contents: &'static [Content],
    /// What is there at the start, older than the grace.
    pub(crate) keys: Vec<Key>,
    pub(crate) tags: Vec<(Repo, Tag, Target)>,
    /// Manifests of repository A that were answered 201 before the start.
    pub(crate) answered: &'static [Digest],
    pub(crate) requests: Vec<Request>,
    /// Untagged manifests are collected. Otherwise only duplicates of records are.
    pub(crate) untagged_go: bool,
    pub(crate) place: Place,
    /// How often half of the grace may pass.
    pub(crate) jumps: u8,
    /// The first mark may also name everything that is old, garbage or not, or any one duplicate: torn in the worst way.
    pub(crate) wild: bool,
}

impl Scenario {
    pub(crate) fn children(&self, digest: Digest) -> &'static [Digest] {
        match self.contents[usize::from(digest)] {
            Content::Blob => &[],
            Content::Manifest { children, .. } => children,
        }
    }

    /// Whether a manifest is, or names, or has a child that names, this.
    pub(crate) fn reaches(&self, from: Digest, to: Digest) -> bool {
        from == to || self.children(from).iter().any(|child| self.reaches(*child, to))
    }

    pub(crate) fn subject(&self, digest: Digest) -> Option<Digest> {
        match self.contents[usize::from(digest)] {
            Content::Blob => None,
            Content::Manifest { subject, .. } => subject,
        }
    }

    pub(crate) fn is_blob(&self, digest: Digest) -> bool {
        matches!(self.contents[usize::from(digest)], Content::Blob)
    }

    /// Whether there is such a repository.
    pub(crate) fn uses(&self, repo: Repo) -> bool {
        let in_the_other = |request: &Request| {
            matches!(request, Request::Mount { .. } | Request::Finish { repo: 1, .. } | Request::Put { repo: 1, .. })
        };
        repo == 0 || repo == 1 && self.requests.iter().any(in_the_other)
    }
}
