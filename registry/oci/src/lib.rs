#![doc = include_str!("../README.md")]

mod descriptor;
mod digest;
mod error_code;
mod manifest;
mod media_type;
mod parsed;
mod reference;
mod repository_name;
mod tag;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest, InvalidHasherState};
pub use error_code::ErrorCode;
pub use manifest::{Child, InvalidManifest, Manifest};
pub use media_type::{InvalidMediaType, ManifestKind, MediaType};
pub use reference::{InvalidReference, Reference};
pub use repository_name::{InvalidRepositoryName, RepositoryName};
pub use tag::{InvalidTag, Tag};
