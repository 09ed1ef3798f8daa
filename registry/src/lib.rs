//! Being built.

pub mod access;
pub mod cli;
pub mod config;
pub mod http;
pub mod metrics;
pub mod serve;
pub mod store;
pub mod telemetry;
