//! What clients read about a decision after it was made, and of what decisions moved.

use std::collections::BTreeMap;

use serde::Serialize;

use backstop_contract::label::Label;
use backstop_contract::{Decision, wire};

/// What an account has, as `GET /v1/accounts/{account}/balance` shows it.
#[derive(Serialize)]
pub struct Balance {
    /// The account.
    pub account: String,
    /// By unit.
    pub balance: BTreeMap<String, i64>,
}

/// A decision and what became of it, as `GET /v1/decisions/{id}` shows it.
#[derive(Serialize)]
pub struct Record {
    #[serde(flatten)]
    decision: Decision,
    settlement: Settlement,
    label: Option<Label>,
}

#[derive(Serialize)]
struct Settlement {
    state: String,
    /// What core had decided before it learned what the client was told.
    #[serde(skip_serializing_if = "String::is_empty")]
    decided_first: String,
}

impl Record {
    /// Of core's decision and the rest of its record.
    pub fn new(decision: Decision, rest: wire::Record) -> Self {
        let label = rest.fraud.map(|fraud| Label { fraud });
        let wire::Record { settlement: state, decided_first, .. } = rest;
        Self { decision, settlement: Settlement { state, decided_first }, label }
    }
}
