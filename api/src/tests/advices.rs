//! Advices on their way from edge to core: what is passed on, what is refused, and what else goes on
//! meanwhile.

use std::task::Poll;

use backstop_contract::advice::ADVICES_BYTES_MAX;
use backstop_contract::{Decision, Tier as DecidedBy};

use super::*;

/// An advice whose request is `body`, answered by the edge.
fn advice(number: u64, body: &Value) -> Value {
    let id = body["id"].as_str().unwrap_or_default().to_owned();
    let answer = Decision::by(DecidedBy::Edge, id, Verdict::Approve);
    json!({ "epoch": 3, "number": number, "merchant": format!("shop-{number}"), "test": false,
            "numeric_ids": false, "received_at": "2018-08-01T00:00:31.000Z", "hash": "ab".repeat(32),
            "request": body, "answer": answer })
}

fn sound(number: u64) -> Value {
    advice(number, &request(&format!("txn-{number}"), "payment"))
}

fn message(advices: &[Value]) -> http::Request<Body> {
    let body = json!({ "node": "node-1", "advices": advices }).to_string();
    http::Request::post("/v1/advices").body(Body::from(body)).unwrap()
}

/// Each outcome as `number word why`.
fn outcomes(answer: &Answered) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.json);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = |settled: &Value| {
        assert_eq!(settled["epoch"], 3);
        let (outcome, why) = (text(&settled["outcome"]), text(&settled["why"]));
        format!("{} {outcome} {why}", settled["number"]).trim_end().to_owned()
    };
    answer.json["settled"].as_array().unwrap().iter().map(shown).collect()
}

/// The numbers in each call of core.
fn calls(pair: &Pair) -> Vec<Vec<u64>> {
    let numbers = |call: &wire::SettleRequest| call.advices.iter().map(|it| it.number).collect();
    pair.core.settled().iter().map(numbers).collect()
}

#[tokio::test(start_paused = true)]
async fn advices_reach_core_as_the_edge_wrote_them_down() {
    let pair = Pair::new();
    let answer = pair.send(message(&[sound(1), sound(2)])).await;
    assert_eq!(outcomes(&answer), ["1 applied", "2 applied"]);
    let call = pair.core.settled().remove(0);
    assert_eq!((call.node.as_str(), call.advices.len()), ("node-1", 2));
    let advice = &call.advices[1];
    assert_eq!((advice.epoch, advice.number), (3, 2));
    let asked = advice.request.clone().unwrap();
    assert_eq!((asked.merchant.as_str(), asked.test), ("shop-2", false));
    assert_eq!((asked.received_at, asked.request_hash), (RECEIVED_AT, vec![0xab; 32]));
    assert_eq!(asked.transaction.unwrap().money.unwrap().amount, 5716);
    let answer = advice.answer.clone().unwrap();
    assert_eq!((answer.decision.as_str(), answer.decided_by.as_str()), ("approve", "edge"));
    let metrics = pair.tier.render_metrics();
    assert!(metrics.contains("backstop_advices_total{outcome=\"applied\"} 2"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn of_one_that_makes_no_sense_core_gets_the_number_and_the_others_whole() {
    let pair = Pair::new();
    let mut late = request("txn-5", "payment");
    late["at"] = json!("2018-08-01T00:00:00Z");
    let mut negative = request("txn-3", "payment");
    negative["amount"] = json!(-1);
    let mut other = sound(4);
    other["answer"]["id"] = json!("txn-9");
    let mut no_answer = sound(6);
    no_answer["answer"] = json!({});
    let card = advice(7, &request("4111111111111111", "payment"));
    let mut numeric = card.clone();
    numeric["numeric_ids"] = json!(true);
    numeric["number"] = json!(8);
    let advices = [
        sound(1),
        // Core says whether it needs the policy.
        advice(2, &request("txn-2", "unheard")),
        advice(3, &negative),
        other,
        advice(5, &late),
        no_answer,
        card,
        numeric,
    ];
    let answer = pair.send(message(&advices)).await;
    let expected = [
        "1 applied",
        "2 applied",
        "3 refused senseless",
        "4 refused senseless",
        "5 applied",
        "6 refused senseless",
        "7 refused senseless",
        "8 applied",
    ];
    assert_eq!(outcomes(&answer), expected);
    assert_eq!(calls(&pair), [[1, 2, 3, 4, 5, 6, 7, 8]]);
    let metrics = pair.tier.render_metrics();
    assert!(metrics.contains("backstop_advices_total{outcome=\"refused\"} 4"), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn a_whole_message_is_one_call_and_what_core_left_out_is_left_out() {
    let pair = Pair::new();
    let advices: Vec<Value> = (1..=256).map(sound).collect();
    pair.core.settle(ms(0), usize::MAX, 200);
    assert_eq!(outcomes(&pair.send(message(&advices)).await).len(), 200);
    assert_eq!(calls(&pair), [(1..=256).collect::<Vec<u64>>()]);
}

#[tokio::test(start_paused = true)]
async fn a_core_out_of_reach_is_503_to_be_asked_again() {
    let pair = Pair::new();
    pair.core.settle(ms(0), 0, usize::MAX);
    for _again in 0..2 {
        let answer = pair.send(message(&[sound(1)])).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        assert_eq!(answer.json["type"], "urn:backstop:problem:unavailable");
        pair.core.die();
    }
}

#[tokio::test(start_paused = true)]
async fn a_core_that_settles_slowly_is_waited_for_to_an_end() {
    let pair = Pair::new();
    pair.core.settle(ms(7_999), usize::MAX, usize::MAX);
    assert_eq!(outcomes(&pair.send(message(&[sound(1)])).await), ["1 applied"]);
    pair.core.settle(ms(8_001), usize::MAX, usize::MAX);
    let answer = pair.send(message(&[sound(1)])).await;
    assert_eq!((answer.status, answer.after), (503, ms(8_000)));
    let mut hurried = message(&[sound(1)]);
    hurried.headers_mut().insert(header::BUDGET, "50".parse().unwrap());
    let answer = pair.send(hurried).await;
    assert_eq!((answer.status, answer.after), (503, ms(50)));
}

#[tokio::test(start_paused = true)]
async fn messages_take_turns_and_decisions_pass_them_all() {
    let pair = Pair::new();
    pair.core.settle(ms(1_000), usize::MAX, usize::MAX);
    let sent = Instant::now();
    let settled = async |number| {
        let answer = pair.send(message(&[sound(number)])).await;
        (outcomes(&answer).len(), sent.elapsed().as_millis())
    };
    let decided = async {
        tokio::time::sleep(ms(500)).await;
        pair.decide("live").await.gist()
    };
    let (a, b, c, d, fifth, live) =
        tokio::join!(settled(1), settled(2), settled(3), settled(4), settled(5), decided);
    assert_eq!([a, b, c, d], [(1, 1_000); 4]);
    assert_eq!(fifth, (1, 2_000), "it waited for a place");
    assert_eq!(live, tuple("core", "approve", Value::Null, 0));
}

#[tokio::test(start_paused = true)]
async fn a_long_message_gives_way_while_it_is_read() {
    let pair = Pair::new();
    let advices: Vec<Value> = (1..=256).map(sound).collect();
    let mut turns = 0;
    let others = std::future::poll_fn(|_| {
        turns += 1;
        Poll::<()>::Pending
    });
    tokio::select! {
        biased;
        answer = pair.send(message(&advices)) => assert_eq!(outcomes(&answer).len(), 256),
        () = others => unreachable!("it never ends"),
    }
    assert!(turns >= 256 / 8, "others had only {turns} turns");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_of_advices_is_refused() {
    let pair = Pair::new();
    let too_many: Vec<Value> = (1..=257).map(sound).collect();
    assert_eq!(pair.send(message(&too_many)).await.json["pointer"], "/advices");
    for body in ["", "[]", r#"{"node":"n"}"#, r#"{"node":"n","advices":[{}]}"#] {
        let request = http::Request::post("/v1/advices").body(Body::from(body)).unwrap();
        assert_eq!(pair.send(request).await.status, 400, "{body}");
    }
    // A full message and the largest advice there may be; and one byte more.
    let bytes_max = ADVICES_BYTES_MAX + pair.tier.settings.body_bytes_max + 64 * 1024;
    for (bytes, status) in [(bytes_max, 400), (bytes_max + 1, 413)] {
        let body = Body::from(" ".repeat(bytes));
        let request = http::Request::post("/v1/advices").body(body).unwrap();
        assert_eq!(pair.send(request).await.status, status, "{bytes}");
    }
    assert!(pair.core.settled().is_empty());
}
