//! The record of a decision and its label, over HTTP.

use super::*;

fn record(settlement: &str, fraud: Option<bool>) -> wire::Record {
    let decision = Some(decision("txn/1 ü"));
    wire::Record { decision, settlement: settlement.into(), fraud, ..wire::Record::default() }
}

fn get(path: &str) -> http::Request<Body> {
    asking(Method::GET, path).body(Body::empty()).unwrap()
}

fn label(path: &str, body: &'static str) -> http::Request<Body> {
    asking(Method::POST, path).body(Body::from(body)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_record_is_the_decision_with_its_settlement_and_label() {
    let pair = Pair::new();
    for (fraud, shown) in [(None, Value::Null), (Some(true), json!({ "fraud": true }))] {
        pair.core.keep(record("decided", fraud));
        let answer = pair.send(get("/v1/decisions/txn%2F1%20%C3%BC")).await;
        assert_eq!(answer.gist().1, "approve");
        assert_eq!(answer.json["id"], "txn/1 ü");
        assert_eq!(answer.json["settlement"], json!({ "state": "decided" }));
        assert_eq!(answer.json["label"], shown);
    }
    let corrected = wire::Record { decided_first: "decline".into(), ..record("overridden", None) };
    pair.core.keep(corrected);
    let answer = pair.send(get("/v1/decisions/txn%2F1%20%C3%BC")).await;
    let settlement = json!({ "state": "overridden", "decided_first": "decline" });
    assert_eq!(answer.json["settlement"], settlement);
    let asked = pair.core.finds().remove(0);
    assert_eq!((asked.merchant.as_str(), asked.id.as_str()), ("demo", "txn/1 ü"));
}

#[tokio::test(start_paused = true)]
async fn a_label_is_put_on_the_decision_that_the_path_names() {
    let pair = Pair::new();
    pair.core.keep(record("decided", None));
    let path = "/v1/decisions/txn%2F1%20%C3%BC/label";
    assert_eq!(pair.send(label(path, r#"{"fraud": true}"#)).await.status, 204);
    let labels = pair.core.labels();
    let expected =
        wire::LabelRequest { merchant: "demo".into(), id: "txn/1 ü".into(), fraud: true };
    assert_eq!(labels, [expected]);
    assert_eq!(pair.send(label(path, r#"{"fraud": 1}"#)).await.status, 400);
    assert_eq!(pair.core.labels().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_id_is_404_and_a_core_out_of_reach_503_to_be_asked_again() {
    let pair = Pair::new();
    let ask = async || {
        let found = pair.send(get("/v1/decisions/txn-1")).await;
        let labelled = pair.send(label("/v1/decisions/txn-1/label", r#"{"fraud": false}"#)).await;
        [found, labelled]
    };
    for answer in ask().await {
        assert_eq!((answer.status, answer.header("retry-after")), (404, None));
    }
    // No decision can have an id that is not UTF-8.
    assert_eq!(pair.send(get("/v1/decisions/%FF")).await.status, 404);
    pair.core.die();
    for answer in ask().await {
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json["type"], "urn:backstop:problem:unavailable");
        assert_eq!(answer.after, ms(0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_route_or_method_that_is_not_there_says_what_is() {
    let pair = Pair::new();
    for (method, path, status, allow) in [
        (Method::GET, "/v1/decisions", 405, Some("POST")),
        (Method::DELETE, "/v1/decisions/txn-1", 405, Some("GET")),
        (Method::GET, "/v1/decisions/txn-1/label", 405, Some("POST")),
        (Method::POST, "/metrics", 405, Some("GET")),
        (Method::GET, "/v1/decisions/", 404, None),
        (Method::GET, "/v2/decisions", 404, None),
    ] {
        let answer = pair.send(asking(method, path).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    assert_eq!(pair.send(get("/healthz")).await.status, 200);
}
