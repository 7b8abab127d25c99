//! Rules that are wrong, slow, greedy or hostile, and what a caller gets from them.

mod answers;
mod effects;
mod hostile;
mod library;
mod meter;
mod refused;
mod shipped;

use std::collections::BTreeMap;
use std::time::Duration;

use backstop_contract::request::Money;
use backstop_contract::{Attributes, EventTime, HashKey, Question, Request, Timestamp, Value};

use super::*;

const MEMORY: usize = 8 << 20;
/// Far more than any honest call here takes, even unoptimized on a busy machine.
const TIME: Duration = Duration::from_millis(500);
const NOON: i64 = 1_533_124_800_000; // 2018-08-01T12:00:00Z

/// A question with an event time, an amount of 57.16 and the attributes `terminal` and `secret`.
fn question() -> Question {
    let request = Request {
        id: "txn-1".into(),
        policy: "p".into(),
        account: "customer-1".into(),
        money: Some(Money { amount: 5716, currency: "GBP".into() }),
        at: Some(EventTime { timestamp: Timestamp::from_millis(NOON), text: "noon".into() }),
        attributes: Attributes::from_iter([
            ("terminal", Value::Text("3156")),
            ("secret", Value::Text("x")),
            ("qty", Value::Integer(-3)),
            ("ratio", Value::Number(0.5)),
            ("gift", Value::Flag(true)),
        ]),
    };
    let hash = HashKey::new(&[0; 32]).hash(&request);
    let (merchant, traceparent, body) = ("demo".into(), String::new(), request.to_json().into());
    let received_at = Timestamp::from_millis(NOON + 40);
    Question {
        merchant,
        test: false,
        numeric_ids: false,
        request,
        hash,
        received_at,
        traceparent,
        body,
    }
}

fn rules_from(texts: &[(&str, &str)]) -> Result<Rules, BundleError> {
    Rules::new(Bundle::from_texts(texts.iter().copied())?, MEMORY)
}

/// A policy and a default whose `decide` have this body.
fn rules(body: &str) -> Rules {
    let policy = format!(
        "return {{ fields = {{ 'terminal', 'qty', 'ratio', 'gift' }}, safe = 'decline', \
         strict = false, keys = function() return {{}} end, \
         decide = function(tx, history, stock, rows)\n{body}\nend }}"
    );
    let default =
        format!("return {{ fields = {{}}, safe = 'decline', decide = function(tx)\n{body}\nend }}");
    rules_from(&[("policies/p.lua", &policy), ("defaults/p.lua", &default)]).unwrap()
}

/// The policy's ruling without history or stock.
fn decide(rules: &Rules, time_max: Duration) -> Ruling {
    rules.decide_by_policy(&question(), &BTreeMap::new(), &BTreeMap::new(), false, time_max)
}
