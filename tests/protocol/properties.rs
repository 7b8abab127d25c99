//! What must hold at every moment, what must hold once all is quiet, and what must be possible at all, or
//! the rest would say nothing.

use std::collections::{BTreeMap, BTreeSet};

use stateright::Property;

use super::edge::Edge;
use super::model::{Answer, Message, Outcome, Protocol, Released, State};

pub const ONE_ANSWER: &str = "a node releases one answer for a key";
pub const NOTHING_LOST: &str = "what was released is in the book, or was marked undurable";
pub const ONE_EFFECT: &str = "a key has one net effect";
pub const NO_SILENT_CHANGE: &str = "what a node said it released is not replaced in silence";
pub const CORE_AGREES: &str = "at rest, core's record is what was released";
pub const ALL_ON_RECORD: &str = "at rest, all that was released is on record in core";

pub fn all() -> Vec<Property<Protocol>> {
    vec![
        Property::always(ONE_ANSWER, |_, now| one_answer(now)),
        Property::always(NOTHING_LOST, |_, now: &State| {
            now.released.iter().all(|it| is_kept(now, it))
        }),
        Property::always(ONE_EFFECT, |_, now| one_effect(now)),
        Property::always(NO_SILENT_CHANGE, |_, now: &State| {
            now.core.first_advice.is_none_or(|first| is_on_record(now, first))
        }),
        Property::always(CORE_AGREES, |_, now| !is_quiet(now) || core_agrees(now)),
        Property::always(ALL_ON_RECORD, |_, now| !is_quiet(now) || all_on_record(now)),
        Property::sometimes("an advice is applied", |_, now| is_settled(now, Outcome::Applied)),
        Property::sometimes("an advice matches", |_, now| is_settled(now, Outcome::Match)),
        Property::sometimes("an advice overrides", |_, now| is_settled(now, Outcome::Overridden)),
        Property::sometimes("two nodes are in conflict", |model: &Protocol, now| {
            model.defaults.len() < 2 || is_settled(now, Outcome::Conflict)
        }),
        Property::sometimes("an answer is released undurably", |model: &Protocol, now: &State| {
            model.full_disks == 0 || now.released.iter().any(|released| !released.durable)
        }),
        Property::sometimes(
            "a restarted edge repeats its book",
            |model: &Protocol, now: &State| {
                let lives: BTreeSet<u8> =
                    now.released.iter().map(|released| released.life).collect();
                model.kills == 0 || lives.len() > 1
            },
        ),
    ]
}

/// Nothing is on the wire, nobody waits, nothing is left to ship.
fn is_quiet(now: &State) -> bool {
    now.wire.is_empty() && now.edges.iter().all(Edge::is_quiet)
}

fn is_settled(now: &State, with: Outcome) -> bool {
    now.wire.iter().any(|it| matches!(it, Message::Settled { outcome, .. } if *outcome == with))
}

/// Two answers of one node may differ only where a restart lost one that was marked undurable.
fn one_answer(now: &State) -> bool {
    let pairs =
        now.released.iter().flat_map(|one| now.released.iter().map(move |other| (one, other)));
    let mut same = pairs.filter(|(one, other)| {
        one.node == other.node && (one.life == other.life || one.durable && other.durable)
    });
    same.all(|(one, other)| one.answer == other.answer)
}

fn is_kept(now: &State, released: &Released) -> bool {
    let edge = now.edges.get(released.node);
    let book = edge.and_then(|edge| edge.book.as_ref()).map(|said| said.answer);
    !released.durable || book == Some(released.answer)
}

fn one_effect(now: &State) -> bool {
    let of_the_row = now.core.row.iter().map(|row| (row.answer, 1)).collect::<BTreeMap<_, _>>();
    now.core.ledger == of_the_row
}

/// The answers that were told to a client, or are in a book to be told, and that no restart lost.
fn remembered(now: &State) -> BTreeSet<Answer> {
    let is_remembered = |it: &&Released| {
        it.durable || now.edges.get(it.node).is_some_and(|edge| edge.life == it.life)
    };
    let released = now.released.iter().filter(is_remembered).map(|released| released.answer);
    let books = now.edges.iter().filter_map(|edge| edge.said.as_ref()).map(|said| said.answer);
    released.chain(books).collect()
}

/// The row is the answer, where there was one only.
fn core_agrees(now: &State) -> bool {
    let told = now.released.iter().map(|released| released.answer);
    let told: BTreeSet<_> = told.chain(remembered(now)).collect();
    let is_the_row = |answer| now.core.row.as_ref().is_some_and(|row| row.answer == answer);
    told.len() > 1 || remembered(now).into_iter().all(is_the_row)
}

fn all_on_record(now: &State) -> bool {
    remembered(now).into_iter().all(|answer| is_on_record(now, answer))
}

fn is_on_record(now: &State, answer: Answer) -> bool {
    let is_the_row = now.core.row.as_ref().is_some_and(|row| row.answer == answer);
    is_the_row || now.core.discrepancies.contains(&answer)
}
