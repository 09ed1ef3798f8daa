//! The registry: an OCI distribution API over a directory that describes itself.
//!
//! Rooms: `store` (bytes at rest), `http` (the API; the only room that knows axum), `access` (who may do what), `serve` (sockets,
//! TLS, stopping), `fairness` (room that clients share), `config` (the file, and files that change), `cli` (what the program
//! can be told), `metrics`, `telemetry`.

pub mod access;
pub mod cli;
pub mod config;
pub mod fairness;
pub mod http;
pub mod metrics;
pub mod serve;
pub mod store;
pub mod telemetry;
