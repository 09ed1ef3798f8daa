//! Each rule broken, and the promise that falls with it.

use crate::rules::{Phase, Rules, SentTwice};
use crate::{breaks, oracle, scenarios};

#[test]
fn dead_listed_before_the_own_reference() {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    let put = &[ListDead, Intent, Check, Referrer, BackReferences, Record, Tags];
    breaks(Rules { put, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I1);
}

#[test]
fn no_existence_check() {
    use Phase::{BackReferences, Intent, ListDead, Record, Referrer, Tags};
    let put = &[Intent, ListDead, Referrer, BackReferences, Record, Tags];
    breaks(Rules { put, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I1);
}

#[test]
fn no_existence_check_of_a_mount() {
    breaks(Rules { blob_is_checked: false, ..Rules::default() }, scenarios::mount_then_put(), oracle::LEASE);
}

/// The record itself as the own reference, taken back on refusal: an index may have relied on it.
#[test]
fn a_visible_record_is_taken_back() {
    use Phase::{BackReferences, Check, ListDead, Record, Referrer, Tags};
    let put = &[Record, Referrer, BackReferences, ListDead, Check, Tags];
    breaks(Rules { put, ..Rules::default() }, scenarios::index_over_a_put(), oracle::I1);
    breaks(Rules { put, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I3);
}

#[test]
fn a_tag_before_the_check() {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    let put = &[Intent, Referrer, BackReferences, Record, Tags, ListDead, Check];
    breaks(Rules { put, ..Rules::default() }, scenarios::two_puts(), oracle::I2);
}

#[test]
fn a_tag_before_the_record() {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    let put = &[Intent, ListDead, Check, Tags, Referrer, BackReferences, Record];
    breaks(Rules { put, ..Rules::default() }, scenarios::tag_moves(), oracle::I2);
}

/// A re-push dies between its record and its entry; then a collector takes the older record, and its entry means nothing.
#[test]
fn a_record_before_its_referrer_entry() {
    use Phase::{BackReferences, Check, Intent, ListDead, Record, Referrer, Tags};
    let put = &[Intent, ListDead, Check, BackReferences, Record, Referrer, Tags];
    breaks(Rules { put, ..Rules::default() }, scenarios::referrer_again(), oracle::LISTED);
}

/// The entry is older than the grace when its record is written at last: it was swept.
#[test]
fn a_record_follows_its_entry_after_the_deadline() {
    breaks(Rules { gives_up: false, ..Rules::default() }, scenarios::referrer_again_and_late(), oracle::LISTED);
}

/// A deletion takes the back-reference of a record that is still to come, and then nobody knows that the tag names it.
#[test]
fn a_deletion_takes_every_back_reference() {
    let rules = Rules { delete_leaves_others_entries: false, ..Rules::default() };
    breaks(rules, scenarios::tag_moves_to_what_is_deleted(), oracle::I2);
}

#[test]
fn a_fresh_incarnation_is_trusted() {
    let rules = Rules { fresh_is_checked: false, gives_up: false, ..Rules::default() };
    breaks(Rules { grace: false, ..rules }, scenarios::put_and_two_collectors(), oracle::I1);
}

#[test]
fn a_dead_child_is_copied_without_its_children() {
    breaks(Rules { child_is_put: false, ..Rules::default() }, scenarios::index_over_untagged(), oracle::I1);
}

/// A dead index is collected, then its manifest, and then it is put again without that.
#[test]
fn a_dead_index_is_put_again_without_what_it_had() {
    let rules = Rules { sparse_is_checked: false, ..Rules::default() };
    breaks(rules, scenarios::nested_index_and_child(), oracle::I1);
}

#[test]
fn a_refused_mount_removes_its_link() {
    breaks(Rules { mount_keeps_link: false, ..Rules::default() }, scenarios::mount_then_put(), oracle::I1);
}

#[test]
fn a_tag_names_only_a_digest() {
    breaks(Rules { tag_names_record: false, ..Rules::default() }, scenarios::put_again_during_delete(), oracle::I5);
}

#[test]
fn delete_by_digest_does_not_compare() {
    breaks(Rules { untag_compares: false, ..Rules::default() }, scenarios::tag_moves(), oracle::I2);
}

#[test]
fn records_are_deleted_before_tags() {
    breaks(Rules { tags_before_records: false, ..Rules::default() }, scenarios::tag_moves(), oracle::I2);
}

#[test]
fn grace_off() {
    breaks(Rules { grace: false, ..Rules::default() }, scenarios::finish_then_put(), oracle::LEASE);
}

#[test]
fn no_deadline() {
    let rules = Rules { deadline: false, gives_up: false, ..Rules::default() };
    breaks(rules, scenarios::stalled_put(), oracle::I1);
    breaks(rules, scenarios::stalled_finish(), oracle::LEASE);
}

#[test]
fn a_late_request_goes_on_writing() {
    breaks(Rules { gives_up: false, ..Rules::default() }, scenarios::stalled_put(), oracle::I2);
}

#[test]
fn what_is_spared_lives_again() {
    breaks(Rules { dead_is_final: false, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I1);
}

#[test]
fn a_collector_brings_back_what_it_spared() {
    let rules = Rules { spared_is_left: false, ..Rules::default() };
    breaks(rules, scenarios::delete_what_is_spared(), oracle::I5);
    breaks(rules, scenarios::delete_the_blob_that_is_spared(), oracle::I5);
}

/// Nobody answers, the client of the bucket sends the same again, and the first try arrives after a deletion.
#[test]
fn a_record_is_sent_twice() {
    let rules = Rules { sent_twice: SentTwice::Records, ..Rules::default() };
    breaks(rules, scenarios::delete_then_collect(), oracle::I5);
}

#[test]
fn a_link_is_sent_twice() {
    breaks(Rules { sent_twice: SentTwice::Links, ..Rules::default() }, scenarios::finish_and_delete(), oracle::I5);
}

#[test]
fn no_second_mark() {
    breaks(Rules { second_mark: false, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I1);
}

#[test]
fn records_are_listed_before_intents() {
    breaks(Rules { intents_first: false, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::I1);
}

/// A record is collected between its writing and its tag's. The grace hides this, so it is off.
#[test]
fn an_intent_does_not_spare_its_record() {
    let rules = Rules { grace: false, intent_spares_its_record: false, ..Rules::default() };
    breaks(rules, scenarios::duplicates_and_put(), oracle::I2);
}

#[test]
fn data_is_spared_only_by_live_links() {
    breaks(
        Rules { any_link_spares: false, gives_up: false, ..Rules::default() },
        scenarios::stalled_mount(),
        oracle::LINK,
    );
}

#[test]
fn data_is_deleted_before_links() {
    breaks(Rules { links_before_data: false, ..Rules::default() }, scenarios::put_and_two_collectors(), oracle::LINK);
}

#[test]
fn a_dead_keeper() {
    breaks(Rules { keeper_is_not_dead: false, ..Rules::default() }, scenarios::duplicate_records(), oracle::I1);
}

#[test]
fn an_old_link_is_used_again() {
    let rules = Rules { reuse_any_link: true, ..Rules::default() };
    breaks(rules, scenarios::finish_then_put(), oracle::LEASE);
}

/// One wait is not enough: a pusher's list of the dead may be stale, and then the collector's list of intents.
#[test]
fn network_the_collector_waits_once() {
    breaks(Rules { waits: 1, ..Rules::default() }, scenarios::network_put(), oracle::I1);
    breaks(Rules { waits: 0, ..Rules::default() }, scenarios::network_put(), oracle::I1);
}

#[test]
fn network_an_intent_is_removed() {
    breaks(Rules { intents_are_left: false, ..Rules::default() }, scenarios::network_put(), oracle::I1);
}

/// A deletion of what another client has just put finds nothing to delete, or not all of it.
#[test]
fn network_a_deletion_reads_a_stale_list() {
    let rules = Rules { deletions_list_afresh: false, ..Rules::default() };
    breaks(rules, scenarios::network_delete(), oracle::I5);
}

/// What is gone may still seem to be there, when the batch that named it is gone already.
#[test]
fn network_a_batch_is_retired_at_once() {
    let rules = Rules { waits_before_retiring: false, ..Rules::default() };
    breaks(rules, scenarios::network_put_with_cached_lookups(), oracle::I1);
    breaks(rules, scenarios::network_duplicate_links(), oracle::I1);
}

#[test]
fn a_reader_does_not_look_again() {
    breaks(Rules { reader_looks_again: false, ..Rules::default() }, scenarios::pull(), oracle::PULL);
}
