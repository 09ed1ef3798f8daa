//! Being built.

pub mod api;
pub mod node_entry;
