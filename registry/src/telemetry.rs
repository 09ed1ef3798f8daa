//! Logging.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormatter, LogLevel};

/// Writes events to the standard error stream from now on, as `log` says. `RUST_LOG`, where it is set, picks them more
/// finely.
pub fn init(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr);
    // A subscriber that is there already was set by someone who wants it.
    let _ = match log.formatter {
        LogFormatter::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormatter::Json => {
            subscriber.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
    };
}
