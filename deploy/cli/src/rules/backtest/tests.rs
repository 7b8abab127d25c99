//! Backtests of a few lines, against sums made by hand.

use std::fs;
use std::path::Path;

use backstop_contract::fidelity::{Band, Cells};
use backstop_lua::Slices;
use serde_json::Value as Json;

use super::*;

const POLICY: &str = "return { fields = { 'terminal' }, safe = 'review', strict = false,
  keys = function(tx) return { history = { terminal = 'terminal:' .. tostring(tx.terminal), same = 'terminal:' .. tostring(tx.terminal) } } end,
  decide = function(tx, history)
    if history.terminal:count('7d') ~= history.same:count('7d') then return 'review' end
    if history.terminal:frauds('7d') > 0 then return 'decline' end
    if history.terminal:count('7d') >= LIMIT then return 'review' end
    return 'approve'
  end }";
const DEFAULT: &str =
    "return { fields = {}, safe = 'review', decide = function() return 'approve' end }";
const HEADER: &str = "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario\n";

fn rules(limit: &str) -> Rules {
    let policy = POLICY.replace("LIMIT", limit);
    let texts = [("policies/payment.lua", policy.as_str()), ("defaults/payment.lua", DEFAULT)];
    Rules::new(Bundle::from_texts(texts).unwrap(), 8 << 20).unwrap()
}

/// The tally of a text against rules with another limit.
fn tally(text: &str, old: Option<&str>, words: &[&str]) -> Tally {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let path = file.path().display().to_string();
    let line = ["backtest", &path].into_iter().chain(words.iter().copied());
    let args = <Cli as clap::Parser>::parse_from(line).args;
    let slices = Slices { policy: Duration::from_secs(1), default: Duration::from_secs(1) };
    let limits = Limits { slices, memory_bytes_max: 8 << 20, history_entries_max: 1_000 };
    let seat = |limit| {
        Seat::begin(Player::new(rules(limit), limits, args.labels_after, args.from, args.stock))
    };
    let (new, old) = (seat("99").unwrap(), old.map(|limit| seat(limit).unwrap()));
    let mut tally = Tally::new("new", "old", "old".to_owned());
    let mut requests = Requests::open(file.path(), args.until, args.limit).unwrap();
    play(&mut requests, &new, old.as_ref(), &args, &mut tally).unwrap();
    tally
}

fn agreed(cells: &Cells) -> u64 {
    cells.iter().map(|(_, counts)| counts.agree.count).sum()
}

/// One transaction an hour at one terminal; the first is fraud.
fn hourly(rows: u64) -> String {
    (0..rows).fold(HEADER.to_owned(), |text, row| {
        let (day, hour) = (row / 24 + 1, row % 24);
        let fraud = u8::from(row == 0);
        text + &format!("{row},2018-08-{day:02}T{hour:02}:00:00Z,1,2,10.00,{fraud},0\n")
    })
}

#[test]
fn what_changed_is_counted_with_its_money_and_named() {
    let tally = tally(&hourly(10), Some("6"), &[]);
    assert_eq!((tally.read, tally.judged, tally.changed, tally.broke), (10, 10, 4, 0));
    let sum = &tally.flips[&("review", "approve")];
    assert_eq!((sum.count, sum.money["GBP"]), (4, 4_000));
    assert_eq!(tally.merchants["demo"].count, 4);
    assert_eq!(tally.bands[&Band::Under50].count, 4, "10.00 is not under 10");
    let ids: Vec<&str> = tally.sample.iter().map(|changed| changed.id.as_str()).collect();
    assert_eq!(ids, ["txn-6", "txn-7", "txn-8", "txn-9"]);
    let text = tally.shown(Path::new("a.csv"));
    assert!(text.contains("review -> approve") && text.contains("40.00 GBP"), "{text}");
    let json: Json = serde_json::from_str(&tally.json()).unwrap();
    assert_eq!(json["flips"][0]["money"]["GBP"], 4_000);
    assert_eq!(json["quality_before"]["core"]["overall"]["counts"]["answers"], 10);
}

#[test]
fn a_label_is_known_when_its_time_has_come_and_not_before() {
    // The fraud at hour 0 is known at hour 3: from then on the terminal is declined.
    let tally = tally(&hourly(8), None, &["--labels-after", "3h"]);
    assert_eq!(tally.changed, 0);
    let counted = tally.quality.core.overall;
    assert_eq!(counted.answers(), 8);
    assert_eq!(counted.decline().precision, Some(0.0), "5 declines, all of honest ones");
    assert_eq!(agreed(&tally.fidelity_of_edge), 3, "it approves all, the policy the first three");
}

#[test]
fn the_api_decides_by_what_core_last_showed_and_the_edge_by_its_default() {
    // The fraud at hour 0 is labelled just before the payment of hour 3: core sees it then, and the api
    // only with core's answer to that payment.
    let tally = tally(&hourly(8), None, &["--labels-after", "3h"]);
    let [(_, of_api)] = tally.fidelity_of_api.iter().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((of_api.agree.count, of_api.false_approve.count), (7, 1));
    assert_eq!(of_api.false_approve.amount, 1_000);
    let [(_, of_edge)] = tally.fidelity_of_edge.iter().collect::<Vec<_>>()[..] else { panic!() };
    assert_eq!((of_edge.agree.count, of_edge.false_approve.count), (3, 5));
    let text = tally.shown(Path::new("a.csv"));
    for expected in ["87.500 %", "12.50 %, 10.00 GBP", "37.500 %", "62.50 %, 50.00 GBP"] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let json: Json = serde_json::from_str(&tally.json()).unwrap();
    assert_eq!(json["fidelity"]["api"][0]["false_approve"]["amount"], 1_000);
    assert_eq!(json["fidelity"]["edge"][0]["band"], "<50");
    assert_eq!(json["quality"]["api"]["overall"]["counts"]["answers"], 8);
}

#[test]
fn what_is_before_the_judged_time_is_history_alone() {
    let words = ["--labels-after", "3h", "--from", "2018-08-01T04:00:00Z"];
    let tally = tally(&hourly(8), None, &words);
    assert_eq!((tally.read, tally.judged, agreed(&tally.fidelity_of_edge)), (8, 4, 0));
    let limited = super::tests::tally(&hourly(8), None, &["--limit", "2"]);
    assert_eq!(limited.judged, 2);
}

#[test]
fn recorded_decisions_are_what_is_compared_with_and_merchants_have_a_past_of_their_own() {
    let line = |id: u32, merchant: &str, decision: &str| {
        format!(
            "{{\"request\":{{\"id\":\"{id}\",\"policy\":\"payment\",\"account\":\"a\",\"amount\":5,\
             \"currency\":\"GBP\",\"at\":\"2018-08-01T0{id}:00:00Z\"}},\"merchant\":\"{merchant}\",\
             \"decision\":\"{decision}\",\"fraud\":true}}\n"
        )
    };
    let text = [
        line(1, "a", "approve"),
        line(2, "a", "decline"),
        line(3, "b", "review"),
        line(4, "b", "decline"),
    ];
    let tally = tally(&text.concat(), Some("1"), &["--labels-after", "1h"]);
    assert_eq!(tally.against_name, "what was recorded");
    let flips: Vec<_> = tally.flips.iter().map(|(flip, sum)| (*flip, sum.count)).collect();
    assert_eq!(flips, [(("review", "approve"), 1)]);
    assert_eq!(tally.merchants.keys().collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let good = "{\"request\":{\"id\":\"1\",\"policy\":\"payment\",\"account\":\"a\",\"amount\":5,\"currency\":\"GBP\"}}";
    for (line, words) in [
        ("{\"request\":{}}", "line 2: the field id is missing"),
        ("{\"request\":{},\"verdict\":1}", "line 2: unknown field"),
        ("{", "line 2: "),
    ] {
        fs::write(file.path(), format!("{good}\n{line}\n")).unwrap();
        let mut requests = Requests::open(file.path(), None, None).unwrap();
        let said = requests.next().unwrap_err().to_string();
        assert!(said.contains(words), "{said}");
    }
}
