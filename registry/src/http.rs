//! HTTP
mod content_range;
pub mod endpoint;
mod range;
