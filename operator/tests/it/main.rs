//! What can be shown of the operator without a cluster, from outside its crate.

mod crds;
