//! The configuration, which is the contract crate's, and the files that it names.

mod watched;

pub use berth_contract::config::*;

pub use self::watched::{FileError, Watched};
