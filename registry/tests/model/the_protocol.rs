//! The protocol as it is.

use crate::rules::{Phase, Rules, Scenario, SentTwice};
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
    put_and_two_collectors two_puts torn_first_mark mount_then_put finish_then_put delete_blob index_over_untagged
    index_and_child nested_index nested_index_and_child index_over_a_put index_and_delete_child tag_moves put_again_during_delete delete_then_collect referrer
    delete_referrer referrer_again referrer_again_and_late finish_and_delete delete_what_is_spared
    delete_the_blob_that_is_spared index_and_referrer finish_from_another tag_moves_to_what_is_deleted duplicate_records duplicate_links duplicates_and_put network_put network_put_with_cached_lookups
    network_duplicate_links network_index network_delete stalled_put stalled_finish stalled_mount pull
}

/// More actors at once, up to six million states. Searched when `BERTH_MODEL=large`, and then with `--release`.
macro_rules! the_protocol_holds_at_large {
    ($($scenario:ident)*) => { mod large { $(
        #[test]
        fn $scenario() {
            if std::env::var("BERTH_MODEL").is_ok_and(|size| size == "large") {
                crate::holds(crate::rules::Rules::default(), crate::scenarios::$scenario());
            }
        }
    )* } };
}

the_protocol_holds_at_large! {
    mount_and_put_in_both mount_then_put_and_two_collectors duplicates duplicate_links_and_finish delete_blob_and_finish
    stalled_mount_and_two_collectors pull_while_all_comes_again tags_and_collectors stalled_push_and_mount
    network_mount finish_from_another_and_two_collectors index_and_referrer_and_two_puts nested_index_and_two_collectors
    index_and_all_deletions index_and_child_and_two_collectors two_puts_and_two_collectors
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

/// The referrer entry comes before its record, back-references before or after it, but before their tags.
#[test]
fn back_references_come_in_any_order() {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    let put = &[Intent, ListDead, Check, Referrer, Record, BackReferences, Tags];
    holds(Rules { put, ..Rules::default() }, scenarios::referrer());
    holds(Rules { put, ..Rules::default() }, scenarios::put_again_during_delete());
    holds(Rules { put, ..Rules::default() }, scenarios::tag_moves());
    holds(Rules { put, ..Rules::default() }, scenarios::tag_moves_to_what_is_deleted());
}

/// What nobody reads without its record or its link may arrive at any time, even after it was deleted.
#[test]
fn the_rest_may_be_sent_twice() {
    let rules = Rules { sent_twice: SentTwice::TheRest, ..Rules::default() };
    holds(rules, scenarios::finish_and_delete());
    holds(rules, scenarios::delete_then_collect());
    holds(rules, scenarios::delete_referrer());
    holds(rules, scenarios::referrer_again());
}

/// The grace only saves work and keeps blobs that no manifest names yet: take it away (but for intents), and what puts of
/// manifests answered still holds.
#[test]
fn no_clock_protects_a_manifest() {
    let rules = Rules { grace: false, ..Rules::default() };
    holds(rules, scenarios::put_and_two_collectors());
    holds(rules, scenarios::duplicates_and_put());
    holds(rules, scenarios::index_over_untagged());
}
