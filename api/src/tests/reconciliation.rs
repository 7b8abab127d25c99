//! Statements, and the records of an upload, over HTTP.

use backstop_contract::reconciliation::{IDS_MAX, Ids, Record, Records, Statement};

use super::*;

fn get(path: &str) -> http::Request<Body> {
    asking(Method::GET, path).body(Body::empty()).unwrap()
}

fn look_up(body: impl Into<Body>) -> http::Request<Body> {
    asking(Method::POST, "/v1/records").body(body.into()).unwrap()
}

fn record() -> wire::Record {
    wire::Record {
        decision: Some(decision("txn-1")),
        settlement: "overridden".into(),
        fraud: None,
        money: Some(wire::Money { amount: 500, currency: "GBP".into() }),
        decided_first: "decline".into(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_is_what_core_says_of_the_merchant_and_span() {
    let pair = Pair::new();
    let line = wire::StatementLine {
        kind: "corrected".into(),
        id: "txn-1".into(),
        told: "approve".into(),
        decided_by: "edge".into(),
        decided_first: "decline".into(),
        ..wire::StatementLine::default()
    };
    pair.core.state(wire::StatementReply { lines: vec![line], ..Default::default() });
    let answer = pair.send(get("/v1/reconciliation?from=2018-08-01&to=2018-08-02")).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let statement: Statement = serde_json::from_value(answer.json).unwrap();
    assert_eq!((statement.merchant.as_str(), statement.lines.len()), ("demo", 1));
    let asked = pair.core.spans().remove(0);
    assert_eq!((asked.merchant.as_str(), asked.lines_max), ("demo", 10_000));
    assert_eq!((asked.from, asked.to), (1_533_081_600_000, 1_533_168_000_000));

    let wrong = pair.send(get("/v1/reconciliation?from=soon")).await;
    assert_eq!((wrong.status, pair.core.spans().len()), (400, 1));
}

#[tokio::test(start_paused = true)]
async fn records_are_those_that_core_has_of_the_merchants_ids() {
    let pair = Pair::new();
    pair.core.keep(record());
    let ids = Ids { ids: vec!["txn-1".into(), "txn-2".into()] };
    let answer = pair.send(look_up(ids.to_json())).await;
    assert_eq!(answer.status, 200, "{}", answer.json);
    let records: Records = serde_json::from_value(answer.json).unwrap();
    assert_eq!(records.records, [Record::try_from(record()).unwrap()]);
    let asked = pair.core.lookups().remove(0);
    assert_eq!((asked.merchant.as_str(), &asked.ids), ("demo", &ids.ids));

    let many = |many: usize| Ids { ids: vec!["é".repeat(128); many] }.to_json();
    assert_eq!(pair.send(look_up(many(IDS_MAX + 1))).await.status, 400);
    assert_eq!(pair.core.lookups().len(), 1);
    assert_eq!(pair.send(look_up(many(IDS_MAX))).await.status, 200);
    let calls: Vec<usize> = pair.core.lookups().iter().map(|call| call.ids.len()).collect();
    assert_eq!(calls, [2, IDS_MAX]);
}

#[tokio::test(start_paused = true)]
async fn the_largest_answers_of_core_are_read() {
    let pair = Pair::new();
    let line = wire::StatementLine {
        kind: "corrected".into(),
        id: "é".repeat(128),
        told: "approve".into(),
        why: "x".repeat(200),
        ..wire::StatementLine::default()
    };
    pair.core.state(wire::StatementReply { lines: vec![line; 10_000], ..Default::default() });
    let answer = pair.send(get("/v1/reconciliation")).await;
    assert_eq!(answer.json["lines"].as_array().map(Vec::len), Some(10_000));
}

#[tokio::test(start_paused = true)]
async fn without_core_or_sense_there_is_no_statement_and_no_records() {
    let pair = Pair::new();
    let ask = async || {
        let statement = pair.send(get("/v1/reconciliation")).await;
        [statement, pair.send(look_up(r#"{"ids":["txn-1"]}"#)).await]
    };
    let senseless = wire::StatementLine::default();
    pair.core.state(wire::StatementReply { lines: vec![senseless], ..Default::default() });
    pair.core.keep(wire::Record { decision: None, ..record() });
    for _again in 0..2 {
        for answer in ask().await {
            assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        }
        pair.core.die();
    }
    let mut nobody = get("/v1/reconciliation");
    nobody.headers_mut().remove(header::MERCHANT);
    assert_eq!(pair.send(nobody).await.status, 400);
}
