//! The record of a decision as the edge can show it by itself: what the client was told, and what has
//! become of it as far as the edge knows.

use serde::Serialize;

use backstop_book::Found;
use backstop_contract::Decision;
use backstop_contract::label::Label;

/// The same shape as the api's, whose record knows of labels too.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    settlement: Settlement<'a>,
    label: Option<Label>,
}

#[derive(Serialize)]
struct Settlement<'a> {
    state: &'a str,
}

/// Whether core has yet to hear of it, so that nobody else has a record of it.
pub fn is_unsettled(found: &Found) -> bool {
    found.settled.is_none() && found.said.answer.is_stand_in()
}

/// The record of what the book found.
pub fn to_json(found: &Found) -> Vec<u8> {
    let decision = &found.said.answer;
    let state = match &found.settled {
        Some(outcome) => outcome.as_str(),
        None if is_unsettled(found) => "unsettled",
        None => "decided",
    };
    let record = Record { decision, settlement: Settlement { state }, label: None };
    // Strings, integers and finite numbers always serialize.
    serde_json::to_vec(&record).unwrap_or_default()
}
