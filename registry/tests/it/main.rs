//! The registry from outside: requests through the router, and what is stored afterwards. The files mirror the API.

#![expect(clippy::unwrap_used, clippy::panic, reason = "what helps a test may fail as a test does")]

mod authorization;
mod blobs;
mod catalog;
mod empty_keys;
mod fairness;
mod heads;
mod health;
mod manifests;
mod mounts;
mod odd_requests;
mod referrers;
mod registry_under_test;
mod served;
mod serving;
mod stalled_pulls;
mod tags;
mod tls;
mod uploads;
