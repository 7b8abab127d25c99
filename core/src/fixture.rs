//! What the tests of several rooms ask with: small policies, and requests that differ in one thing.

use std::path::Path;
use std::sync::Arc;

use backstop_contract::request::{Money, Request};
use backstop_contract::{
    Attributes, Cause, Decision, HashKey, Question, Tier, Timestamp, Value, Verdict,
};
use backstop_lua::{Bundle, Rules};
use backstop_process::Faults;
use backstop_settings::Settings;

use crate::config::{Config, Database};
use crate::decide::settle::Advice;
use crate::metrics::Metrics;
use crate::store::settled::AdviceKey;
use crate::writer::Desk;

/// Noon of 1 August 2018.
pub const NOON: i64 = 1_533_124_800_000;

/// Declines the third payment of a customer within an hour.
const PAYMENT: &str = r#"return {
    fields = { "terminal" }, safe = "review", strict = false,
    keys = function(tx)
        return { history = { customer = "customer:" .. tx.account, terminal = "terminal:" .. tx.terminal } }
    end,
    decide = function(tx, history)
        local seen = history.customer:count("1h")
        if seen >= 2 then return "decline", { "velocity" }, seen end
        return "approve", {}, seen
    end,
}"#;

/// Breaks in line 3, where it decides.
const BROKEN: &str = r#"return {
    fields = {}, safe = "decline", strict = false, keys = function(tx) return { history = { it = "it" } } end,
    decide = function(tx) error("it broke") end,
}"#;

/// Breaks before it decides.
const KEYLESS: &str = r#"return {
    fields = {}, safe = "decline", strict = false, keys = function(tx) error("it broke") end,
    decide = function(tx) return "approve", {}, 0 end,
}"#;

/// Takes `qty` of `sku` and credits a coin for each, whatever is left: only core says no.
const CHEST: &str = r#"return {
    fields = { "sku", "qty" }, safe = "review", strict = false,
    keys = function(tx) return { history = { it = "customer:" .. tx.account }, stock = { "sku:" .. (tx.sku or "") } } end,
    decide = function(tx, history, stock) return "approve", {}, stock["sku:" .. (tx.sku or "")] end,
    effects = function(tx, decision)
        if decision ~= "approve" then return {} end
        return { take = { ["sku:" .. tx.sku] = tx.qty }, credit = { coins = tx.qty } }
    end,
}"#;

/// Debits `coins`; one that it declines itself still costs one.
const SPEND: &str = r#"return {
    fields = { "coins" }, safe = "decline", strict = false,
    keys = function(tx) return { history = { it = "customer:" .. tx.account } } end,
    decide = function(tx) if tx.coins == 13 then return "decline", { "unlucky" } end return "approve" end,
    effects = function(tx, decision)
        return { debit = { coins = decision == "approve" and tx.coins or 1 } }
    end,
}"#;

/// Never ends.
const ENDLESS: &str = r#"return {
    fields = {}, safe = "decline", strict = false, keys = function(tx) return {} end,
    decide = function(tx) while true do end end,
}"#;

pub fn rules() -> Rules {
    let texts = [
        ("policies/chest.lua", CHEST),
        ("policies/spend.lua", SPEND),
        ("policies/endless.lua", ENDLESS),
        ("policies/payment.lua", PAYMENT),
        ("policies/broken.lua", BROKEN),
        ("policies/keyless.lua", KEYLESS),
    ];
    Rules::new(Bundle::from_texts(texts).unwrap(), 8 << 20).unwrap()
}

pub fn desk() -> Desk {
    Desk {
        rules: Arc::new(rules().into()),
        shadow: crate::shadow::start(
            &Metrics::new().unwrap(),
            Settings::default().core.policy_time_max,
        ),
        stack: "prod".to_owned(),
        settings: Settings::default().core,
        learning: Settings::default().to_commit(),
        metrics: Metrics::new().unwrap(),
        faults: Faults::default(),
    }
}

pub fn config(dir: &Path) -> Config {
    Config {
        stack: "prod".to_owned(),
        socket: dir.join("core.sock"),
        database: Database::Sqlite(dir.join("backstop.db")),
        settings: Settings::default().core,
        learning: Settings::default().to_commit(),
        rules: rules().into(),
        drain_time: backstop_settings::DRAIN_TIME_MIN,
    }
}

/// A payment of 5716 pence by customer-1 at terminal 3156, at noon.
pub fn question(id: &str) -> Question {
    asked(id, "payment", 5716)
}

pub fn asked(id: &str, policy: &str, amount: u64) -> Question {
    sent(Request {
        id: id.to_owned(),
        policy: policy.to_owned(),
        account: "customer-1".to_owned(),
        money: Some(Money { amount, currency: "GBP".to_owned() }),
        at: None,
        attributes: Attributes::from_iter([("terminal", text("3156"))]),
    })
}

/// A request without an amount, by this account.
pub fn wish(id: &str, policy: &str, account: &str, attributes: &[(&str, Value<'_>)]) -> Question {
    sent(Request {
        id: id.to_owned(),
        policy: policy.to_owned(),
        account: account.to_owned(),
        money: None,
        at: None,
        attributes: attributes.iter().copied().collect(),
    })
}

/// A claim of `quantity` of an article by this account.
pub fn claim(id: &str, account: &str, sku: &str, quantity: i64) -> Question {
    wish(id, "chest", account, &[("sku", Value::Text(sku)), ("qty", Value::Integer(quantity))])
}

/// Coins that this account spends.
pub fn spend(id: &str, account: &str, coins: i64) -> Question {
    wish(id, "spend", account, &[("coins", Value::Integer(coins))])
}

/// Cancels a decision of this policy for this account.
pub fn cancel(id: &str, policy: &str, account: &str, cancels: &str) -> Question {
    wish(id, policy, account, &[("cancels", Value::Text(cancels))])
}

/// An advice of this node: the edge told its client so, alone.
pub fn advice(node: &str, number: u64, question: Question, verdict: Verdict) -> Advice {
    let answer = Decision {
        reasons: vec!["told".to_owned()],
        score: 7,
        cause: Some(Cause::Unavailable),
        stack: "old-prod".to_owned(),
        policy_version: "edge".to_owned(),
        decided_at: Timestamp::from_millis(NOON + 3),
        ..Decision::by(Tier::Edge, question.request.id.clone(), verdict)
    };
    Advice { key: AdviceKey { node: node.to_owned(), epoch: 1, number }, question, answer }
}

pub const fn text(text: &str) -> Value<'_> {
    Value::Text(text)
}

fn sent(request: Request) -> Question {
    Question {
        merchant: "demo".to_owned(),
        test: true,
        numeric_ids: false,
        hash: HashKey::new(&[7; 32]).hash(&request),
        request,
        received_at: Timestamp::from_millis(NOON),
        traceparent: String::new(),
        body: bytes::Bytes::new(),
    }
}
