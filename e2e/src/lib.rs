//! What the tests of this crate share. They see a registry, a cluster and HTTP, and nothing of how those are made.
//!
//! Rooms: `registry_process` (a registry that a test owns), `certificate` (what it proves itself with), `port` (where it
//! listens), `http` (our own client, which can break off), `image` (small images, the same on every run), `tool` (other
//! people's clients), `containerd_process` (a container runtime that a test owns).

pub mod certificate;
pub mod containerd_process;
pub mod http;
pub mod image;
pub mod port;
pub mod registry_process;
pub mod tool;

use std::path::PathBuf;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
