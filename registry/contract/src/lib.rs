#![doc = include_str!("../README.md")]

pub mod config;
mod duration;
pub mod exit_code;
pub mod node_credentials;
mod schedule;
pub mod status_report;

pub use duration::{Duration, InvalidDuration};
pub use schedule::{InvalidSchedule, Schedule};
