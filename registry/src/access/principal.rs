//! Who someone turned out to be.

use std::fmt;

/// Someone that may ask for something.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// Whoever it is: the registry is open.
    Anyone,
    /// A user with a password.
    User(String),
    /// A node of the cluster.
    Node(String),
}

/// The name that logs use and uploads are bound to. No two principals share one.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Node(name) => write!(f, "node:{name}"),
        }
    }
}
