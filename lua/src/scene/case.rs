//! A scene as people write it, in JSON or in a test: the request as it is sent, and what is known.
//!
//! ```json
//! { "request": { "amount": 5716, "attributes": { "terminal": "3156" } },
//!   "history": { "customer": [ { "ago": "2h", "amount": 500, "times": 3, "fraud": true } ] },
//!   "stock": { "sku:85123A": 6 } }
//! ```

use backstop_contract::validity::{Terms, check};
use backstop_contract::{Timestamp, Verdict};
use backstop_engine::History;
use serde_json::{Map, Value as Json, json};

use super::Scene;
use crate::past;

/// What a request of a case has where the case does not say.
const ID: &str = "case-1";
const ACCOUNT: &str = "customer-1";
const AMOUNT: u64 = 1_000;
const CURRENCY: &str = "GBP";
const AT: &str = "2018-08-01T12:00:00Z";
/// The most events that one line of a history stands for.
const TIMES_MAX: u64 = 10_000;

const RIGHT: &str =
    "write { request = …, history = …, stock = …, stand_in = … }, each may be absent";

/// What is wrong with a case, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}; {right}")]
pub struct CaseError {
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

fn error(wrong: impl Into<String>, right: impl Into<String>) -> CaseError {
    CaseError { wrong: wrong.into(), right: right.into() }
}

impl Scene {
    /// Reads a case, or a bare request. What it does not say is made up; a request without a policy asks
    /// `policy`.
    pub fn read(case: &Json, policy: Option<&str>) -> Result<Self, CaseError> {
        let none = Map::new();
        let fields = match case {
            Json::Object(fields) => fields,
            // An empty table of Lua is an empty list.
            Json::Array(list) if list.is_empty() => &none,
            _ => return Err(error("a case is no table", RIGHT)),
        };
        let is_bare =
            ["id", "policy", "account", "amount"].iter().any(|name| fields.contains_key(*name));
        if is_bare {
            return Ok(Self::bare(request(fields, policy)?));
        }
        let known = ["request", "history", "stock", "stand_in", "name", "expect"];
        if let Some(name) = fields.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(error(format!("a case has a field {name:?}"), RIGHT));
        }
        let asked = match fields.get("request") {
            None | Some(Json::Null) => &none,
            Some(Json::Object(asked)) => asked,
            Some(Json::Array(list)) if list.is_empty() => &none,
            Some(_) => return Err(error("request is no table", "write it as it is sent")),
        };
        let mut scene = Self::bare(request(asked, policy)?);
        scene.stand_in = fields.get("stand_in") == Some(&Json::Bool(true));
        let now = scene.question.at();
        for (name, events) in table(fields, "history")? {
            scene.histories.insert(name.clone(), history(name, events, now)?);
        }
        for (key, level) in table(fields, "stock")? {
            let level = whole(level).ok_or_else(|| {
                error(format!("stock of {key} is {level}"), "write how many are left")
            })?;
            scene.stock.insert(key.clone(), level);
        }
        Ok(scene)
    }
}

fn table<'a>(
    fields: &'a Map<String, Json>,
    name: &str,
) -> Result<Box<dyn Iterator<Item = (&'a String, &'a Json)> + 'a>, CaseError> {
    match fields.get(name) {
        None | Some(Json::Null) => Ok(Box::new(std::iter::empty())),
        Some(Json::Object(table)) => Ok(Box::new(table.iter())),
        Some(Json::Array(list)) if list.is_empty() => Ok(Box::new(std::iter::empty())),
        Some(_) => Err(error(format!("{name} is no table"), RIGHT)),
    }
}

/// The request of a case, judged as a client's would be.
fn request(
    asked: &Map<String, Json>,
    policy: Option<&str>,
) -> Result<backstop_contract::Request, CaseError> {
    let mut asked = asked.clone();
    let mut usual = |name: &str, value: Json| {
        asked.entry(name.to_owned()).or_insert(value);
    };
    usual("id", json!(ID));
    usual("account", json!(ACCOUNT));
    usual("at", json!(AT));
    if let Some(policy) = policy {
        usual("policy", json!(policy));
    }
    match (asked.contains_key("amount"), asked.contains_key("currency")) {
        (false, false) => {
            asked.insert("amount".to_owned(), json!(AMOUNT));
            asked.insert("currency".to_owned(), json!(CURRENCY));
        }
        (true, false) => drop(asked.insert("currency".to_owned(), json!(CURRENCY))),
        _ => {}
    }
    // An empty table of Lua is an empty list, and a null says that there is none.
    if asked.get("attributes").is_some_and(|it| it.as_array().is_some_and(Vec::is_empty)) {
        asked.remove("attributes");
    }
    asked.retain(|_, value| !value.is_null());
    let body = Json::Object(asked).to_string();
    let terms =
        Terms { now: Timestamp::default(), test: true, numeric_ids: true, policies: &|_| true };
    check(body.as_bytes(), &terms).map_err(|problem| {
        let at = problem.pointer.map_or_else(String::new, |pointer| format!("{pointer}: "));
        error(format!("the request is not valid: {at}{}", problem.detail), problem.remedy)
    })
}

fn history(name: &str, events: &Json, now: Timestamp) -> Result<History, CaseError> {
    let right = "write a list of { ago = \"2h\", amount = 500, times = 3, fraud = true }";
    let Json::Array(events) = events else {
        return Err(error(format!("history {name} is no list"), right));
    };
    let mut lines =
        events.iter().map(|event| Event::read(event, now)).collect::<Result<Vec<_>, _>>();
    if let Ok(lines) = &mut lines {
        lines.sort_by_key(|event| event.at);
    }
    let lines = lines.map_err(|wrong| error(format!("history {name} {wrong}"), right))?;
    let mut history = History::default();
    for event in lines {
        for _ in 0..event.times {
            history.record(event.at, event.amount, event.verdict, event.with.as_deref());
            if event.fraud {
                history.label(event.at, true, None);
            }
        }
    }
    Ok(history)
}

/// A line of a history: events that are alike.
struct Event {
    at: Timestamp,
    amount: u64,
    times: u64,
    fraud: bool,
    verdict: Verdict,
    with: Option<String>,
}

impl Event {
    fn read(event: &Json, now: Timestamp) -> Result<Self, String> {
        let Json::Object(fields) = event else {
            return Err("holds what is no table".to_owned());
        };
        let mut read = Self {
            at: now,
            amount: 0,
            times: 1,
            fraud: false,
            verdict: Verdict::Approve,
            with: None,
        };
        let mut is_dated = false;
        for (name, value) in fields {
            let wrong = || format!("has {name} = {value}");
            match name.as_str() {
                "ago" => {
                    let ago = value.as_str().and_then(past::parse).ok_or_else(wrong)?;
                    let ago = i64::try_from(ago.as_millis()).map_err(|_too_long| wrong())?;
                    read.at = Timestamp::from_millis(now.as_millis().saturating_sub(ago));
                    is_dated = true;
                }
                "amount" => read.amount = count(value).ok_or_else(wrong)?,
                "times" => {
                    read.times = count(value).filter(|it| *it <= TIMES_MAX).ok_or_else(wrong)?;
                }
                "fraud" => read.fraud = value.as_bool().ok_or_else(wrong)?,
                "decision" => {
                    read.verdict = value.as_str().and_then(Verdict::parse).ok_or_else(wrong)?;
                }
                "with" => read.with = Some(value.as_str().ok_or_else(wrong)?.to_owned()),
                _ => return Err(format!("has a field {name:?}")),
            }
        }
        if is_dated { Ok(read) } else { Err("has an event without ago".to_owned()) }
    }
}

fn count(value: &Json) -> Option<u64> {
    whole(value).and_then(|number| u64::try_from(number).ok())
}

/// A whole number: Lua has no other than floating ones.
fn whole(value: &Json) -> Option<i64> {
    let exact = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    // Whole and within bounds, so exact.
    #[allow(clippy::cast_possible_truncation)]
    value.as_i64().or_else(|| value.as_f64().filter(|it| exact(*it)).map(|it| it as i64))
}
