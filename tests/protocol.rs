//! The settlement protocol, checked step by step in every order: one edge (what it promises for one
//! proxy) and two (what core keeps apart when there are several). And each of its rules, left out, gives
//! a counterexample, so that none of them can be dropped for being needless.

mod protocol {
    pub mod core;
    pub mod edge;
    pub mod model;
    pub mod properties;
}

use protocol::model::{Answer, Protocol, Safety};
use protocol::properties::{CORE_AGREES, NO_SILENT_CHANGE, NOTHING_LOST, ONE_ANSWER, ONE_EFFECT};
use stateright::{Checker, HasDiscoveries, Model};

/// One proxy: its default may say what core says, or not.
fn one_edge(default: Answer) -> Protocol {
    let defaults = vec![default];
    Protocol { defaults, has_api: true, asks: 3, kills: 2, full_disks: 1, without: None }
}

/// Two proxies that are out of step: their defaults differ.
fn two_edges(asks: u8, kills: u8) -> Protocol {
    let defaults = vec![Answer::Approve, Answer::Review];
    Protocol { defaults, has_api: false, asks, kills, full_disks: 0, without: None }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn one_edge_keeps_every_promise_whatever_is_lost_repeated_or_killed() {
    for default in [Answer::Approve, Answer::Review] {
        let checker = one_edge(default).checker().threads(threads()).spawn_bfs().join();
        println!("{default:?}: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

#[test]
fn what_two_edges_say_differently_is_on_record_and_replaces_nothing() {
    for (asks, kills) in [(3, 0), (2, 1)] {
        let checker = two_edges(asks, kills).checker().threads(threads()).spawn_bfs().join();
        println!("{asks} asks, {kills} kills: {} states", checker.unique_state_count());
        checker.assert_properties();
    }
}

#[test]
fn each_rule_left_out_breaks_a_promise() {
    let cases = [
        (one_edge(Answer::Review), Safety::BookBeforeRelease, NOTHING_LOST),
        (one_edge(Answer::Review), Safety::BookBeforeRelease, ONE_ANSWER),
        (one_edge(Answer::Review), Safety::FirstProposal, ONE_ANSWER),
        (one_edge(Answer::Review), Safety::DecideFindsTheRow, CORE_AGREES),
        (one_edge(Answer::Review), Safety::Compensation, ONE_EFFECT),
        (one_edge(Answer::Review), Safety::ShipAfterRestart, CORE_AGREES),
        (two_edges(2, 0), Safety::ReleasedStands, NO_SILENT_CHANGE),
    ];
    for (model, safety, promise) in cases {
        let model = Protocol { without: Some(safety), ..model };
        let found = HasDiscoveries::AnyOf([promise].into());
        let checker = model.checker().threads(threads()).finish_when(found).spawn_bfs().join();
        let broken = checker.discovery(promise);
        let broken =
            broken.unwrap_or_else(|| panic!("without {safety:?}, {promise:?} still holds"));
        let steps = broken.into_actions();
        println!("without {safety:?}, not {promise:?}, in {} steps: {steps:?}", steps.len());
    }
}
