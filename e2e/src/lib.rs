//! What the tests of this crate share. They see a registry, a cluster and HTTP, and nothing of how those are made.
//!
//! Rooms: `registry_process` (a registry that a test owns), `certificate` (what it proves itself with), `port` (where it
//! listens), `http` (our own client, which can break off), `image` (small images, the same on every run), `tool` (other
//! people's clients), `containerd_process` (a container runtime that a test owns), `fragile_disk` (a file system that can lose its
//! power), `s3_server` (a bucket), `s3_proxy` (what stands before it), `replicas` (several registries on one storage),
//! `round_robin` (what stands before them), `proxy` (what the two proxies share).
//!
//! And for tests on a cluster: `cluster` (which one, and whose turn it is), `temp_namespace`, `managed_registry` (a Registry as
//! its user has it), `push` (images that run), `pod` (real pulls), `audit` (who wrote what to the API server),
//! `argocd` (what Argo CD makes of an object), `port_forward` (a way into a cluster that this machine is no part of).

pub mod argocd;
pub mod audit;
pub mod azurite;
pub mod certificate;
pub mod cluster;
pub mod containerd_process;
pub mod fragile_disk;
pub mod http;
pub mod image;
pub mod managed_registry;
pub mod pod;
pub mod port;
pub mod port_forward;
pub mod proxy;
pub mod push;
pub mod registry_process;
pub mod replicas;
pub mod round_robin;
pub mod s3_proxy;
pub mod s3_server;
pub mod temp_namespace;
pub mod tool;

use std::path::PathBuf;

/// The folder of the workspace.
pub fn workspace() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
