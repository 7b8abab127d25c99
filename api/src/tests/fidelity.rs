//! What core decided is put to the fallback too, which knows no more of it than it would have.

use backstop_contract::fidelity::{Counts, Report};

use super::*;

/// An api that puts all that core decides to its fallback.
fn measuring() -> Pair {
    Pair::with(|config| config.fidelity.share_ppm = 1_000_000)
}

impl Pair {
    /// What was counted, once that many were compared. They are on a thread, which no paused clock moves.
    fn counted(&self, compared: u64) -> Counts {
        for _ in 0..10_000 {
            let mut all = Counts::default();
            self.tier.fidelity.report().lines.iter().for_each(|line| all.add(&line.counts));
            if all.compared().count >= compared {
                return all;
            }
            std::thread::sleep(ms(1));
        }
        panic!("{compared} were not compared in ten seconds");
    }
}

/// History as core shows it after that many payments.
fn after(payments: usize) -> Vec<u8> {
    let mut history = History::default();
    for _ in 0..payments {
        history.record(Timestamp::from_millis(RECEIVED_AT - 1000), 100, Verdict::Approve, None);
    }
    history.encode()
}

#[tokio::test(start_paused = true)]
async fn the_fallback_is_tried_with_the_history_seen_before_the_answer_that_it_is_compared_with() {
    // The core of these tests approves all; the policy declines the third payment of a day.
    let pair = measuring();
    pair.core.show("card:customer-596", after(2));
    assert_eq!(pair.decide("txn-2").await.json["decided_by"], "core");
    let counts = pair.counted(1);
    assert_eq!(counts.agree.count, 1, "nothing was known: {counts:?}");
    pair.core.show("card:customer-596", after(3));
    assert_eq!(pair.decide("txn-3").await.json["decided_by"], "core");
    let counts = pair.counted(2);
    assert_eq!((counts.false_decline.count, counts.false_decline.amount), (1, 5716), "{counts:?}");

    let metrics = pair.tier.render_metrics();
    let line = "backstop_fidelity_ratio{policy=\"payment\",tier=\"api\"} 0.5";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(start_paused = true)]
async fn what_core_did_not_decide_just_now_is_not_compared() {
    let pair = measuring();
    pair.core.set(Manner::Says(ms(0), Code::Internal));
    assert_eq!(pair.decide("stood-in-for").await.json["decided_by"], "api");
    let mut repeated = decision("repeated");
    repeated.replayed = true;
    pair.core.set(replies(Some(Outcome::Decision(repeated))));
    assert_eq!(pair.decide("repeated").await.json["decided_by"], "core");
    pair.core.set(Manner::Decides(ms(0)));
    // What waits is compared in turn, so this one comes last.
    pair.send(question(&request("compared", "lost"))).await;
    pair.counted(1);
    let lines = pair.tier.fidelity.report().lines;
    assert_eq!(lines.iter().map(|it| it.cell.policy.as_str()).collect::<Vec<_>>(), ["lost"]);
}

#[tokio::test(start_paused = true)]
async fn the_edge_reads_the_figures_and_none_are_made_where_the_share_is_nothing() {
    for (share_ppm, expected) in [(1_000_000, 1), (0, 0)] {
        let pair = Pair::with(|config| config.fidelity.share_ppm = share_ppm);
        assert_eq!(pair.decide("txn-1").await.json["decided_by"], "core");
        pair.counted(expected);
        let path = asking(Method::GET, "/admin/fidelity").body(Body::empty()).unwrap();
        let answer = pair.send(path).await;
        let report: Report = serde_json::from_value(answer.json).unwrap();
        assert_eq!((answer.status, report.share_ppm), (200, share_ppm));
        assert_eq!(report.lines.len() as u64, expected);
    }
}
