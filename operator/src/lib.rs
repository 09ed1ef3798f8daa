//! The operator of Berth: it makes a registry of every `Registry`, and lets every node pull from it.
//!
//! The rooms, in reading order:
//!
//! | room | what is in it |
//! |---|---|
//! | [`api`] | what users write and what they read: types and schemas, nothing else |
//! | [`registry_controller`] | from a `Registry` to its objects and its status, in five steps |
//! | [`apply`] | the only writer to the API server |
//! | [`keyring`], [`certificate_authority`] | keys, passwords and certificates, and when each is replaced |
//! | [`watches`], [`nodes`], [`rollouts`], [`sweep`] | what is watched, what nodes report, whose turn it is, what deleted Registries left |
//! | [`operator`], [`lease`], [`context`], [`api_client`], [`metrics`], [`telemetry`] | the process around it |
//! | [`node_entry`] | what the operator and the node agent say to each other |
//! | [`node_agent`] | what runs on every node |
//! | [`check`] | what `helm test` runs |

pub mod api;
pub mod api_client;
pub mod apply;
pub mod certificate_authority;
pub mod check;
pub mod context;
pub mod fingerprint;
pub mod keyring;
pub mod labels;
pub mod lease;
pub mod metrics;
pub mod node_agent;
pub mod node_entry;
pub mod nodes;
pub mod operator;
pub mod random;
pub mod registry_controller;
pub mod rollouts;
pub mod sweep;
pub mod telemetry;
pub mod watches;
