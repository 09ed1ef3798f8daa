//! What a request asks for: pure, and from nothing but its method and its path.
//!
//! A path is read from the right, because a repository name may itself contain `manifests`, `blobs`, `uploads`, `tags` and
//! `referrers`: in `/v2/x/manifests/y/manifests/latest` the repository is `x/manifests/y`. distribution-spec `spec.md`,
//! Endpoints, and the habits of Docker's clients (`_catalog`, `/`).

use berth_oci::{Digest, InvalidDigest, InvalidReference, InvalidRepositoryName, Reference, RepositoryName};
use http::Method;

use crate::access::Action;

/// A request's method and path, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `GET /`: is anyone there? Load balancers and probes written for `registry:2` ask.
    Root,
    /// `GET /v2/`: is this a registry, and may I come in?
    Ping,
    /// `GET /v2/_catalog`
    Catalog,
    /// `GET /v2/<name>/tags/list`
    Tags(RepositoryName),
    /// `GET /v2/<name>/referrers/<digest>`
    Referrers(RepositoryName, Digest),
    /// `GET` and `HEAD /v2/<name>/manifests/<reference>`
    PullManifest(RepositoryName, Reference),
    /// `PUT /v2/<name>/manifests/<reference>`
    PushManifest(RepositoryName, Reference),
    /// `DELETE /v2/<name>/manifests/<reference>`
    DeleteManifest(RepositoryName, Reference),
    /// `GET` and `HEAD /v2/<name>/blobs/<digest>`
    PullBlob(RepositoryName, Digest),
    /// `DELETE /v2/<name>/blobs/<digest>`
    DeleteBlob(RepositoryName, Digest),
    /// `POST /v2/<name>/blobs/uploads/`
    StartUpload(RepositoryName),
    /// `GET /v2/<name>/blobs/uploads/<token>`
    UploadStatus(RepositoryName, String),
    /// `PATCH /v2/<name>/blobs/uploads/<token>`
    UploadChunk(RepositoryName, String),
    /// `PUT /v2/<name>/blobs/uploads/<token>`
    FinishUpload(RepositoryName, String),
    /// `DELETE /v2/<name>/blobs/uploads/<token>`
    CancelUpload(RepositoryName, String),
}

/// Why a method and a path are no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// The path is nobody's.
    #[error("there is nothing at this path")]
    Path,
    /// The path is somebody's, but not for this method.
    #[error("this path answers to {0} only")]
    Method(&'static str),
    /// The repository name breaks its grammar.
    #[error(transparent)]
    Name(#[from] InvalidRepositoryName),
    /// The digest breaks its grammar.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// The tag, or the digest in its place, breaks its grammar.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
}

/// Declares [`Operation`] with the list of all of its values, so that no table over them can forget one.
macro_rules! operations {
    ($($(#[$doc:meta])* $operation:ident = $name:literal,)*) => {
        /// An [`Endpoint`] without its arguments.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Operation {
            $($(#[$doc])* $operation,)*
        }

        impl Operation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$operation,)*];

            /// How logs and metrics call it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$operation => $name,)*
                }
            }
        }
    };
}

operations! {
    /// [`Endpoint::Root`]
    Root = "root",
    /// [`Endpoint::Ping`]
    Ping = "ping",
    /// [`Endpoint::Catalog`]
    Catalog = "catalog",
    /// [`Endpoint::Tags`]
    Tags = "tags",
    /// [`Endpoint::Referrers`]
    Referrers = "referrers",
    /// [`Endpoint::PullManifest`]
    PullManifest = "pull_manifest",
    /// [`Endpoint::PushManifest`]
    PushManifest = "push_manifest",
    /// [`Endpoint::DeleteManifest`]
    DeleteManifest = "delete_manifest",
    /// [`Endpoint::PullBlob`]
    PullBlob = "pull_blob",
    /// [`Endpoint::DeleteBlob`]
    DeleteBlob = "delete_blob",
    /// [`Endpoint::StartUpload`]
    StartUpload = "start_upload",
    /// [`Endpoint::UploadStatus`]
    UploadStatus = "upload_status",
    /// [`Endpoint::UploadChunk`]
    UploadChunk = "upload_chunk",
    /// [`Endpoint::FinishUpload`]
    FinishUpload = "finish_upload",
    /// [`Endpoint::CancelUpload`]
    CancelUpload = "cancel_upload",
}

impl Operation {
    /// The right it takes; `None` for what everyone may ask.
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Root => None,
            Self::Ping | Self::Catalog | Self::Tags | Self::Referrers | Self::PullManifest | Self::PullBlob => {
                Some(Action::Pull)
            }
            // The status of an upload and its end belong to whoever may make one.
            Self::PushManifest
            | Self::StartUpload
            | Self::UploadStatus
            | Self::UploadChunk
            | Self::FinishUpload
            | Self::CancelUpload => Some(Action::Push),
            Self::DeleteManifest | Self::DeleteBlob => Some(Action::Delete),
        }
    }

    /// Whether it changes what is stored.
    pub const fn mutates(self) -> bool {
        match self {
            Self::Root
            | Self::Ping
            | Self::Catalog
            | Self::Tags
            | Self::Referrers
            | Self::PullManifest
            | Self::PullBlob
            | Self::UploadStatus => false,
            Self::PushManifest
            | Self::DeleteManifest
            | Self::DeleteBlob
            | Self::StartUpload
            | Self::UploadChunk
            | Self::FinishUpload
            | Self::CancelUpload => true,
        }
    }
}

impl Endpoint {
    /// Understands a request line.
    ///
    /// # Errors
    /// When nothing answers to it, or when a name in it breaks its grammar. Names are never decoded or corrected: a `%2F`
    /// is not part of any repository's name.
    pub fn parse(method: &Method, path: &str) -> Result<Self, NoEndpoint> {
        let rest = match path {
            "/" => return reads(method, Self::Root),
            "/v2" => "",
            _ => path.strip_prefix("/v2/").ok_or(NoEndpoint::Path)?,
        };
        match rest {
            "" => return reads(method, Self::Ping),
            "_catalog" => return reads(method, Self::Catalog),
            _ => {}
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return reads(method, Self::Tags(name.parse()?));
        }
        let (head, last) = rest.rsplit_once('/').ok_or(NoEndpoint::Path)?;
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return if last.is_empty() { start_upload(method, name) } else { upload(method, name, last) };
        }
        if let Some(name) = head.strip_suffix("/manifests") {
            return manifest(method, name, last);
        }
        if let Some(name) = head.strip_suffix("/blobs") {
            return if last == "uploads" { start_upload(method, name) } else { blob(method, name, last) };
        }
        if let Some(name) = head.strip_suffix("/referrers") {
            return reads(method, Self::Referrers(name.parse()?, with_colon(last).parse()?));
        }
        Err(NoEndpoint::Path)
    }

    /// The same without its arguments.
    pub const fn operation(&self) -> Operation {
        match self {
            Self::Root => Operation::Root,
            Self::Ping => Operation::Ping,
            Self::Catalog => Operation::Catalog,
            Self::Tags(_) => Operation::Tags,
            Self::Referrers(..) => Operation::Referrers,
            Self::PullManifest(..) => Operation::PullManifest,
            Self::PushManifest(..) => Operation::PushManifest,
            Self::DeleteManifest(..) => Operation::DeleteManifest,
            Self::PullBlob(..) => Operation::PullBlob,
            Self::DeleteBlob(..) => Operation::DeleteBlob,
            Self::StartUpload(_) => Operation::StartUpload,
            Self::UploadStatus(..) => Operation::UploadStatus,
            Self::UploadChunk(..) => Operation::UploadChunk,
            Self::FinishUpload(..) => Operation::FinishUpload,
            Self::CancelUpload(..) => Operation::CancelUpload,
        }
    }

    /// The repository it is about, if it is about one.
    pub const fn repository(&self) -> Option<&RepositoryName> {
        match self {
            Self::Root | Self::Ping | Self::Catalog => None,
            Self::Tags(repository)
            | Self::Referrers(repository, _)
            | Self::PullManifest(repository, _)
            | Self::PushManifest(repository, _)
            | Self::DeleteManifest(repository, _)
            | Self::PullBlob(repository, _)
            | Self::DeleteBlob(repository, _)
            | Self::StartUpload(repository)
            | Self::UploadStatus(repository, _)
            | Self::UploadChunk(repository, _)
            | Self::FinishUpload(repository, _)
            | Self::CancelUpload(repository, _) => Some(repository),
        }
    }
}

fn reads(method: &Method, endpoint: Endpoint) -> Result<Endpoint, NoEndpoint> {
    match *method {
        Method::GET | Method::HEAD => Ok(endpoint),
        _ => Err(NoEndpoint::Method("GET, HEAD")),
    }
}

fn start_upload(method: &Method, name: &str) -> Result<Endpoint, NoEndpoint> {
    match *method {
        Method::POST => Ok(Endpoint::StartUpload(name.parse()?)),
        _ => Err(NoEndpoint::Method("POST")),
    }
}

fn upload(method: &Method, name: &str, token: &str) -> Result<Endpoint, NoEndpoint> {
    let (name, token) = (name.parse(), token.to_owned());
    match *method {
        Method::GET => Ok(Endpoint::UploadStatus(name?, token)),
        Method::PATCH => Ok(Endpoint::UploadChunk(name?, token)),
        Method::PUT => Ok(Endpoint::FinishUpload(name?, token)),
        Method::DELETE => Ok(Endpoint::CancelUpload(name?, token)),
        _ => Err(NoEndpoint::Method("GET, PATCH, PUT, DELETE")),
    }
}

fn manifest(method: &Method, name: &str, reference: &str) -> Result<Endpoint, NoEndpoint> {
    let (name, reference) = (name.parse()?, with_colon(reference).parse()?);
    match *method {
        Method::GET | Method::HEAD => Ok(Endpoint::PullManifest(name, reference)),
        Method::PUT => Ok(Endpoint::PushManifest(name, reference)),
        Method::DELETE => Ok(Endpoint::DeleteManifest(name, reference)),
        _ => Err(NoEndpoint::Method("GET, HEAD, PUT, DELETE")),
    }
}

fn blob(method: &Method, name: &str, digest: &str) -> Result<Endpoint, NoEndpoint> {
    let (name, digest) = (name.parse()?, with_colon(digest).parse()?);
    match *method {
        Method::GET | Method::HEAD => Ok(Endpoint::PullBlob(name, digest)),
        Method::DELETE => Ok(Endpoint::DeleteBlob(name, digest)),
        _ => Err(NoEndpoint::Method("GET, HEAD, DELETE")),
    }
}

/// Some clients escape the colon of a digest, as RFC 3986 lets them. Nothing else in a path ever needs escaping.
fn with_colon(segment: &str) -> String {
    segment.replacen("%3A", ":", 1).replacen("%3a", ":", 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn get(path: &str) -> Result<Endpoint, NoEndpoint> {
        Endpoint::parse(&Method::GET, path)
    }

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn every_path_of_the_specification_is_understood() {
        let digest: Digest = DIGEST.parse().unwrap();
        let tag: Reference = "latest".parse().unwrap();
        let by_digest = Reference::Digest(digest.clone());
        let upload = "/v2/a/b/blobs/uploads/xyz";
        for (method, path, endpoint) in [
            ("GET", "/".to_owned(), Endpoint::Root),
            ("GET", "/v2".to_owned(), Endpoint::Ping),
            ("HEAD", "/v2/".to_owned(), Endpoint::Ping),
            ("GET", "/v2/_catalog".to_owned(), Endpoint::Catalog),
            ("GET", "/v2/a/b/tags/list".to_owned(), Endpoint::Tags(name("a/b"))),
            ("GET", format!("/v2/a/referrers/{DIGEST}"), Endpoint::Referrers(name("a"), digest.clone())),
            ("HEAD", "/v2/a/manifests/latest".to_owned(), Endpoint::PullManifest(name("a"), tag.clone())),
            ("PUT", "/v2/a/manifests/latest".to_owned(), Endpoint::PushManifest(name("a"), tag.clone())),
            ("DELETE", format!("/v2/a/manifests/{DIGEST}"), Endpoint::DeleteManifest(name("a"), by_digest)),
            ("GET", format!("/v2/a/blobs/{DIGEST}"), Endpoint::PullBlob(name("a"), digest.clone())),
            (
                "GET",
                format!("/v2/a/blobs/{}", DIGEST.replace(':', "%3A")),
                Endpoint::PullBlob(name("a"), digest.clone()),
            ),
            ("DELETE", format!("/v2/a/blobs/{DIGEST}"), Endpoint::DeleteBlob(name("a"), digest)),
            ("POST", "/v2/a/blobs/uploads/".to_owned(), Endpoint::StartUpload(name("a"))),
            ("POST", "/v2/a/blobs/uploads".to_owned(), Endpoint::StartUpload(name("a"))),
            ("GET", upload.to_owned(), Endpoint::UploadStatus(name("a/b"), "xyz".into())),
            ("PATCH", upload.to_owned(), Endpoint::UploadChunk(name("a/b"), "xyz".into())),
            ("PUT", upload.to_owned(), Endpoint::FinishUpload(name("a/b"), "xyz".into())),
            ("DELETE", upload.to_owned(), Endpoint::CancelUpload(name("a/b"), "xyz".into())),
        ] {
            assert_eq!(Endpoint::parse(&method.parse().unwrap(), &path), Ok(endpoint), "{method} {path}");
        }
    }

    #[test]
    fn a_name_that_breaks_the_grammar_is_refused_as_it_was_sent() {
        for bad in [
            "..", ".", "a/../b", "%2e%2e", "a%2Fb", "%252e", "a%00", "a\\b", "%c0%ae", "a//b", "/a", "A", "-a", "_a",
            ".a", "a..b", "a___b", "a/",
        ] {
            for tail in ["tags/list".to_owned(), "manifests/latest".to_owned(), format!("blobs/{DIGEST}")] {
                let path = format!("/v2/{bad}/{tail}");
                assert_eq!(get(&path), Err(NoEndpoint::Name(InvalidRepositoryName::Component)), "{path}");
            }
        }
        assert_eq!(get("/v2//tags/list"), Err(NoEndpoint::Name(InvalidRepositoryName::Component)));
        let long = format!("/v2/{}/tags/list", "a".repeat(256));
        assert_eq!(get(&long), Err(NoEndpoint::Name(InvalidRepositoryName::TooLong)));
    }

    #[test]
    fn a_malformed_digest_is_never_taken_for_a_tag() {
        assert!(matches!(get("/v2/a/manifests/sha256:bad"), Err(NoEndpoint::Reference(InvalidReference::Digest(_)))));
        assert!(matches!(get("/v2/a/manifests/.a"), Err(NoEndpoint::Reference(InvalidReference::Tag(_)))));
        assert!(matches!(get("/v2/a/blobs/latest"), Err(NoEndpoint::Digest(InvalidDigest::Separator))));
        assert!(matches!(get("/v2/a/referrers/sha256:bad"), Err(NoEndpoint::Digest(_))));
    }

    #[test]
    fn what_is_nobodys_is_not_found_and_a_wrong_method_learns_the_right_ones() {
        for path in ["", "/x", "/v1/", "/v2/a", "/v2/a/tags", "/v2/a/x/y", "/v2a/", "//v2/", "/v2/_catalog/x"] {
            assert_eq!(get(path), Err(NoEndpoint::Path), "{path}");
        }
        let post = |path: &str| Endpoint::parse(&Method::POST, path);
        assert_eq!(post("/v2/"), Err(NoEndpoint::Method("GET, HEAD")));
        assert_eq!(post("/v2/a/manifests/x"), Err(NoEndpoint::Method("GET, HEAD, PUT, DELETE")));
        assert_eq!(get("/v2/a/blobs/uploads/"), Err(NoEndpoint::Method("POST")));
    }

    proptest! {
        /// S-02: whatever words a name is made of, the repository that is asked about is the one that was named.
        #[test]
        fn a_path_gives_back_the_name_and_the_reference_that_made_it(
            words in prop::collection::vec("manifests|blobs|uploads|tags|list|referrers|v2|[a-z0-9]{1,3}", 1..8),
            tag in "manifests|list|uploads|[a-zA-Z0-9_][a-zA-Z0-9._-]{0,5}",
        ) {
            let name: RepositoryName = words.join("/").parse().unwrap();
            let digest: Digest = DIGEST.parse().unwrap();
            let manifest = Endpoint::PullManifest(name.clone(), tag.parse().unwrap());
            prop_assert_eq!(get(&format!("/v2/{name}/manifests/{tag}")), Ok(manifest));
            prop_assert_eq!(get(&format!("/v2/{name}/blobs/{DIGEST}")), Ok(Endpoint::PullBlob(name.clone(), digest.clone())));
            prop_assert_eq!(get(&format!("/v2/{name}/referrers/{DIGEST}")), Ok(Endpoint::Referrers(name.clone(), digest)));
            prop_assert_eq!(get(&format!("/v2/{name}/tags/list")), Ok(Endpoint::Tags(name.clone())));
            let upload = Endpoint::UploadStatus(name.clone(), tag.clone());
            prop_assert_eq!(get(&format!("/v2/{name}/blobs/uploads/{tag}")), Ok(upload));
            let start = Endpoint::parse(&Method::POST, &format!("/v2/{name}/blobs/uploads/"));
            prop_assert_eq!(start, Ok(Endpoint::StartUpload(name)));
        }

        #[test]
        fn no_path_makes_the_parser_panic(path: String) {
            let _ = get(&path);
            let _ = get(&format!("/v2/{path}"));
        }
    }
}
