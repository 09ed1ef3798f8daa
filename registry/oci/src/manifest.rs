//! Manifests and indexes, as far as a registry has to understand them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Descriptor, Digest, ManifestKind};

/// A manifest or index whose own fields have been checked. Its bytes stay with the caller and are served unchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    kind: ManifestKind,
    children: Vec<Child>,
    subject: Option<Descriptor>,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Something that a manifest points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// A config or a layer. It must be in the repository.
    Blob(Descriptor),
    /// A layer that may lie elsewhere: it has `urls` or a non-distributable media type. It may be absent.
    ForeignBlob(Descriptor),
    /// An entry of an index: a manifest by rule, a blob in BuildKit's cache indexes. It may be absent (a sparse index).
    Entry(Descriptor),
}

/// Why some bytes are not a manifest of the type they were sent as.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or a field of the wrong type.
    #[error("not a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// A known field in another case. Some readers would take it for the known one, some would not.
    #[error("field {0:?} differs from a known one only in case")]
    AmbiguousField(String),
    /// `schemaVersion` is not 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// `mediaType` disagrees with the `Content-Type` (GHSA-qq97-vm5h-rrhg).
    #[error("mediaType is {inside:?} but the manifest was sent as {sent:?}")]
    MediaType {
        /// What the document says.
        inside: String,
        /// What the request said.
        sent: String,
    },
    /// A field is missing, or belongs to the other sort of document (GHSA-qq97-vm5h-rrhg).
    #[error("{0}")]
    Shape(&'static str),
    /// `data` of a descriptor is not the content that the descriptor names.
    #[error("data of the descriptor {0} is not what its digest and size say")]
    EmbeddedData(Digest),
    /// A descriptor's size is beyond what the specification's 64-bit signed integer holds.
    #[error("size of the descriptor {0} is out of range")]
    Size(Digest),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Entry>,
    layers: Option<Vec<Entry>>,
    manifests: Option<Vec<Entry>>,
    subject: Option<Entry>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(flatten)]
    rest: BTreeMap<String, IgnoredAny>,
}

/// A descriptor as it is written, with what decides whether it may be absent.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: Digest,
    size: u64,
    artifact_type: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
    data: Option<String>,
    urls: Option<Vec<String>>,
    #[serde(flatten)]
    rest: BTreeMap<String, IgnoredAny>,
}

/// The fields whose meaning must not depend on the reader: Go takes `Layers` for `layers`, others do not.
const DOCUMENT_FIELDS: [&str; 8] =
    ["schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations"];
const DESCRIPTOR_FIELDS: [&str; 7] = ["mediaType", "digest", "size", "artifactType", "annotations", "data", "urls"];

const NON_DISTRIBUTABLE: [&str; 2] =
    ["application/vnd.oci.image.layer.nondistributable.v1.", "application/vnd.docker.image.rootfs.foreign.diff.tar"];

impl Manifest {
    /// Reads `bytes`, which were sent as `kind`.
    ///
    /// # Errors
    /// When they are not such a document, or when two careful readers could understand them differently.
    pub fn parse(kind: ManifestKind, bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let document: Document = serde_json::from_slice(bytes)?;
        refuse_other_spellings(&DOCUMENT_FIELDS, &document.rest)?;
        if document.schema_version != 2 {
            return Err(InvalidManifest::SchemaVersion);
        }
        check_media_type(kind, document.media_type.as_deref())?;
        if kind.is_index() { read_index(kind, document) } else { read_image(kind, document) }
    }

    /// Its type.
    pub const fn kind(&self) -> ManifestKind {
        self.kind
    }

    /// What it points at, in the document's order, the config first.
    pub fn children(&self) -> &[Child] {
        &self.children
    }

    /// The manifest that it refers to. It may be absent from the repository.
    pub const fn subject(&self) -> Option<&Descriptor> {
        self.subject.as_ref()
    }

    /// What a referrers listing calls its type: `artifactType`, or else the config's media type for an image manifest, or
    /// else nothing (distribution-spec `spec.md`, Listing Referrers).
    pub fn artifact_type(&self) -> Option<&str> {
        self.artifact_type.as_deref()
    }

    /// What a referrers listing copies.
    pub const fn annotations(&self) -> Option<&BTreeMap<String, String>> {
        self.annotations.as_ref()
    }
}

impl Child {
    /// What is pointed at.
    pub const fn descriptor(&self) -> &Descriptor {
        match self {
            Self::Blob(descriptor) | Self::ForeignBlob(descriptor) | Self::Entry(descriptor) => descriptor,
        }
    }
}

/// A key that stands twice is refused by serde; this refuses the one that some readers take for a known field.
fn refuse_other_spellings(fields: &[&str], rest: &BTreeMap<String, IgnoredAny>) -> Result<(), InvalidManifest> {
    match rest.keys().find(|key| fields.iter().any(|field| field.eq_ignore_ascii_case(key))) {
        Some(key) => Err(InvalidManifest::AmbiguousField(key.clone())),
        None => Ok(()),
    }
}

fn check_media_type(kind: ManifestKind, inside: Option<&str>) -> Result<(), InvalidManifest> {
    match inside {
        Some(inside) if inside != kind.as_str() => {
            Err(InvalidManifest::MediaType { inside: inside.into(), sent: kind.to_string() })
        }
        None if matches!(kind, ManifestKind::DockerManifest | ManifestKind::DockerList) => {
            Err(InvalidManifest::Shape("a Docker manifest needs mediaType"))
        }
        _ => Ok(()),
    }
}

fn read_image(kind: ManifestKind, document: Document) -> Result<Manifest, InvalidManifest> {
    if document.manifests.is_some() {
        return Err(InvalidManifest::Shape("an image manifest has no manifests"));
    }
    let config = document.config.ok_or(InvalidManifest::Shape("an image manifest needs a config"))?;
    let layers = document.layers.ok_or(InvalidManifest::Shape("an image manifest needs layers"))?;
    let config = config.into_descriptor()?;
    let artifact_type = document.artifact_type.or_else(|| Some(config.media_type.clone()));
    let mut children = vec![Child::Blob(config)];
    for layer in layers {
        let foreign = layer.lies_elsewhere();
        let descriptor = layer.into_descriptor()?;
        children.push(if foreign { Child::ForeignBlob(descriptor) } else { Child::Blob(descriptor) });
    }
    let subject = document.subject.map(Entry::into_descriptor).transpose()?;
    Ok(Manifest { kind, children, subject, artifact_type, annotations: document.annotations })
}

fn read_index(kind: ManifestKind, document: Document) -> Result<Manifest, InvalidManifest> {
    if document.config.is_some() || document.layers.is_some() {
        return Err(InvalidManifest::Shape("an index has neither config nor layers"));
    }
    let entries = document.manifests.ok_or(InvalidManifest::Shape("an index needs manifests"))?;
    let children =
        entries.into_iter().map(|entry| entry.into_descriptor().map(Child::Entry)).collect::<Result<_, _>>()?;
    let subject = document.subject.map(Entry::into_descriptor).transpose()?;
    let Document { artifact_type, annotations, .. } = document;
    Ok(Manifest { kind, children, subject, artifact_type, annotations })
}

impl Entry {
    fn lies_elsewhere(&self) -> bool {
        self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
            || NON_DISTRIBUTABLE.iter().any(|prefix| self.media_type.starts_with(prefix))
    }

    fn into_descriptor(self) -> Result<Descriptor, InvalidManifest> {
        refuse_other_spellings(&DESCRIPTOR_FIELDS, &self.rest)?;
        let Self { media_type, digest, size, artifact_type, annotations, data, urls: _, rest: _ } = self;
        if i64::try_from(size).is_err() {
            return Err(InvalidManifest::Size(digest));
        }
        if let Some(data) = data {
            match BASE64.decode(data) {
                Ok(bytes) if bytes.len() as u64 == size && digest.names(&bytes) => {}
                _ => return Err(InvalidManifest::EmbeddedData(digest)),
            }
        }
        Ok(Descriptor { media_type, digest, size, artifact_type, annotations })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = r#"{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2}"#;

    fn image(fields: &str) -> String {
        format!(r#"{{"schemaVersion":2,"config":{EMPTY},"layers":[]{fields}}}"#)
    }

    fn parse(kind: ManifestKind, text: &str) -> Result<Manifest, InvalidManifest> {
        Manifest::parse(kind, text.as_bytes())
    }

    #[test]
    fn an_image_without_artifact_type_is_listed_under_its_configs_type_and_an_index_under_none() {
        let image = parse(ManifestKind::OciManifest, &image("")).unwrap();
        assert_eq!(image.artifact_type(), Some("application/vnd.oci.empty.v1+json"));
        let index = parse(ManifestKind::OciIndex, r#"{"schemaVersion":2,"manifests":[]}"#).unwrap();
        assert_eq!(index.artifact_type(), None);
    }

    #[test]
    fn a_layer_that_lies_elsewhere_may_be_absent_and_no_other() {
        let layer = |fields: &str| EMPTY.replace('}', fields);
        let layers = [
            layer("}"),
            layer(r#","urls":["https://example.com/layer"]}"#),
            layer("}").replace("vnd.oci.empty.v1+json", "vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
        ];
        let text = format!(r#"{{"schemaVersion":2,"config":{EMPTY},"layers":[{}]}}"#, layers.join(","));
        let image = parse(ManifestKind::OciManifest, &text).unwrap();
        let kinds: Vec<_> = image.children().iter().map(|child| matches!(child, Child::ForeignBlob(_))).collect();
        assert_eq!(kinds, [false, false, true, true]);
    }

    #[test]
    fn custom_fields_are_admitted() {
        assert!(parse(ManifestKind::OciManifest, &image(r#","org.example":{"Size":1,"size":2}"#)).is_ok());
    }

    #[test]
    fn a_document_that_two_readers_could_understand_differently_is_refused() {
        let digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        for text in [
            image(r#","manifests":[]"#),
            image(r#","Layers":[]"#),
            image(r#","layers":[]"#),
            image(r#","mediaType":"application/vnd.oci.image.index.v1+json""#),
            image("").replace("\"size\":2", "\"size\":2,\"Size\":3"),
            image("").replace("\"size\":2", "\"size\":2,\"size\":2"),
            image("").replace(&format!("\"digest\":\"{digest}\""), &format!("\"Digest\":\"{digest}\"")),
            image("") + "{}",
            image("") + "x",
            format!("\u{feff}{}", image("")),
        ] {
            assert!(parse(ManifestKind::OciManifest, &text).is_err(), "{text}");
        }
        let index_with_config = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{EMPTY}}}"#);
        assert!(parse(ManifestKind::OciIndex, &index_with_config).is_err());
        assert!(parse(ManifestKind::DockerManifest, &image("")).is_err());
    }

    #[test]
    fn a_descriptor_that_lies_is_refused() {
        let with = |size: &str| image("").replace("\"size\":2", &format!("\"size\":{size}"));
        for size in ["-1", "1.5", "\"2\"", "9223372036854775808", "1e309"] {
            assert!(parse(ManifestKind::OciManifest, &with(size)).is_err(), "{size}");
        }
        assert!(parse(ManifestKind::OciManifest, &with("2,\"data\":\"e30=\"")).is_ok());
        assert!(parse(ManifestKind::OciManifest, &with("2,\"data\":\"e31=\"")).is_err());
    }

    #[test]
    fn depth_does_not_overflow_the_stack() {
        assert!(parse(ManifestKind::OciManifest, &"[".repeat(1_000_000)).is_err());
        assert!(parse(ManifestKind::OciManifest, &image(&format!(r#","x":{}"#, "[".repeat(1_000_000)))).is_err());
    }
}
