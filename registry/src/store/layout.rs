//! The key tree, in both directions: what is stored under which name, and what a name says.
//!
//! ```text
//! d/<xx>/<ulid>                                        blob bytes
//! i/<digest>/<repo~>/<linkulid>                        hint that a repository links a digest; never trusted alone
//! r/<repo~>/_b/<digest>/<linkulid>.<dataulid>.<size>   link: membership of a blob in a repository (empty)
//! r/<repo~>/_m/<digest>/<ulid>.<kind>                  record: the bytes of a manifest
//! r/<repo~>/_p/<digest>/<ulid>.<kind>                  intent: a manifest that a request is about to record (its bytes)
//! r/<repo~>/_r/<subject>/<digest>.<ulid>               referrer entry of the record with this ULID: its descriptor
//! r/<repo~>/_x/<digest>/<tag>.<ulid>                   back-reference: a tag that was pointed at that record (empty)
//! r/<repo~>/_t/<tag>                                   tag: the only key that is overwritten
//! u/<upload>/<start>.<attempt>.<before>                segment of an upload
//! u/<upload>/cancelled, u/<upload>/finished.<digest>   how an upload ended (empty)
//! g/dead/<batch>                                       batch of the collector: keys that nothing may rely on any more
//! g/runs/<run>, g/runs/<run>.result                    when a collection began (empty), and what came of it
//! ```
//! `<repo~>` is the repository's name with `/` written `~`, a byte outside the grammar of names, so that one repository is
//! one directory and no name can be a prefix of another's path. `<xx>` is the ULID's last byte. Numbers are decimal, but
//! offsets in segments are 16 hexadecimal digits, so that they sort.
//!
//! Every name but a tag's holds a fresh ULID (<https://github.com/ulid/spec>): a deletion names exactly what it deletes and
//! can never hit what was written after it.

use std::fmt;
use std::str::FromStr;

use berth_oci::{Digest, RepositoryName, Tag};
use ulid::Ulid;

mod names;

pub(crate) use names::{BackReferenceName, LinkName, RecordName, ReferrerName, SegmentName, UploadEntry};

/// The name of one stored thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Data(Ulid),
    Hint { digest: Digest, repository: RepositoryName, link: Ulid },
    Link { repository: RepositoryName, digest: Digest, name: LinkName },
    Record { repository: RepositoryName, digest: Digest, name: RecordName },
    Intent { repository: RepositoryName, digest: Digest, name: RecordName },
    Referrer { repository: RepositoryName, subject: Digest, name: ReferrerName },
    BackReference { repository: RepositoryName, digest: Digest, name: BackReferenceName },
    Tag { repository: RepositoryName, tag: Tag },
    Segment { upload: Ulid, name: SegmentName },
    Cancelled { upload: Ulid },
    Finished { upload: Ulid, digest: Digest },
    DeadBatch(Ulid),
    Run(Ulid),
    RunResult(Ulid),
}

/// What some keys have in common: listing a prefix gives the next part of each name below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Prefix {
    /// `d/`: shards.
    DataShards,
    /// `d/<xx>/`: ULIDs.
    DataShard(u8),
    /// `i/`: digests.
    HintedDigests,
    /// `i/<digest>/`: encoded repository names.
    Hints(Digest),
    /// `r/`: encoded repository names.
    Repositories,
    /// `r/<repo~>/_b/`: digests.
    LinkedDigests(RepositoryName),
    /// `r/<repo~>/_b/<digest>/`: [`LinkName`]s.
    Links(RepositoryName, Digest),
    /// `r/<repo~>/_m/`: digests.
    RecordedDigests(RepositoryName),
    /// `r/<repo~>/_m/<digest>/`: [`RecordName`]s.
    Records(RepositoryName, Digest),
    /// `r/<repo~>/_p/`: digests.
    IntendedDigests(RepositoryName),
    /// `r/<repo~>/_p/<digest>/`: [`RecordName`]s.
    Intents(RepositoryName, Digest),
    /// `r/<repo~>/_r/`: digests.
    Subjects(RepositoryName),
    /// `r/<repo~>/_r/<subject>/`: [`ReferrerName`]s.
    Referrers(RepositoryName, Digest),
    /// `r/<repo~>/_x/`: digests.
    BackReferencedDigests(RepositoryName),
    /// `r/<repo~>/_x/<digest>/`: [`BackReferenceName`]s.
    BackReferences(RepositoryName, Digest),
    /// `r/<repo~>/_t/`: tags.
    Tags(RepositoryName),
    /// `u/`: upload ULIDs.
    Uploads,
    /// `u/<upload>/`: [`UploadEntry`]s.
    Upload(Ulid),
    /// `g/dead/`: ULIDs.
    DeadBatches,
    /// `g/runs/`: ULIDs of runs, and results.
    Runs,
}

/// The name is not one that this layout gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a name of this layout")]
pub(crate) struct UnknownName;

impl Key {
    /// The ULID that makes the key unique and tells when it was made; a tag has none.
    pub(crate) const fn ulid(&self) -> Option<Ulid> {
        match self {
            Self::Run(ulid)
            | Self::RunResult(ulid)
            | Self::Data(ulid)
            | Self::DeadBatch(ulid)
            | Self::Hint { link: ulid, .. } => Some(*ulid),
            Self::Link { name, .. } => Some(name.link),
            Self::Record { name, .. } | Self::Intent { name, .. } => Some(name.record),
            Self::Referrer { name, .. } => Some(name.record),
            Self::BackReference { name, .. } => Some(name.record),
            Self::Segment { name, .. } => Some(name.attempt),
            Self::Cancelled { upload } | Self::Finished { upload, .. } => Some(*upload),
            Self::Tag { .. } => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => write!(f, "{}/{data}", Prefix::DataShard(shard(*data))),
            Self::Hint { digest, repository, link } => write!(f, "i/{digest}/{}/{link}", Encoded(repository)),
            Self::Link { repository, digest, name } => write!(f, "r/{}/_b/{digest}/{name}", Encoded(repository)),
            Self::Record { repository, digest, name } => write!(f, "r/{}/_m/{digest}/{name}", Encoded(repository)),
            Self::Intent { repository, digest, name } => write!(f, "r/{}/_p/{digest}/{name}", Encoded(repository)),
            Self::Referrer { repository, subject, name } => write!(f, "r/{}/_r/{subject}/{name}", Encoded(repository)),
            Self::BackReference { repository, digest, name } => {
                write!(f, "r/{}/_x/{digest}/{name}", Encoded(repository))
            }
            Self::Tag { repository, tag } => write!(f, "r/{}/_t/{tag}", Encoded(repository)),
            Self::Segment { upload, name } => write!(f, "u/{upload}/{name}"),
            Self::Cancelled { upload } => write!(f, "u/{upload}/{}", UploadEntry::Cancelled),
            Self::Finished { upload, digest } => write!(f, "u/{upload}/{}", UploadEntry::Finished(digest.clone())),
            Self::DeadBatch(batch) => write!(f, "g/dead/{batch}"),
            Self::Run(run) => write!(f, "g/runs/{run}"),
            Self::RunResult(run) => write!(f, "g/runs/{run}{RESULT}"),
        }
    }
}

/// How the name of what came of a run ends.
const RESULT: &str = ".result";

impl FromStr for Key {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = text.split('/').collect();
        let key = match parts.as_slice() {
            ["d", _, data] => Self::Data(parse(data)?),
            ["i", digest, repository, link] => {
                Self::Hint { digest: parse(digest)?, repository: decode(repository)?, link: parse(link)? }
            }
            ["r", repository, "_b", digest, name] => {
                Self::Link { repository: decode(repository)?, digest: parse(digest)?, name: name.parse()? }
            }
            ["r", repository, "_m", digest, name] => {
                Self::Record { repository: decode(repository)?, digest: parse(digest)?, name: name.parse()? }
            }
            ["r", repository, "_p", digest, name] => {
                Self::Intent { repository: decode(repository)?, digest: parse(digest)?, name: name.parse()? }
            }
            ["r", repository, "_r", subject, name] => {
                Self::Referrer { repository: decode(repository)?, subject: parse(subject)?, name: name.parse()? }
            }
            ["r", repository, "_x", digest, name] => {
                Self::BackReference { repository: decode(repository)?, digest: parse(digest)?, name: name.parse()? }
            }
            ["r", repository, "_t", tag] => Self::Tag { repository: decode(repository)?, tag: parse(tag)? },
            ["u", upload, entry] => match entry.parse()? {
                UploadEntry::Segment(name) => Self::Segment { upload: parse(upload)?, name },
                UploadEntry::Cancelled => Self::Cancelled { upload: parse(upload)? },
                UploadEntry::Finished(digest) => Self::Finished { upload: parse(upload)?, digest },
            },
            ["g", "dead", batch] => Self::DeadBatch(parse(batch)?),
            ["g", "runs", name] => match name.strip_suffix(RESULT) {
                Some(run) => Self::RunResult(parse(run)?),
                None => Self::Run(parse(name)?),
            },
            _ => return Err(UnknownName),
        };
        // One thing has one name: a shard that is not the ULID's, or digits in another form, are not ours.
        if key.to_string() == text { Ok(key) } else { Err(UnknownName) }
    }
}

impl fmt::Display for Prefix {
    /// Without the slash at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DataShards => f.write_str("d"),
            Self::DataShard(shard) => write!(f, "d/{shard:02x}"),
            Self::HintedDigests => f.write_str("i"),
            Self::Hints(digest) => write!(f, "i/{digest}"),
            Self::Repositories => f.write_str("r"),
            Self::LinkedDigests(repository) => write!(f, "r/{}/_b", Encoded(repository)),
            Self::Links(repository, digest) => write!(f, "r/{}/_b/{digest}", Encoded(repository)),
            Self::RecordedDigests(repository) => write!(f, "r/{}/_m", Encoded(repository)),
            Self::Records(repository, digest) => write!(f, "r/{}/_m/{digest}", Encoded(repository)),
            Self::IntendedDigests(repository) => write!(f, "r/{}/_p", Encoded(repository)),
            Self::Intents(repository, digest) => write!(f, "r/{}/_p/{digest}", Encoded(repository)),
            Self::Subjects(repository) => write!(f, "r/{}/_r", Encoded(repository)),
            Self::BackReferencedDigests(repository) => write!(f, "r/{}/_x", Encoded(repository)),
            Self::Referrers(repository, subject) => write!(f, "r/{}/_r/{subject}", Encoded(repository)),
            Self::BackReferences(repository, digest) => write!(f, "r/{}/_x/{digest}", Encoded(repository)),
            Self::Tags(repository) => write!(f, "r/{}/_t", Encoded(repository)),
            Self::Uploads => f.write_str("u"),
            Self::Upload(upload) => write!(f, "u/{upload}"),
            Self::DeadBatches => f.write_str("g/dead"),
            Self::Runs => f.write_str("g/runs"),
        }
    }
}

/// Which of the 256 directories holds some data: the ULID's last byte, which is random, so they fill evenly.
const fn shard(data: Ulid) -> u8 {
    let [.., last] = data.to_bytes();
    last
}

/// A repository's name as one part of a path.
struct Encoded<'a>(&'a RepositoryName);

impl fmt::Display for Encoded<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(self.0.as_ref()))
    }
}

/// The part of a path that stands for a repository, or for the beginning of a listing after `name`.
pub(crate) fn encode(name: &str) -> String {
    name.replace('/', "~")
}

/// The repository that a part of a path stands for.
pub(crate) fn decode(part: &str) -> Result<RepositoryName, UnknownName> {
    if part.contains('/') { Err(UnknownName) } else { parse(&part.replace('~', "/")) }
}

fn parse<T: FromStr>(text: &str) -> Result<T, UnknownName> {
    text.parse().map_err(|_| UnknownName)
}

#[cfg(test)]
mod tests {
    use berth_oci::{Algorithm, ManifestKind};
    use proptest::prelude::*;

    use super::*;

    fn ulid() -> impl Strategy<Value = Ulid> {
        any::<u128>().prop_map(Ulid)
    }

    fn digest() -> impl Strategy<Value = Digest> {
        (any::<[u8; 4]>(), any::<bool>())
            .prop_map(|(bytes, long)| Digest::of(if long { Algorithm::Sha512 } else { Algorithm::Sha256 }, &bytes))
    }

    fn repository() -> impl Strategy<Value = RepositoryName> {
        "[a-z0-9]{1,3}([._-][a-z0-9]{1,2}){0,2}(/[a-z0-9]{1,3}){0,3}".prop_map(|name| name.parse().unwrap())
    }

    fn tag() -> impl Strategy<Value = Tag> {
        "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}".prop_map(|tag| tag.parse().unwrap())
    }

    fn record() -> impl Strategy<Value = RecordName> {
        (ulid(), 0..4usize).prop_map(|(record, kind)| RecordName { record, kind: ManifestKind::ALL[kind] })
    }

    fn key() -> impl Strategy<Value = Key> {
        let link = (ulid(), ulid(), any::<u64>()).prop_map(|(link, data, size)| LinkName { link, data, size });
        let segment =
            (any::<u64>(), ulid(), ulid()).prop_map(|(start, attempt, before)| SegmentName { start, attempt, before });
        prop_oneof![
            ulid().prop_map(Key::Data),
            (digest(), repository(), ulid()).prop_map(|(digest, repository, link)| Key::Hint {
                digest,
                repository,
                link
            }),
            (repository(), digest(), link).prop_map(|(repository, digest, name)| Key::Link {
                repository,
                digest,
                name
            }),
            (repository(), digest(), record()).prop_map(|(repository, digest, name)| Key::Record {
                repository,
                digest,
                name
            }),
            (repository(), digest(), record()).prop_map(|(repository, digest, name)| Key::Intent {
                repository,
                digest,
                name
            }),
            (repository(), digest(), digest(), ulid()).prop_map(|(repository, subject, digest, record)| {
                Key::Referrer { repository, subject, name: ReferrerName { digest, record } }
            }),
            (repository(), digest(), tag(), ulid()).prop_map(|(repository, digest, tag, record)| {
                Key::BackReference { repository, digest, name: BackReferenceName { tag, record } }
            }),
            (repository(), tag()).prop_map(|(repository, tag)| Key::Tag { repository, tag }),
            (ulid(), segment).prop_map(|(upload, name)| Key::Segment { upload, name }),
            ulid().prop_map(|upload| Key::Cancelled { upload }),
            (ulid(), digest()).prop_map(|(upload, digest)| Key::Finished { upload, digest }),
            ulid().prop_map(Key::DeadBatch),
            ulid().prop_map(Key::Run),
            ulid().prop_map(Key::RunResult),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_read_back_from_its_path(key in key()) {
            prop_assert_eq!(key.to_string().parse(), Ok(key));
        }

        #[test]
        fn no_part_of_a_path_is_longer_than_a_directory_entry_may_be(key in key()) {
            prop_assert!(key.to_string().split('/').all(|part| !part.is_empty() && part.len() <= 255));
        }

        #[test]
        fn a_repository_is_read_back_from_its_part(name in repository()) {
            prop_assert_eq!(decode(&encode(name.as_ref())), Ok(name));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text: String) {
            let _ = text.parse::<Key>();
        }
    }

    #[test]
    fn the_longest_names_fit_a_directory_entry() {
        let repository: RepositoryName = "a".repeat(255).parse().unwrap();
        assert_eq!(encode(repository.as_ref()).len(), 255);
        let tag: Tag = "a".repeat(128).parse().unwrap();
        assert!(BackReferenceName { tag, record: Ulid::max() }.to_string().len() <= 255);
        let digest = Digest::of(Algorithm::Sha512, b"");
        assert!(ReferrerName { digest, record: Ulid::max() }.to_string().len() <= 255);
    }

    #[test]
    fn a_name_in_another_form_is_not_ours() {
        let data = Ulid(7);
        assert_eq!(Key::Data(data).to_string(), format!("d/07/{data}"));
        assert_eq!(format!("d/08/{data}").parse::<Key>(), Err(UnknownName));
        assert_eq!(format!("d/07/{data}/x").parse::<Key>(), Err(UnknownName));
        assert_eq!(format!("u/{data}/0.{data}.{data}").parse::<Key>(), Err(UnknownName));
        let lower = data.to_string().to_lowercase();
        assert_eq!(format!("d/07/{lower}").parse::<Key>().is_ok(), lower == data.to_string());
    }
}
