//! The resources that users write: their types, their schemas, and the rules the API server checks.
//!
//! A field that takes one of several words is described by the type of the word: the schema keeps that text, not the field's.
//! Nothing here reads or writes anything. Every field documents its default; no default stands in the schema, so that what
//! a user wrote is what the cluster stores and a comparison with Git shows no difference.

pub mod condition;
pub mod crd;
// The derive of the schema repeats each type inside a function, where nothing can reach it.
#[expect(unreachable_pub)]
pub mod registry;

pub use registry::{Registry, RegistrySpec, RegistryStatus};
