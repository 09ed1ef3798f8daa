//! The protocol as it is.

use crate::rules::{Rules, Scenario};
use crate::{holds, scenarios};

macro_rules! the_protocol_holds {
    ($($scenario:ident)*) => { $(
        #[test]
        fn $scenario() {
            holds(Rules::default(), scenarios::$scenario());
        }
    )* };
}

the_protocol_holds! {
    put_and_two_collectors two_puts torn_first_mark mount_then_put mount_and_put_in_both finish_then_put delete_blob
    index_over_untagged index_and_child index_over_a_put index_and_delete_child tag_moves put_again_during_delete
    delete_then_collect referrer delete_referrer duplicates duplicates_and_put stalled_put stalled_finish stalled_mount
}

#[test]
fn a_young_link_can_be_used_again() {
    holds(Rules { reuse_young_link: true, ..Rules::default() }, scenarios::young_link());
}

/// What was answered needs only the deadline at the answer, however long anything stalls.
#[test]
fn answers_hold_when_nothing_gives_up() {
    let rules = Rules { gives_up: false, ..Rules::default() };
    holds(rules, scenarios::stalled_finish());
    holds(rules, scenarios::stalled_mount());
    holds(rules, Scenario { untagged_go: false, ..scenarios::stalled_put() });
}
