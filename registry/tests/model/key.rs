//! The key tree, small enough to search: every key the protocol reads or writes, named exactly.

use std::fmt;

/// A repository: 0 is A, 1 is B.
pub(crate) type Repo = u8;
/// A digest: an index into [`Content`](crate::rules::Content).
pub(crate) type Digest = u8;
/// A tag: 0 is t, 1 is u.
pub(crate) type Tag = u8;
/// A ULID. What was there at the start is below 10; actor n makes 10(n+1), 10(n+1)+1 and so on.
pub(crate) type Ulid = u8;

/// A key that is written once. The order is the order in which a collector deletes: what refers before what is referred to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Key {
    /// `r/<repo>/_m/<digest>/<ulid>`: a manifest that GET by digest finds.
    Record(Repo, Digest, Ulid),
    /// `r/<repo>/_p/<digest>/<ulid>`: a manifest being put. Only collectors read it.
    Intent(Repo, Digest, Ulid),
    /// `r/<repo>/_r/<subject>/<digest>.<ulid>`; the ULID is the record's.
    Referrer(Repo, Digest, Digest, Ulid),
    /// `r/<repo>/_x/<digest>/<tag>.<ulid>`; the ULID is the record's.
    BackReference(Repo, Digest, Tag, Ulid),
    /// `r/<repo>/_b/<digest>/<link ulid>.<data ulid>`.
    Link(Repo, Digest, Ulid, Ulid),
    /// `d/<xx>/<ulid>`.
    Data(Ulid),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let repo = |repo: Repo| char::from(b'A' + repo);
        match *self {
            Self::Record(r, digest, ulid) => write!(f, "{}/_m/{digest}/{ulid}", repo(r)),
            Self::Intent(r, digest, ulid) => write!(f, "{}/_p/{digest}/{ulid}", repo(r)),
            Self::Referrer(r, subject, digest, ulid) => write!(f, "{}/_r/{subject}/{digest}.{ulid}", repo(r)),
            Self::BackReference(r, digest, tag, ulid) => write!(f, "{}/_x/{digest}/{tag}.{ulid}", repo(r)),
            Self::Link(r, digest, ulid, data) => write!(f, "{}/_b/{digest}/{ulid}.{data}", repo(r)),
            Self::Data(ulid) => write!(f, "d/{ulid}"),
        }
    }
}
