//! Being built.

pub mod node_entry;
