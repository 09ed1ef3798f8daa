//! Being built.

pub mod api;
pub mod certificate_authority;
pub mod fingerprint;
pub mod keyring;
pub mod labels;
pub mod node_agent;
pub mod node_entry;
pub mod random;
