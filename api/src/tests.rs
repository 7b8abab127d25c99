//! The api between a false edge and a false core. In paused time the streams are memory, so an answer
//! comes to the millisecond; what sockets do is tested in real time.

mod advices;
mod false_core;
mod fidelity;
mod reconciliation;
mod records;
mod rehearsals;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;
use tower::Service as _;

use backstop_contract::wire::{self, decide_reply::Outcome};
use backstop_contract::{Timestamp, Verdict, header};
use backstop_engine::History;
use backstop_lua::{Bundle, Rules};
use backstop_settings::{Api, Layout, Settings};

use crate::config::Config;
use crate::tier::Tier;
use false_core::{FalseCore, Manner, decision};

/// Two a day are too many; another two that break in their own ways.
const RULES: [(&str, &str); 3] = [
    (
        "policies/payment.lua",
        "return { fields = {}, safe = 'review', strict = false,
           keys = function(tx) return { history = { card = 'card:' .. tx.account }, stock = {} } end,
           decide = function(tx, history)
             local n = history.card:count('24h')
             if n >= 2 then return 'decline', { 'too_many' }, n end
             return 'approve', {}, n
           end }",
    ),
    (
        "policies/lost.lua",
        "return { fields = {}, safe = 'decline', strict = false,
           keys = function(tx) error('which keys?') end,
           decide = function(tx) return 'approve', {}, 0 end }",
    ),
    (
        "policies/endless.lua",
        "return { fields = {}, safe = 'decline', strict = false,
           keys = function(tx) return { history = {}, stock = {} } end,
           decide = function(tx) while true do end end }",
    ),
];

const RECEIVED_AT: i64 = 1_533_081_631_000;
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What the tests run on: a budget of 400 ms, less a reserve of 100, and a cap of 2 s on each call.
/// The sandbox has a real stopwatch, and a machine under load needs more than the usual 5 ms.
fn config(layout: Layout) -> Config {
    let settings = Api { policy_time_max: ms(1_000), ..Settings::default().api };
    let all = Settings {
        api: Api { reserve: ms(100), ..Settings::default().api },
        ..Settings::default()
    };
    let bundle = Bundle::from_texts(RULES).unwrap();
    let rules = Rules::new(bundle, settings.policy_memory_bytes_max).unwrap();
    Config {
        layout,
        stack: "prod".into(),
        settings,
        link: all.to_core(),
        fidelity: all.fidelity.terms(),
        rules: rules.into(),
        network: None,
        beside: false,
    }
}

/// An api and the core behind it, in memory.
struct Pair {
    core: FalseCore,
    tier: Arc<Tier>,
    routes: Router,
}

/// What the edge gets, and after how long.
struct Answered {
    status: u16,
    headers: HeaderMap,
    json: Value,
    after: Duration,
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Who decided what, why, and when.
    fn gist(&self) -> (String, String, Value, u128) {
        assert_eq!(self.status, 200, "{}", self.json);
        let word = |name: &str| self.json[name].as_str().unwrap().to_owned();
        (word("decided_by"), word("decision"), self.json["cause"].clone(), self.after.as_millis())
    }
}

impl Pair {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let core = FalseCore::new();
        let mut config = config(Layout::new("nowhere"));
        change(&mut config);
        let connection = core.connection(config.settings.call_time_max);
        let tier = Arc::new(crate::assemble(config, connection).unwrap());
        Self { core, routes: crate::http::routes(Arc::clone(&tier)), tier }
    }

    async fn send(&self, request: http::Request<Body>) -> Answered {
        let start = Instant::now();
        let response = self.routes.clone().call(request).await.unwrap();
        let after = start.elapsed();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answered { status: head.status.as_u16(), headers: head.headers, json, after }
    }

    async fn decide(&self, id: &str) -> Answered {
        self.send(question(&request(id, "payment"))).await
    }

    /// Lets the clock run until nothing is under way any more; how long that took.
    async fn rest(&self) -> Duration {
        let start = Instant::now();
        for _ in 0..10_000 {
            if self.tier.core.calls_in_flight() == 0 {
                return start.elapsed();
            }
            tokio::time::sleep(ms(1)).await;
        }
        panic!("calls are still under way after 10 s");
    }
}

fn request(id: &str, policy: &str) -> Value {
    json!({ "id": id, "policy": policy, "account": "customer-596", "amount": 5716,
            "currency": "GBP", "attributes": {} })
}

/// A question as the edge puts it, with a test key.
fn question(body: &Value) -> http::Request<Body> {
    asking(Method::POST, "/v1/decisions")
        .header(header::TEST, "true")
        .header(header::RECEIVED_AT, RECEIVED_AT.to_string())
        .header(header::REQUEST_HASH, "ab".repeat(32))
        .header(header::BUDGET, "400")
        .header(header::TRACEPARENT, TRACE)
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn asking(method: Method, path: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path).header(header::MERCHANT, "demo")
}

fn replies(outcome: Option<Outcome>) -> Manner {
    Manner::Replies(Box::new(wire::DecideReply { outcome, history: Vec::new() }))
}

fn tuple(
    tier: &str,
    verdict: &str,
    cause: impl Into<Value>,
    after: u128,
) -> (String, String, Value, u128) {
    (tier.into(), verdict.into(), cause.into(), after)
}

#[tokio::test(start_paused = true)]
async fn a_core_in_time_is_believed_and_told_all_that_the_edge_told() {
    let pair = Pair::new();
    pair.core.set(Manner::Decides(ms(299)));
    let answer = pair.decide("txn-1").await;
    assert_eq!(answer.gist(), tuple("core", "approve", Value::Null, 299));
    assert_eq!(answer.json["score"], 7);
    assert_eq!(answer.json["reasons"], json!(["fine"]));
    assert_eq!(answer.json["final"], true);
    assert_eq!(answer.json["durable"], true);
    assert_eq!(answer.json["effects"], json!({ "stock": { "sku:85123A": 41 }, "balance": {} }));
    assert_eq!(answer.json["budget_ms"], 400);
    assert_eq!(answer.json["elapsed_ms"], 299.0);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header(header::DECIDED_BY), Some("core"));
    assert_eq!(answer.header(header::SERVER_TIMING), Some("core;dur=299.000, api;dur=299.000"));
    assert_eq!(answer.header(header::TRACEPARENT), Some(TRACE));
    assert_eq!(answer.header(header::REPLAYED), None);

    let (asked, timeout_micros) = pair.core.asked().remove(0);
    assert_eq!(timeout_micros, 300_000);
    assert_eq!((asked.merchant.as_str(), asked.test), ("demo", true));
    assert_eq!((asked.received_at, asked.request_hash), (RECEIVED_AT, vec![0xab; 32]));
    assert_eq!(asked.transaction.unwrap().account, "customer-596");
}

#[tokio::test(start_paused = true)]
async fn a_late_core_is_answered_for_on_time_and_goes_on() {
    let pair = Pair::new();
    pair.core.set(Manner::Decides(ms(301)));
    let answer = pair.decide("txn-1").await;
    assert_eq!(answer.gist(), tuple("api", "approve", "deadline", 300));
    assert_eq!((&answer.json["final"], &answer.json["durable"]), (&json!(false), &json!(false)));
    assert_eq!(answer.json["policy_version"], pair.tier.rules.load().live().version());
    assert_eq!(answer.json["stack"], "prod");
    assert_eq!(answer.header(header::DECIDED_BY), Some("api"));
    assert_eq!(answer.header(header::SERVER_TIMING), Some("core;dur=300.000, api;dur=300.000"));
    assert_eq!(pair.tier.core.calls_in_flight(), 1, "walking away cancels nothing");
    pair.rest().await;
}

#[tokio::test(start_paused = true)]
async fn a_core_that_cannot_is_answered_for_at_once_with_the_cause() {
    let garbage = |change: fn(&mut wire::Decision)| {
        let mut wrong = decision("txn-1");
        change(&mut wrong);
        let outcome = Some(Outcome::Decision(wrong));
        replies(outcome)
    };
    let cases = [
        (Manner::Says(ms(3), Code::DeadlineExceeded), "deadline", 3),
        (Manner::Says(ms(3), Code::Unavailable), "unavailable", 3),
        (Manner::Says(ms(3), Code::ResourceExhausted), "overload", 3),
        (Manner::Says(ms(3), Code::Internal), "error", 3),
        (Manner::Says(ms(3), Code::Unknown), "error", 3),
        (Manner::Says(ms(3), Code::Unimplemented), "error", 3),
        (Manner::Says(ms(3), Code::Ok), "error", 3),
        (replies(None), "error", 0),
        (garbage(|wrong| wrong.decision = "perhaps".into()), "error", 0),
        (garbage(|wrong| wrong.id = "txn-2".into()), "error", 0),
        (Manner::Dies, "unavailable", 0),
    ];
    for (place, (manner, cause, after)) in cases.into_iter().enumerate() {
        let pair = Pair::new();
        pair.core.set(manner);
        let gist = pair.decide("txn-1").await.gist();
        assert_eq!(gist, tuple("api", "approve", cause, after), "case {place}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_core_that_is_gone_is_known_at_once_and_used_again_at_once() {
    let pair = Pair::new();
    for round in ["a", "b"] {
        pair.core.set(Manner::Decides(ms(1)));
        let alive = pair.decide(round).await;
        assert_eq!(alive.gist(), tuple("core", "approve", Value::Null, 1), "{round}");
        pair.core.die();
        let gone = pair.decide(round).await;
        assert_eq!(gone.gist(), tuple("api", "approve", "unavailable", 0), "{round}");
        pair.core.come_back();
    }
}

#[tokio::test(start_paused = true)]
async fn a_core_that_stands_still_holds_no_call_longer_than_the_cap() {
    let pair = Pair::with(|config| config.settings.calls_max = 2);
    pair.core.set(Manner::Decides(ms(3_600_000)));
    for id in ["a", "b"] {
        assert_eq!(pair.decide(id).await.gist(), tuple("api", "approve", "deadline", 300));
    }
    assert_eq!(pair.decide("c").await.gist(), tuple("api", "approve", "overload", 0));
    let metrics = pair.tier.render_metrics();
    assert!(metrics.contains("backstop_calls_in_flight{operation=\"core\"} 2"), "{metrics}");
    // The later of the two was asked 300 ms ago; calls past their time are looked for every 200 ms.
    let rest = pair.rest().await;
    assert!((ms(1_700)..=ms(1_901)).contains(&rest), "{rest:?}");
    pair.core.set(Manner::Decides(ms(0)));
    assert_eq!(pair.decide("d").await.gist(), tuple("core", "approve", Value::Null, 0));
}

#[tokio::test(start_paused = true)]
async fn the_cap_cuts_no_call_that_somebody_waits_for() {
    let pair = Pair::with(|config| config.settings.call_time_max = ms(100));
    pair.core.set(Manner::Decides(ms(299)));
    assert_eq!(pair.decide("txn-1").await.gist(), tuple("core", "approve", Value::Null, 299));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fell_silent_is_given_up_for_a_new_one() {
    let pair = Pair::new();
    pair.core.stand_still(true);
    let start = Instant::now();
    let mut causes = Vec::new();
    while start.elapsed() < ms(5_000) {
        causes.push(pair.decide("txn-1").await.gist().2);
    }
    let broken = causes.iter().position(|cause| cause == "unavailable").unwrap();
    assert_eq!(broken as u128, 4_000 / 300, "a silence, a ping, and a silence");
    assert!(causes.iter().enumerate().all(|(at, cause)| at == broken || cause == "deadline"));
    assert_eq!(pair.core.held(), 2);
    pair.core.stand_still(false);
    pair.decide("the last on the silent one").await;
    tokio::time::sleep(ms(4_000)).await;
    assert_eq!(pair.decide("new").await.gist(), tuple("core", "approve", Value::Null, 0));
}

#[tokio::test(start_paused = true)]
async fn the_history_last_seen_decides_when_core_is_gone() {
    let history = |times: usize| {
        let mut history = History::default();
        for _ in 0..times {
            history.record(Timestamp::from_millis(RECEIVED_AT - 1000), 100, Verdict::Approve, None);
        }
        history.encode()
    };
    let pair = Pair::new();
    pair.core.show("card:customer-596", history(2));
    pair.core.set(Manner::Decides(ms(0)));
    pair.decide("seen").await;

    pair.core.set(Manner::Says(ms(0), Code::Unavailable));
    let answer = pair.decide("alone").await;
    assert_eq!(answer.gist(), tuple("api", "decline", "unavailable", 0));
    assert_eq!((&answer.json["score"], &answer.json["reasons"]), (&json!(2), &json!(["too_many"])));
    let again = pair.decide("alone-again").await;
    assert_eq!(again.json["score"], 2, "what stood in is core's to count, when it settles");

    let mut elsewhere = question(&request("other", "payment"));
    elsewhere.headers_mut().insert(header::MERCHANT, "another".parse().unwrap());
    assert_eq!(pair.send(elsewhere).await.gist(), tuple("api", "approve", "unavailable", 0));

    // A reply that comes too late for its own request still teaches.
    pair.core.show("card:customer-596", history(5));
    pair.core.set(Manner::Decides(ms(400)));
    assert_eq!(pair.decide("late").await.json["score"], 2);
    pair.rest().await;
    pair.core.set(Manner::Says(ms(0), Code::Unavailable));
    assert_eq!(pair.decide("after").await.json["score"], 5);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_breaks_gives_its_safe_answer_and_is_the_cause() {
    let pair = Pair::new();
    pair.core.die();
    for policy in ["lost", "endless"] {
        let answer = pair.send(question(&request("txn-1", policy))).await;
        assert_eq!(answer.gist().0, "api", "{policy}");
        assert_eq!(answer.json["decision"], "decline", "{policy}");
        assert_eq!(answer.json["cause"], "error", "{policy}");
        assert_eq!(answer.json["reasons"], json!(["safe_answer"]), "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_test_key_may_force_the_api_and_core_is_not_asked() {
    let pair = Pair::new();
    let mut body = request("txn-1", "payment");
    body["attributes"] = json!({ "backstop_force": "api" });
    let answer = pair.send(question(&body)).await;
    assert_eq!(answer.gist(), tuple("api", "approve", "forced", 0));
    assert_eq!(answer.header(header::SERVER_TIMING), Some("api;dur=0.000"));
    assert!(pair.core.asked().is_empty());

    let mut live = question(&body);
    live.headers_mut().remove(header::TEST);
    assert_eq!(pair.send(live).await.status, 400);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_was_used_for_another_body_is_refused() {
    let pair = Pair::new();
    let outcome = Some(Outcome::IdReused(wire::IdReused {}));
    pair.core.set(replies(outcome));
    let answer = pair.decide("txn-1").await;
    assert_eq!((answer.status, &answer.json["pointer"]), (422, &json!("/id")));
    assert_eq!(answer.json["type"], "urn:backstop:problem:id-reused");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[tokio::test(start_paused = true)]
async fn an_earlier_answer_says_that_it_is_one() {
    let pair = Pair::new();
    let mut earlier = decision("txn-1");
    earlier.replayed = true;
    let outcome = Some(Outcome::Decision(earlier));
    pair.core.set(replies(outcome));
    let answer = pair.decide("txn-1").await;
    assert_eq!(answer.gist(), tuple("core", "approve", Value::Null, 0));
    assert_eq!(answer.header(header::REPLAYED), Some("true"));
}

#[tokio::test(start_paused = true)]
async fn what_the_client_must_change_is_refused_without_asking_core() {
    let pair = Pair::new();
    let mut negative = request("txn-1", "payment");
    negative["amount"] = json!(-1);
    for (body, status) in [
        (json!([]), 400),
        (negative, 400),
        (request("txn-1", "unheard"), 422),
        (request(&"x".repeat(300_000), "payment"), 413),
    ] {
        let answer = pair.send(question(&body)).await;
        assert_eq!((answer.status, answer.json["status"].as_u64()), (status, Some(status.into())));
    }
    let mut hopless = question(&request("txn-1", "payment"));
    hopless.headers_mut().remove(header::REQUEST_HASH);
    assert_eq!(pair.send(hopless).await.status, 400);
    assert!(pair.core.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn answers_are_counted_by_who_what_why_and_where() {
    let pair = Pair::new();
    pair.decide("a").await;
    pair.core.die();
    pair.decide("b").await;
    let request = http::Request::get("/metrics").body(Body::empty()).unwrap();
    assert_eq!(pair.send(request).await.status, 200);
    let text = pair.tier.render_metrics();
    let counted = |by: &str, cause: &str| {
        format!(
            "backstop_decisions_total{{cause=\"{cause}\",decided_by=\"{by}\",\
             decision=\"approve\",stack=\"prod\"}} 1"
        )
    };
    for line in [
        counted("core", "none"),
        counted("api", "unavailable"),
        "backstop_decision_seconds_count{tier=\"api\"} 2".into(),
        "backstop_timeout_seconds{bound=\"min\",operation=\"core.decide\"} 0.005".into(),
        "backstop_timeout_seconds{bound=\"max\",operation=\"core.decide\"} 1".into(),
    ] {
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}
