#![doc = include_str!("../README.md")]

pub mod config;
mod duration;
pub mod node_credentials;
pub mod status_report;

pub use duration::{Duration, InvalidDuration};
