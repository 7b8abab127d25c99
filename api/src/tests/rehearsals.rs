//! What would be decided: as a decision is made, and apart from it.

use super::*;

impl Pair {
    async fn rehearse(&self, id: &str) -> Answered {
        let mut question = question(&request(id, "payment"));
        *question.uri_mut() = "/v1/rehearsals".parse().unwrap();
        self.send(question).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_says_what_a_decision_would_and_when() {
    for (manner, expected) in [
        (Manner::Decides(ms(299)), tuple("core", "approve", Value::Null, 299)),
        (Manner::Decides(ms(301)), tuple("api", "approve", "deadline", 300)),
        (Manner::Says(ms(3), Code::ResourceExhausted), tuple("api", "approve", "overload", 3)),
        (Manner::Dies, tuple("api", "approve", "unavailable", 0)),
    ] {
        let pair = Pair::new();
        pair.core.set(manner);
        assert_eq!(pair.rehearse("txn-1").await.gist(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_is_no_decision_and_closes_no_way_for_decisions() {
    let pair = Pair::new();
    pair.core.set(Manner::Says(ms(0), Code::Internal));
    for _ in 0..100 {
        pair.rehearse("txn-1").await;
    }
    assert_eq!(pair.rehearse("txn-1").await.json["cause"], "breaker");
    let metrics = pair.tier.render_metrics();
    assert!(!metrics.contains("backstop_decisions_total{"), "{metrics}");
    let series = "backstop_rehearsals_total{cause=\"error\",decided_by=\"api\"}";
    assert!(metrics.contains(series), "{metrics}");
    pair.core.set(Manner::Decides(ms(1)));
    assert_eq!(pair.decide("txn-1").await.gist(), tuple("core", "approve", Value::Null, 1));
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_keeps_the_history_warm_that_the_api_decides_with() {
    let pair = Pair::new();
    let mut history = History::default();
    for _ in 0..2 {
        history.record(Timestamp::from_millis(RECEIVED_AT), 100, Verdict::Approve, None);
    }
    pair.core.show("card:customer-596", history.encode());
    assert_eq!(pair.rehearse("txn-1").await.json["decided_by"], "core");
    pair.core.die();
    assert_eq!(pair.decide("txn-2").await.gist(), tuple("api", "decline", "unavailable", 0));
}

/// Only rehearsals that came back taught how long core takes, so that a core which had become too slow for
/// them was still thought to be quick.
#[tokio::test(start_paused = true)]
async fn a_rehearsal_that_is_cut_teaches_that_core_takes_at_least_as_long() {
    let pair = Pair::with(|config| config.link.learning.samples_min = 1);
    let longest = || pair.tier.core.rehearsing().way().bounds(Instant::now()).max;
    let (cap, learning) =
        (pair.tier.settings.call_time_max, config(Layout::new("nowhere")).link.learning);
    assert_eq!(longest(), learning.prior_max);
    pair.core.set(Manner::Decides(2 * cap));
    assert_eq!(pair.rehearse("txn-1").await.json["cause"], "deadline");
    tokio::time::sleep(2 * cap).await;
    // Of a core that nobody saw come back, anything is to be expected.
    assert_eq!(longest(), learning.ceiling);
}
