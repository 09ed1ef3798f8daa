//! What a principal may do: pure.

use super::Principal;

/// The rights there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Read.
    Pull,
    /// Add.
    Push,
    /// Take away.
    Delete,
}

/// Whether `principal` may do `action`. Rules for single repositories come with the access issue; until then a right holds
/// everywhere.
pub const fn allows(principal: &Principal, action: Action) -> bool {
    match (principal, action) {
        (Principal::Anyone | Principal::User(_), Action::Pull | Action::Push | Action::Delete)
        | (Principal::Node(_), Action::Pull) => true,
        (Principal::Node(_), Action::Push | Action::Delete) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_may_do_everything_and_a_node_may_pull() {
        for action in [Action::Pull, Action::Push, Action::Delete] {
            assert!(allows(&Principal::User("a".into()), action));
            assert!(allows(&Principal::Anyone, action));
            assert_eq!(allows(&Principal::Node("n".into()), action), action == Action::Pull);
        }
    }
}
