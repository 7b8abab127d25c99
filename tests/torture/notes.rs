//! What the client writes down: each id with what it was told, and everything that was not as promised.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::{Map, Value};

use super::demand::Demand;
use super::watch::Watch;
use super::wire::Reply;

/// The fields of an answer that need not repeat (all others must).
const OWN_FIELDS: [&str; 4] = ["final", "durable", "budget_ms", "elapsed_ms"];
/// Nobody reads more of them.
const COMPLAINTS_MAX: usize = 10;

/// What the client was told of one id.
#[derive(Clone, Debug)]
pub struct Told {
    /// All fields that repeat, as JSON with sorted names.
    pub answer: String,
    /// Whether it was written down before it left.
    pub is_durable: bool,
    /// How often the proxy had died until then, as far as is known.
    deaths: usize,
}

impl Told {
    /// The answer as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.answer).unwrap()
    }

    /// Whether it was not written down, and the proxy that remembered it has died.
    pub fn may_be_forgotten(&self, watch: &Watch) -> bool {
        !self.is_durable && watch.may_have_died_since(self.deaths)
    }
}

/// The client's own books.
#[derive(Debug, Default)]
pub struct Notes {
    /// By the number of the request.
    pub told: HashMap<usize, Told>,
    /// Requests whose first attempt was lost, and that were asked again until they were answered.
    pub lost: usize,
    /// Of these, the longest from the loss to the answer.
    pub longest_loss: Duration,
    /// Answers that were asked for again.
    pub again: usize,
    /// Of these, those that said so.
    pub replayed: usize,
    /// Refusals of another request under a known id.
    pub refused: usize,
    /// Answers with `durable: false`.
    pub undurable: usize,
    /// Of these, those that became another answer when the proxy died.
    pub forgotten: usize,
    /// From when a first attempt was due until its answer, where it was not lost.
    pub latencies: Vec<Duration>,
    complaints: Vec<String>,
    left_out: usize,
}

impl Notes {
    /// Something that was not as promised.
    pub fn complain(&mut self, what: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(what);
        } else {
            self.left_out += 1;
        }
    }

    /// All that was not as promised.
    pub fn complaints(&self) -> Vec<String> {
        let rest = (self.left_out > 0).then(|| format!("and {} more", self.left_out));
        self.complaints.iter().cloned().chain(rest).collect()
    }

    /// Takes note of an answer to the request of this number.
    pub fn hear(&mut self, number: usize, reply: &Reply, watch: &Watch) {
        let said = match answer_of(number, reply) {
            Ok(said) => said,
            Err(what) => return self.complain(what),
        };
        let (mut answer, deaths) = (said, watch.deaths());
        let is_durable = answer["durable"] == true;
        self.undurable += usize::from(!is_durable);
        answer.retain(|name, _| !OWN_FIELDS.contains(&name.as_str()));
        let text = Value::Object(answer).to_string();
        let told = Told { answer: text, is_durable, deaths };
        let Some(before) = self.told.get(&number) else {
            self.told.insert(number, told);
            return;
        };
        self.again += 1;
        self.replayed += usize::from(reply.is_replayed);
        if before.answer == told.answer {
            // It may have been written down since, not before.
            return;
        }
        if before.may_be_forgotten(watch) {
            self.forgotten += 1;
            self.told.insert(number, told);
        } else {
            let what = format!(
                "two answers: {} (durable: {}), then {}",
                before.answer, before.is_durable, told.answer
            );
            self.complain(what);
        }
    }

    /// Takes note of what another request under a known id was answered.
    pub fn hear_refusal(&mut self, number: usize, reply: &Reply) {
        if reply.status == 422 {
            self.refused += 1;
        } else {
            let body = String::from_utf8_lossy(&reply.body);
            self.complain(format!("order-{number} with another body: {}: {body}", reply.status));
        }
    }

    /// How many were answered by each tier, and why.
    pub fn by_who(&self) -> BTreeMap<String, usize> {
        let mut by = BTreeMap::new();
        for told in self.told.values() {
            let answer = told.json();
            let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
            let who = format!("{} {}", word("decided_by"), word("cause")).trim().to_owned();
            *by.entry(who).or_default() += 1;
        }
        by
    }

    /// The latency that this share of first answers were within, in thousandths.
    pub fn within(&self, thousandths: usize) -> Duration {
        let mut latencies = self.latencies.clone();
        latencies.sort_unstable();
        let rank = (latencies.len() * thousandths).div_ceil(1_000);
        latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// A decision on this request by somebody who may make it; else what came instead.
fn answer_of(number: usize, reply: &Reply) -> Result<Map<String, Value>, String> {
    let wrong = || {
        let body = String::from_utf8_lossy(&reply.body);
        format!("order-{number}: {}: {body}", reply.status)
    };
    if reply.status != 200 {
        return Err(wrong());
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice(&reply.body) else {
        return Err(wrong());
    };
    let id = answer.get("id").and_then(Value::as_str).and_then(Demand::number);
    let word = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_known = match word("decided_by") {
        "core" => answer.get("cause") == Some(&Value::Null),
        "api" | "edge" => {
            ["deadline", "unavailable", "breaker", "overload", "error"].contains(&word("cause"))
        }
        _ => false,
    };
    if id == Some(number) && is_known { Ok(answer) } else { Err(wrong()) }
}
