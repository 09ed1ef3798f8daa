//! A client: it pushes, deletes and pushes again, keeps one tag in each repository, and looks whether it finds what it was
//! promised.

use super::history::{Moment, Thing};
use super::*;

/// Different blobs, and different images: few, so that everybody has to do with the same ones.
const BLOBS: usize = 30;
/// Those that most want.
const WANTED: usize = 5;

/// Something to push: its bytes, its kind, and what it names.
#[derive(Clone, Debug)]
struct Made {
    kind: ManifestKind,
    bytes: Bytes,
    blobs: Vec<usize>,
    children: Vec<Made>,
}

impl Made {
    fn image(n: usize) -> Self {
        Self::of((n..n + 3).map(|blob| blob % BLOBS).collect())
    }

    /// An image with a blob that no other one has: its bytes are nobody's when it goes.
    fn with_a_blob_of_its_own(n: usize) -> Self {
        Self::of(vec![n % BLOBS, BLOBS + fastrand::usize(..1 << 40)])
    }

    fn of(blobs: Vec<usize>) -> Self {
        let contents: Vec<String> = blobs.iter().map(|blob| content(*blob)).collect();
        let contents: Vec<&[u8]> = contents.iter().map(String::as_bytes).collect();
        Self { kind: ManifestKind::OciManifest, bytes: image(&contents), blobs, children: Vec::new() }
    }

    fn index(n: usize) -> Self {
        Self::over(vec![Self::image(n), Self::image(n + 1)])
    }

    fn over(children: Vec<Self>) -> Self {
        let entry = |child: &Self| {
            let (kind, digest, size) = (child.kind, child.digest(), child.bytes.len());
            format!(r#"{{"mediaType":"{kind}","digest":"{digest}","size":{size}}}"#)
        };
        let entries: Vec<_> = children.iter().map(entry).collect();
        let bytes = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(",")).into();
        Self { kind: ManifestKind::OciIndex, bytes, blobs: Vec::new(), children }
    }

    /// A signature, say.
    fn referrer_of(subject: &Self, n: usize) -> Self {
        let (kind, digest, size) = (subject.kind, subject.digest(), subject.bytes.len());
        let content = content(n % BLOBS);
        let rest = image(&[content.as_bytes()]);
        let rest = std::str::from_utf8(&rest[1..]).unwrap();
        let bytes = format!(r#"{{"subject":{{"mediaType":"{kind}","digest":"{digest}","size":{size}}},{rest}"#);
        let (kind, blobs) = (ManifestKind::OciManifest, vec![n % BLOBS]);
        Self { kind, bytes: bytes.into(), blobs, children: Vec::new() }
    }

    fn digest(&self) -> Digest {
        digest_of(&self.bytes)
    }

    /// Itself and all below it: what a request that puts it may bring.
    fn all(&self) -> Vec<Digest> {
        let own = self.blobs.iter().map(|blob| digest_of(content(*blob).as_bytes())).chain([self.digest()]);
        self.children.iter().flat_map(Self::all).chain(own).collect()
    }
}

fn any() -> usize {
    fastrand::usize(..if fastrand::u8(..4) > 0 { WANTED } else { BLOBS })
}

fn content(blob: usize) -> String {
    format!("blob {blob}")
}

/// Something that must be there, unless a client deleted one of what leads to it.
#[derive(Clone, Debug)]
struct Promise {
    what: Promised,
    through: Vec<Digest>,
    since: Moment,
}

#[derive(Clone, Debug)]
enum Promised {
    Blob(usize),
    Manifest(Bytes),
    /// As one of the referrers of the first.
    Listed(Digest, Digest),
}

/// What the own tag of one repository names.
#[derive(Clone, Debug)]
struct Tagged {
    made: Made,
    since: Moment,
    promises: Vec<Promise>,
}

/// A client.
pub(super) struct Pusher {
    world: Arc<World>,
    tag: String,
    /// For each repository. `None`: the client does not know.
    tagged: [Option<Tagged>; REPOSITORIES.len()],
    /// What it deleted, and when it began to.
    gone: VecDeque<(Thing, Moment)>,
}

/// What came of a put.
enum Put {
    Answered { since: Moment, began: Instant },
    Refused,
    Unknown,
}

impl Pusher {
    pub(super) fn new(world: Arc<World>, own: usize) -> Self {
        Self { world, tag: format!("t{own}"), tagged: [const { None }; REPOSITORIES.len()], gone: VecDeque::new() }
    }

    pub(super) async fn run(mut self) -> Self {
        while self.world.goes_on() {
            let repo = fastrand::usize(..REPOSITORIES.len());
            match fastrand::u8(..100) {
                0..20 => self.push(repo, Made::image(any())).await,
                20..30 => self.push(repo, Made::with_a_blob_of_its_own(any())).await,
                30..42 => self.push(repo, Made::index(any())).await,
                42..50 => self.push(repo, Made::over(vec![Made::index(any())])).await,
                50..65 => self.push_referrer(repo).await,
                65..80 => self.push_again(repo).await,
                80..88 => self.delete_tag(repo).await,
                88..96 => self.delete_manifest(repo).await,
                _ => self.delete_blob(repo).await,
            }
            self.look(repo).await;
            if fastrand::u8(..4) == 0 {
                self.look(fastrand::usize(..REPOSITORIES.len())).await;
            }
            self.look_for_the_deleted().await;
        }
        self
    }

    /// Runs a request, which dies or fails in its midst now and then.
    async fn request<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        if fastrand::u8(..6) > 0 {
            return Some(request.await);
        }
        let end = [End::Dies, End::Dies, End::FailsBefore, End::FailsAfter][fastrand::usize(..4)];
        short_lived(fastrand::u64(1..60), end, request).await
    }

    /// Everything below a manifest, and then the manifest under the own tag.
    async fn push(&mut self, repo: usize, made: Made) {
        let mut promises = Vec::new();
        let mut firsts = Vec::new();
        self.push_below(repo, &made, &mut Vec::new(), &mut promises, &mut firsts).await;
        self.put_tagged(repo, made, promises, &firsts).await;
    }

    /// Blobs and children, the innermost first, and what is promised of them if what they belong to is answered in time.
    async fn push_below(
        &self,
        repo: usize,
        made: &Made,
        through: &mut Vec<Digest>,
        promises: &mut Vec<Promise>,
        firsts: &mut Vec<Instant>,
    ) {
        through.push(made.digest());
        for blob in &made.blobs {
            self.push_blob(repo, *blob).await;
        }
        for child in &made.children {
            let mut below = Vec::new();
            Box::pin(self.push_below(repo, child, through, &mut below, firsts)).await;
            if let Put::Answered { since, began } = self.put(repo, child, &[]).await {
                firsts.push(began);
                promises.extend(below.into_iter().chain(of_manifest(child, through, since)));
            }
        }
        through.pop();
    }

    async fn push_blob(&self, repo: usize, blob: usize) {
        let name = repository(REPOSITORIES[repo]);
        let bytes = content(blob);
        let digest = digest_of(bytes.as_bytes());
        let _span = self.world.history.puts(vec![(REPOSITORIES[repo], digest.clone())]);
        if fastrand::bool() {
            let from = repository(REPOSITORIES[fastrand::usize(..REPOSITORIES.len())]);
            if matches!(self.request(self.world.store.mount_blob(&name, &digest, &from)).await, Some(Ok(true))) {
                return count(&self.world.tally.blobs);
            }
        }
        if let Some(Ok(())) = self.request(self.world.store.put_blob(&name, &digest, body(bytes.as_bytes()))).await {
            count(&self.world.tally.blobs);
        }
    }

    async fn put(&self, repo: usize, made: &Made, tags: &[&str]) -> Put {
        let things = made.all().into_iter().map(|digest| (REPOSITORIES[repo], digest)).collect();
        let began = Instant::now();
        let span = self.world.history.puts(things);
        let put = put(&self.world.store, REPOSITORIES[repo], made.kind, &made.bytes, tags);
        match self.request(put).await {
            Some(Ok(_)) => {
                count(&self.world.tally.manifests);
                Put::Answered { since: span.began, began }
            }
            Some(Err(PutManifestError::ChildUnknown(_))) => {
                count(&self.world.tally.refused);
                Put::Refused
            }
            _ => {
                count(&self.world.tally.not_answered);
                Put::Unknown
            }
        }
    }

    async fn put_tagged(&mut self, repo: usize, made: Made, mut promises: Vec<Promise>, firsts: &[Instant]) {
        let tags = [self.tag.as_str(), "latest"];
        match self.put(repo, &made, &tags[..fastrand::usize(1..3)]).await {
            Put::Answered { since, .. } => {
                // An index may lack what it names. What came less than the grace ago was there.
                if firsts.iter().any(|first| first.elapsed() >= GRACE) {
                    promises.clear();
                }
                promises.extend(of_manifest(&made, &[], since));
                self.tagged[repo] = Some(Tagged { made, since, promises });
            }
            Put::Refused => {}
            Put::Unknown => self.tagged[repo] = None,
        }
    }

    /// What the own tag names stays, and with it what refers to it.
    async fn push_referrer(&mut self, repo: usize) {
        let Some(subject) = self.tagged[repo].clone() else {
            return self.push(repo, Made::image(any())).await;
        };
        let n = fastrand::usize(..2);
        let made = Made::referrer_of(&subject.made, n);
        self.push_blob(repo, n).await;
        let Put::Answered { since, .. } = self.put(repo, &made, &[]).await else { return };
        let through = [subject.made.digest()];
        let Some(tagged) = &mut self.tagged[repo] else { return };
        tagged.promises.extend(of_manifest(&made, &through, since));
        let listed = Promised::Listed(subject.made.digest(), made.digest());
        tagged.promises.push(Promise { what: listed, through: vec![subject.made.digest(), made.digest()], since });
    }

    /// The same manifest once more, or what refers to it.
    async fn push_again(&mut self, repo: usize) {
        let Some(Tagged { made, promises, .. }) = self.tagged[repo].clone() else {
            return self.push(repo, Made::index(any())).await;
        };
        count(&self.world.tally.pushed_again);
        let again = match fastrand::usize(..4) {
            0 => return self.put_tagged(repo, made, promises, &[]).await,
            1 => made,
            n => Made::referrer_of(&made, n - 2),
        };
        self.put(repo, &again, &[]).await;
    }

    async fn delete_tag(&mut self, repo: usize) {
        count(&self.world.tally.deletions);
        let name = repository(REPOSITORIES[repo]);
        self.tagged[repo] = None;
        let own = tag(&self.tag);
        if let Some(Ok(_)) = self.request(self.world.store.delete_tag(&name, &own)).await {
            assert_eq!(by_tag(&self.world.store, REPOSITORIES[repo], &self.tag).await, None, "a deleted tag");
        }
    }

    async fn delete_manifest(&mut self, repo: usize) {
        count(&self.world.tally.deletions);
        let made = match (fastrand::u8(..4), &self.tagged[repo]) {
            (0, _) => Made::index(any()),
            (1, Some(Tagged { made, .. })) => Made::referrer_of(made, fastrand::usize(..2)),
            _ => Made::image(any()),
        };
        let thing = (REPOSITORIES[repo], made.digest());
        let span = self.world.history.deletes(&thing);
        let name = repository(REPOSITORIES[repo]);
        let deletion = self.request(self.world.store.delete_manifest(&name, &thing.1)).await;
        if let Some(Ok(_)) = deletion {
            self.gone.push_back((thing.clone(), span.began));
        }
    }

    async fn delete_blob(&mut self, repo: usize) {
        count(&self.world.tally.deletions);
        let thing = (REPOSITORIES[repo], digest_of(content(any()).as_bytes()));
        let span = self.world.history.deletes(&thing);
        let name = repository(REPOSITORIES[repo]);
        let deletion = self.request(self.world.store.delete_blob(&name, &thing.1)).await;
        if let Some(Ok(_)) = deletion {
            self.gone.push_back((thing.clone(), span.began));
        }
    }

    /// Deleted stays deleted (I5), unless somebody puts it.
    pub(super) async fn look_for_the_deleted(&mut self) {
        self.gone.drain(..self.gone.len().saturating_sub(16));
        for (thing, since) in &self.gone {
            let is_there = self.is_there(thing).await;
            if self.world.history.was_put(thing, *since) {
                continue;
            }
            assert!(!is_there, "{thing:?} was deleted and is there");
            count(&self.world.tally.seen_gone);
        }
    }

    async fn is_there(&self, (name, digest): &Thing) -> bool {
        let (manifest, blob) =
            tokio::join!(by_digest(&self.world.store, name, digest), read_blob(&self.world.store, name, digest));
        manifest.is_some() || blob.is_some()
    }

    /// What the own tag names is there with everything that was promised with it (I1, I2, I4).
    pub(super) async fn look(&mut self, repo: usize) {
        let Some(tagged) = self.tagged[repo].clone() else { return };
        let digest = tagged.made.digest();
        let named = by_tag(&self.world.store, REPOSITORIES[repo], &self.tag).await;
        if self.world.history.was_deleted(&(REPOSITORIES[repo], digest.clone()), tagged.since) {
            // The tag went with it.
            assert!(named.is_none_or(|named| named == digest), "the tag {} names another one", self.tag);
            self.tagged[repo] = None;
            return count(&self.world.tally.excused);
        }
        assert_eq!(named, Some(digest), "the tag {} of {}", self.tag, REPOSITORIES[repo]);
        for promise in &tagged.promises {
            let is_kept = self.is_kept(repo, &promise.what).await;
            let thing = |digest: &Digest| (REPOSITORIES[repo], digest.clone());
            if promise.through.iter().any(|digest| self.world.history.was_deleted(&thing(digest), promise.since)) {
                count(&self.world.tally.excused);
                continue;
            }
            assert!(is_kept, "{}: {} names {tagged:#?}, lost is {promise:#?}", REPOSITORIES[repo], self.tag);
            count(&self.world.tally.looks);
        }
    }

    async fn is_kept(&self, repo: usize, what: &Promised) -> bool {
        let (store, name) = (&self.world.store, REPOSITORIES[repo]);
        match what {
            Promised::Blob(blob) => {
                let bytes = content(*blob);
                read_blob(store, name, &digest_of(bytes.as_bytes())).await.is_some_and(|read| read == bytes.as_bytes())
            }
            Promised::Manifest(bytes) => by_digest(store, name, &digest_of(bytes)).await.as_ref() == Some(bytes),
            Promised::Listed(subject, referrer) => {
                let name = repository(name);
                let mut referrers = store.referrers(&name, subject, None, None).await.unwrap();
                while let Some(listed) = referrers.next().await.unwrap() {
                    if listed.digest == *referrer {
                        return true;
                    }
                }
                false
            }
        }
    }
}

/// What an answered manifest promises: itself and its blobs. `through` leads to it from what is tagged.
fn of_manifest(made: &Made, through: &[Digest], since: Moment) -> Vec<Promise> {
    let own = [through, &[made.digest()]].concat();
    let blob = |blob: &usize| Promise {
        what: Promised::Blob(*blob),
        through: [own.as_slice(), &[digest_of(content(*blob).as_bytes())]].concat(),
        since,
    };
    let itself = Promise { what: Promised::Manifest(made.bytes.clone()), through: own.clone(), since };
    made.blobs.iter().map(blob).chain([itself]).collect()
}
