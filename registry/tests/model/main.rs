//! The storage protocol of `docs/storage.md`, searched exhaustively. First the protocol as it is, in focused configurations:
//! every order of every step, any actor stalled for ever anywhere. Then each rule broken: the search must find out.

mod blob;
mod collect;
mod delete;
mod key;
mod network;
mod oracle;
mod protocol;
mod pull;
mod put;
mod rules;
mod scenarios;
mod seeded_bugs;
mod store;
mod the_protocol;

use std::time::Instant;

use stateright::{Checker, Expectation, HasDiscoveries, Model, Path};

use protocol::Protocol;
use rules::{Rules, Scenario};

/// Searches to the end: nothing promised is broken, and what should be possible is.
fn holds(rules: Rules, scenario: Scenario) {
    let begun = Instant::now();
    let name = scenario.name;
    let checker = Protocol { rules, scenario }.checker().spawn_bfs().join();
    println!("{name}: {} states, {:.1} s", checker.unique_state_count(), begun.elapsed().as_secs_f32());
    for property in checker.model().properties() {
        let found = checker.discovery(property.name);
        if property.expectation == Expectation::Always {
            assert!(found.is_none(), "{name}: broken: {}: {:#?}", property.name, found.map(Path::into_actions));
        } else {
            assert!(found.is_some(), "{name}: never: {}", property.name);
        }
    }
}

/// Searches until the broken rule is found out.
fn breaks(rules: Rules, scenario: Scenario, property: &'static str) {
    let begun = Instant::now();
    let name = scenario.name;
    let wanted = HasDiscoveries::AnyOf([property].into());
    let checker = Protocol { rules, scenario }.checker().finish_when(wanted).spawn_bfs().join();
    let found = checker.discovery(property).map(Path::into_actions);
    let states = checker.unique_state_count();
    println!("{name}: {property}: broken after {states} states, {:.1} s: {found:#?}", begun.elapsed().as_secs_f32());
    assert!(found.is_some(), "{name}: the broken rule was not found out: {property}");
}
