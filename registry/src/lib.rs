//! Being built.

pub mod access;
pub mod config;
pub mod http;
pub mod serve;
pub mod store;
