//! The counts against sums made by hand, and the window and its bounds from both sides.

use bytes::Bytes;
use tokio::time::Instant;

use super::*;
use crate::attributes::Attributes;
use crate::fingerprint::HashKey;
use crate::request::{Money, Request};
use crate::timestamp::Timestamp;

const HOUR: Duration = Duration::from_hours(1);

fn question(merchant: &str, money: Option<(u64, &str)>) -> Question {
    let money = money.map(|(amount, currency)| Money { amount, currency: currency.to_owned() });
    let request = Request {
        id: "txn-1".to_owned(),
        policy: "payment".to_owned(),
        account: "customer-1".to_owned(),
        money,
        at: None,
        attributes: Attributes::default(),
    };
    Question {
        merchant: merchant.to_owned(),
        test: true,
        numeric_ids: false,
        hash: HashKey::new(&[7; 32]).hash(&request),
        request,
        received_at: Timestamp::default(),
        traceparent: String::new(),
        body: Bytes::new(),
    }
}

#[test]
fn a_fallback_agrees_or_errs_in_one_of_three_ways() {
    use Verdict::{Approve, Decline, Review};
    for (fallback, core, expected) in [
        (Approve, Approve, Agreement::Agree),
        (Decline, Decline, Agreement::Agree),
        (Approve, Decline, Agreement::FalseApprove),
        (Approve, Review, Agreement::FalseApprove),
        (Decline, Approve, Agreement::FalseDecline),
        (Review, Approve, Agreement::FalseDecline),
        (Review, Decline, Agreement::Otherwise),
        (Decline, Review, Agreement::Otherwise),
    ] {
        assert_eq!(Agreement::of(fallback, core), expected, "{fallback:?} for {core:?}");
    }
}

#[test]
fn a_band_ends_at_whole_units_of_the_currency() {
    for (amount, currency, expected) in [
        (0, "GBP", "0"),
        (1, "GBP", "<10"),
        (999, "GBP", "<10"),
        (1_000, "GBP", "<50"),
        (5_000, "GBP", "<200"),
        (20_000, "GBP", "<1000"),
        (99_999, "GBP", "<1000"),
        (100_000, "GBP", ">=1000"),
        (9, "JPY", "<10"),
        (10, "JPY", "<50"),
        (9_999, "KWD", "<10"),
        (crate::validity::INTEGER_MAX, "CLF", ">=1000"),
    ] {
        let money = Money { amount, currency: currency.to_owned() };
        assert_eq!(Band::of(Some(&money)).as_str(), expected, "{amount} {currency}");
    }
    assert_eq!(Band::of(None).as_str(), "none");
}

#[test]
fn a_band_is_the_same_word_everywhere() {
    let bands = [Band::NoAmount, Band::Nothing, Band::Over, Band::Any];
    for band in bands.into_iter().chain([Band::Under10, Band::Under50, Band::Under200]) {
        assert_eq!(serde_json::to_value(band).unwrap(), band.as_str());
    }
    assert_eq!(serde_json::to_value(Band::Under1000).unwrap(), Band::Under1000.as_str());
}

#[test]
fn the_share_is_the_share_and_the_same_requests_every_time() {
    let terms = |share_ppm| Terms { share_ppm, window: HOUR, queue_max: 1, cells_max: 1 };
    let hash = |number: u32| {
        let mut bytes = [0; 32];
        // An odd factor visits each number of 32 bits once.
        let spread = number.wrapping_mul(2_654_435_761).to_be_bytes();
        bytes.iter_mut().zip(spread).for_each(|(byte, it)| *byte = it);
        RequestHash::from_bytes(&bytes).unwrap()
    };
    for (share_ppm, expected) in
        [(0, 0..=0), (50_000, 4_950..=5_050), (1_000_000, 100_000..=100_000)]
    {
        let terms = terms(share_ppm);
        let sampled = (0..100_000).filter(|number| terms.sample(&hash(*number))).count();
        assert!(expected.contains(&sampled), "{share_ppm}: {sampled}");
    }
    // What a smaller share takes, a larger one takes too.
    let (small, large) = (terms(1_000), terms(50_000));
    let kept = |number: &u32| !small.sample(&hash(*number)) || large.sample(&hash(*number));
    assert!((0..100_000).all(|number| kept(&number)));
}

#[tokio::test(start_paused = true)]
async fn requests_are_counted_with_their_money_and_forgotten_after_the_window() {
    let (mut scores, start) = (Scores::new(HOUR, 10), Instant::now());
    let payment = question("demo", Some((5_716, "GBP")));
    scores.count(&payment, Agreement::FalseApprove, start);
    scores.count(&payment, Agreement::Agree, start + HOUR / 2);
    let lines = scores.lines(start + HOUR / 2);
    let [Line { cell, counts }] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!((cell.merchant.as_str(), cell.band), ("demo", Band::Under200));
    assert_eq!(counts.false_approve, Sum { count: 1, amount: 5_716 });
    assert_eq!(counts.compared(), Sum { count: 2, amount: 11_432 });
    let ratio = |after| scores.ratios(start + after).get("payment").copied();
    let moment = Duration::from_millis(1);
    assert_eq!(ratio(HOUR.saturating_sub(moment)), Some(0.5));
    assert_eq!(ratio(HOUR), Some(1.0), "the false approval is forgotten");
    assert_eq!(ratio(HOUR + HOUR / 2), None, "and so is the rest");
}

#[tokio::test(start_paused = true)]
async fn cells_past_the_most_of_them_count_as_others_and_the_window_never_holds_more() {
    let (mut scores, start) = (Scores::new(HOUR, 3), Instant::now());
    for slot in 0..12 {
        for merchant in 0..9 {
            let question = question(&format!("m{merchant}"), Some((100, "GBP")));
            scores.count(&question, Agreement::Agree, start + HOUR / 12 * slot);
        }
    }
    assert_eq!(scores.slots.len(), 12);
    let lines = scores.lines(start + HOUR / 12 * 11);
    let names: Vec<&str> = lines.iter().map(|line| line.cell.merchant.as_str()).collect();
    assert_eq!(names, ["m0", "m1", "m2", OTHERS]);
    let others = lines.last().unwrap();
    assert_eq!(others.counts.agree, Sum { count: 72, amount: 0 }, "currencies do not add up");
    scores.count(&question("m0", None), Agreement::Agree, start + HOUR * 3);
    assert_eq!(scores.slots.len(), 1, "old slots are dropped");
}

#[test]
fn a_report_is_flat_json_and_reads_back() {
    let mut cells = Cells::new(10);
    cells.count(&question("demo", Some((5_716, "GBP"))), Agreement::FalseDecline);
    let line = |(cell, counts): (&Cell, &Counts)| Line { cell: cell.clone(), counts: *counts };
    let report = Report {
        tier: Tier::Edge,
        window_s: 3_600,
        share_ppm: 50_000,
        dropped: 0,
        lines: cells.iter().map(line).collect(),
    };
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["tier"], "edge");
    assert_eq!(json["lines"][0]["band"], "<200");
    assert_eq!(json["lines"][0]["false_decline"]["amount"], 5_716);
    assert_eq!(serde_json::from_value::<Report>(json).unwrap(), report);
}
