//! History against published figures. The Fraud Detection Handbook computed what each customer and
//! each terminal had done before each transaction of two days; History, fed the transactions in their
//! order and the labels a week late, must say the same. Published rows never fill up, so the same
//! transactions, with many terminals taken as one entity, show what a full row costs in accuracy.
//!
//! Le Borgne, Siblini, Lebichot, Bontempi, "Reproducible Machine Learning for Credit Card Fraud
//! Detection", ULB, 2022. `cargo test -p backstop-engine --test oracle -- --nocapture` prints the figures.

// All of this is a test: a panic is how it fails.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::time::Duration;

use backstop_contract::{Timestamp, Verdict};
use backstop_engine::History;
use backstop_engine::history::COUNTERPARTIES_MAX;
use flate2::bufread::GzDecoder;

const HOUR: i64 = 60 * 60 * 1000;
const DAY: i64 = 24 * HOUR;

/// The published two days, and what History needs to have seen before them.
const FROM: &str = "2018-06-25";
const PUBLISHED_FROM: &str = "2018-08-08";
const UNTIL: &str = "2018-08-10";

/// How late labels come.
const LABELLED_AFTER: i64 = 7 * DAY;

/// The documented grid: the oldest age, and how wide a bucket may be there.
const GRID: [(i64, i64); 4] =
    [(HOUR, HOUR / 12), (DAY, HOUR / 2), (7 * DAY, 4 * HOUR), (i64::MAX, DAY)];

/// The published figures have six decimals.
const ROUNDING: f64 = 1e-6;

/// A feature that is asked of History.
struct Feature {
    name: String,
    of: Of,
    what: What,
    window: i64,
    delay: i64,
}

#[derive(Clone, Copy, PartialEq)]
enum Of {
    Customer,
    Terminal,
}

#[derive(Clone, Copy)]
enum What {
    Count,
    Mean,
    Risk,
    Distinct,
}

/// A figure as a fraction, so that both parts can be compared: a mean is a sum over a count.
type Parts = [u64; 2];

struct Transaction {
    id: u64,
    at: i64,
    customer: String,
    terminal: String,
    amount: u64,
    fraud: bool,
    /// It is of the two days.
    published: bool,
}

/// What an entity has done: as History tells it, and in full.
#[derive(Default)]
struct Entity {
    history: History,
    /// Each event's time and counterparty.
    events: Vec<(i64, String)>,
    /// The count, amounts and frauds up to each event.
    totals: Vec<[u64; 3]>,
}

impl Entity {
    fn record(&mut self, transaction: &Transaction, with: &str) {
        let at = Timestamp::from_millis(transaction.at);
        self.history.record(at, transaction.amount, Verdict::Approve, Some(with));
        let [count, sum, frauds] = self.totals.last().copied().unwrap_or_default();
        self.events.push((transaction.at, with.to_owned()));
        let fraud = u64::from(transaction.fraud);
        self.totals.push([count + 1, sum + transaction.amount, frauds + fraud]);
    }

    /// What History tells of `what`, as the figures it is made of.
    fn told(&self, what: What, window: i64, delay: i64, now: i64) -> Parts {
        let length = |millis: i64| Duration::from_millis(millis.unsigned_abs());
        let (window, delay, now) = (length(window), length(delay), Timestamp::from_millis(now));
        let count = self.history.count(window, delay, now);
        match what {
            What::Count => [count, 1],
            What::Mean => [self.history.sum(window, delay, now), count],
            What::Risk => [self.history.frauds(window, delay, now), count],
            What::Distinct => [self.history.distinct(window, now), 1],
        }
    }

    /// The truth about `(after, until]`.
    fn exact(&self, what: What, after: i64, until: i64) -> Parts {
        let place = |time| self.events.partition_point(|(at, _)| *at <= time);
        let until = std::cmp::max(after, until);
        let (from, to) = (place(after), place(until));
        let up_to = |place: usize| place.checked_sub(1).map_or([0; 3], |last| self.totals[last]);
        let [count, sum, frauds] = [0, 1, 2].map(|figure| up_to(to)[figure] - up_to(from)[figure]);
        match what {
            What::Count => [count, 1],
            What::Mean => [sum, count],
            What::Risk => [frauds, count],
            What::Distinct => {
                let met: HashSet<_> = self.events[from..to].iter().map(|(_, with)| with).collect();
                [std::cmp::min(met.len(), COUNTERPARTIES_MAX) as u64, 1]
            }
        }
    }

    /// The least and the most that the truth would be if each end of the window were off by one bucket.
    /// Nothing lies beyond an end at `now`.
    fn bounds(&self, what: What, window: i64, delay: i64, now: i64) -> [Parts; 2] {
        let (until, after) = (now - delay, now - delay - window);
        let width = |age| GRID.iter().find(|(oldest, _)| age <= *oldest).map_or(0, |grid| grid.1);
        let end = if delay == 0 { 0 } else { width(delay) };
        let start = width(delay + window);
        [(start, -end), (-start, end)]
            .map(|(later, sooner)| self.exact(what, after + later, until + sooner))
    }
}

/// A figure as published: money in major units, nothing for nothing.
fn value(what: What, [part, whole]: Parts) -> f64 {
    let unit = if matches!(what, What::Mean) { 100.0 } else { 1.0 };
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 / unit }
}

/// How well one feature is told.
#[derive(Default)]
struct Tally {
    values: u64,
    /// Those where the replay, counted in full, is not what was stated.
    disputed: u64,
    exact: u64,
    within: u64,
    absolute: f64,
    /// Relative errors, summed over the values that are not zero.
    relative: f64,
    not_zero: u64,
}

impl Tally {
    /// Asks History, which should say `stated`, or else the truth.
    fn ask(&mut self, feature: &Feature, entity: &Entity, now: i64, stated: Option<f64>) {
        let Feature { what, window, delay, .. } = *feature;
        let truth = value(what, entity.exact(what, now - delay - window, now - delay));
        let stated = stated.unwrap_or(truth);
        let agrees = (truth - stated).abs() <= ROUNDING;
        let told = entity.told(what, window, delay, now);
        let [least, most] = entity.bounds(what, window, delay, now);
        let within = (0..2).all(|part| (least[part]..=most[part]).contains(&told[part]));
        let within = within && agrees;
        let error = (value(what, told) - stated).abs();
        self.values += 1;
        self.disputed += u64::from(!agrees);
        self.exact += u64::from(error <= ROUNDING);
        self.within += u64::from(within);
        self.absolute += error;
        if stated > 0.0 {
            self.relative += error / stated;
            self.not_zero += 1;
        }
    }

    fn within(&self) -> f64 {
        self.within as f64 / self.values as f64
    }
}

/// The figures as they are printed, and what must hold of them.
fn report(title: &str, features: &[Feature], tallies: &[Tally]) {
    println!("\n{title}");
    println!(
        "{:<24}{:>8}{:>12}{:>12}{:>14}{:>14}",
        "feature", "values", "exact", "1 bucket", "mean error", "relative"
    );
    for (feature, tally) in features.iter().zip(tallies) {
        println!(
            "{:<24}{:>8}{:>10.3} %{:>10.3} %{:>14.6}{:>12.4} %",
            feature.name,
            tally.values,
            100.0 * tally.exact as f64 / tally.values as f64,
            100.0 * tally.within(),
            tally.absolute / tally.values as f64,
            100.0 * tally.relative / tally.not_zero as f64,
        );
    }
    for (feature, tally) in features.iter().zip(tallies) {
        assert!(tally.within() >= 0.99, "{}: {} within one bucket", feature.name, tally.within());
    }
}

/// A file beside the checkout, or `None`, said even when the test passes.
fn shared(name: &str) -> Option<BufReader<GzDecoder<BufReader<File>>>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if let Ok(file) = File::open(&path) {
        return Some(BufReader::new(GzDecoder::new(BufReader::new(file))));
    }
    // Not by a macro: the test harness would keep that to itself.
    let _ = writeln!(std::io::stderr(), "skipped: there is no {}", path.display());
    None
}

fn transactions() -> Option<impl Iterator<Item = Transaction>> {
    let lines = shared("txns_main.csv.gz")?.lines().skip(1).map(Result::unwrap);
    let at = |line: &str| line.split(',').nth(1).map(str::to_owned).unwrap();
    let lines = lines.skip_while(move |line| at(line).as_str() < FROM);
    let lines = lines.take_while(move |line| at(line).as_str() < UNTIL);
    Some(lines.map(|line| {
        let columns: Vec<_> = line.split(',').collect();
        let [id, ts, customer, terminal, amount, fraud, _] = columns[..] else { panic!("{line}") };
        Transaction {
            id: id.parse().unwrap(),
            at: Timestamp::parse(ts).unwrap().as_millis(),
            customer: format!("customer:{customer}"),
            terminal: format!("terminal:{terminal}"),
            amount: amount.replace('.', "").parse().unwrap(),
            fraud: fraud == "1",
            published: ts >= PUBLISHED_FROM,
        }
    }))
}

/// The values of the published features, by transaction.
type Values = HashMap<u64, Vec<f64>>;

/// The published features and their values.
fn published() -> Option<(Vec<Feature>, Values)> {
    let mut lines = shared("txns_2018-08-08_09_features.csv.gz")?.lines().map(Result::unwrap);
    let header = lines.next().unwrap();
    let features = header.split(',').skip(1).map(feature).collect();
    let values = lines.map(|line| {
        let (id, values) = line.split_once(',').unwrap();
        let values = values.split(',').map(|value| value.parse().unwrap()).collect();
        (id.parse().unwrap(), values)
    });
    Some((features, values.collect()))
}

/// What a name such as `term_risk_7d_delay7` asks.
fn feature(name: &str) -> Feature {
    let (rest, delay) =
        name.strip_suffix("_delay7").map_or((name, 0), |rest| (rest, LABELLED_AFTER));
    let (kind, window) = rest.rsplit_once('_').unwrap();
    let (digits, unit) = window.split_at(window.len() - 1);
    let unit = if unit == "d" { DAY } else { HOUR };
    let (of, what) = kind.split_once('_').unwrap();
    Feature {
        name: name.to_owned(),
        of: if of == "cust" { Of::Customer } else { Of::Terminal },
        what: match what {
            "n" => What::Count,
            "avg_amount" => What::Mean,
            "risk" => What::Risk,
            "distinct" => What::Distinct,
            _ => panic!("{name} is not known here"),
        },
        window: digits.parse::<i64>().unwrap() * unit,
        delay,
    }
}

/// Replays all transactions into the two entities that `parties` names for each, of which the first
/// counts terminals as its counterparties and the second customers, and calls `after` each.
fn replay(
    transactions: impl Iterator<Item = Transaction>,
    parties: impl Fn(&Transaction) -> [String; 2],
    mut after: impl FnMut(&Transaction, [&Entity; 2]),
) -> [HashMap<String, Entity>; 2] {
    let mut entities = [HashMap::<String, Entity>::new(), HashMap::new()];
    let mut unlabelled = VecDeque::<(i64, bool, [String; 2])>::new();
    for transaction in transactions {
        while unlabelled.front().is_some_and(|(at, ..)| at + LABELLED_AFTER <= transaction.at) {
            let (at, fraud, names) = unlabelled.pop_front().unwrap();
            for (side, name) in entities.iter_mut().zip(&names) {
                let history = &mut side.get_mut(name).unwrap().history;
                history.label(Timestamp::from_millis(at), fraud, None);
            }
        }
        let names = parties(&transaction);
        let with = [&transaction.terminal, &transaction.customer];
        for ((side, name), with) in entities.iter_mut().zip(&names).zip(with) {
            side.entry(name.clone()).or_default().record(&transaction, with);
        }
        let [customers, terminals] = &entities;
        after(&transaction, [&customers[&names[0]], &terminals[&names[1]]]);
        unlabelled.push_back((transaction.at, transaction.fraud, names));
    }
    entities
}

#[test]
fn history_says_what_was_published() {
    let Some(((mut features, values), transactions)) = published().zip(transactions()) else {
        return;
    };
    features.extend(["cust_distinct_7d", "cust_distinct_30d", "term_distinct_7d"].map(feature));
    let mut tallies: Vec<Tally> = features.iter().map(|_| Tally::default()).collect();
    let parties = |of: &Transaction| [of.customer.clone(), of.terminal.clone()];
    let entities = replay(transactions, parties, |transaction, [customer, terminal]| {
        let Some(stated) = values.get(&transaction.id) else { return };
        let stated = stated.iter().copied().map(Some).chain(std::iter::repeat(None));
        for ((feature, tally), stated) in features.iter().zip(&mut tallies).zip(stated) {
            let entity = if feature.of == Of::Customer { customer } else { terminal };
            tally.ask(feature, entity, transaction.at, stated);
        }
    });
    assert!(tallies.iter().all(|tally| tally.values == values.len() as u64), "each was asked");
    // The publisher took two payments, of one customer in one second, in the other order.
    assert!(tallies.iter().all(|tally| tally.disputed <= 2), "the replay is right");
    report("Each customer and each terminal, as published", &features, &tallies);
    for (side, entities) in ["customers", "terminals"].iter().zip(&entities) {
        let rows = entities.values().map(|entity| entity.history.encode().len());
        let (mean, most) = (rows.clone().sum::<usize>() / entities.len(), rows.max().unwrap());
        println!("{} {side}: {mean} bytes a row, {most} at most", entities.len());
    }
}

/// Into how many entities the terminals are gathered.
const SHOPS: [u32; 2] = [1, 100];

/// The entities of the published figures rarely have more events than a row has buckets. These do.
#[test]
fn a_full_row_is_off_by_one_bucket_at_most() {
    let features = [
        "term_n_1h",
        "term_n_24h",
        "term_n_7d",
        "term_n_30d",
        "term_n_7d_delay7",
        "term_n_30d_delay7",
        "term_avg_amount_24h",
        "term_avg_amount_30d",
        "term_risk_7d_delay7",
        "term_risk_30d_delay7",
        "cust_distinct_1h",
    ];
    let features = features.map(feature);
    let Some(transactions) = transactions() else { return };
    let parties = |of: &Transaction| {
        let number = of.terminal.rsplit(':').next().and_then(|number| number.parse::<u32>().ok());
        SHOPS.map(|shops| format!("shop:{}", number.unwrap() % shops))
    };
    let mut tallies = SHOPS.map(|_| features.iter().map(|_| Tally::default()).collect::<Vec<_>>());
    replay(transactions, parties, |transaction, entities| {
        // Every sixteenth transaction of the two days: a window in full is slow to count.
        if !transaction.published || !transaction.id.is_multiple_of(16) {
            return;
        }
        for (entity, tallies) in entities.into_iter().zip(&mut tallies) {
            for (feature, tally) in features.iter().zip(tallies) {
                tally.ask(feature, entity, transaction.at, None);
            }
        }
    });
    for (shops, tallies) in SHOPS.iter().zip(&tallies) {
        let title = format!("The terminals taken as {shops}: about {} a day each", 9600 / shops);
        report(&title, &features, tallies);
    }
}
