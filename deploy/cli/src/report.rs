//! What a replay found, for people and, as one JSON object, for machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::replay::quality::{Confusion, Quality, Split};

/// What was replayed and how it went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// What was asked for, such as `500 a second`.
    pub asked: String,
    /// From the first moment due to the last answer.
    pub elapsed_s: f64,
    /// Answers in that time.
    pub answers_per_s: f64,
    /// Whether it was stopped before the end of the file.
    pub stopped: bool,
    /// Whether every request was answered with a decision.
    pub ok: bool,
    /// What became of how many.
    #[serde(flatten)]
    pub counts: Counts,
    /// How long the answers took, in milliseconds.
    pub latency_ms: Latencies,
    /// What of the file was not sent.
    pub left_out: LeftOut,
}

/// What became of how many.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Requests that fell due.
    pub sent: u64,
    /// Those that got an answer, whatever it said.
    pub answered: u64,
    /// Those that got none.
    pub unanswered: u64,
    /// Those that got none, by why.
    pub unanswered_by_reason: BTreeMap<String, u64>,
    /// How often a request was sent again.
    pub retries: u64,
    /// Answers that repeat an earlier one.
    pub replayed: u64,
    /// Answers that are not final.
    pub not_final: u64,
    /// Answers with 200 that are no decision on the id that was asked about.
    pub unreadable: u64,
    /// Answers with another status than 200.
    pub errors_by_status: BTreeMap<u16, Refusals>,
    /// Decisions by who decided.
    pub by_tier: BTreeMap<String, u64>,
    /// Stand-ins by why.
    pub by_cause: BTreeMap<String, u64>,
    /// Decisions by verdict.
    pub by_decision: BTreeMap<String, u64>,
    /// Decisions later than their budget.
    pub late: Late,
    /// Connections.
    pub connections: Connections,
    /// Labels.
    pub labels: LabelCounts,
    /// Labels of requests whose answer was not final.
    pub labels_of_stand_ins: LabelCounts,
    /// How well fraud was told from the rest.
    pub quality: Quality,
}

/// Answers of one status.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Refusals {
    /// How many.
    pub count: u64,
    /// What the first of them says.
    pub first: String,
}

/// Decisions later than their budget, by three clocks.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Late {
    /// As the answer itself says.
    pub as_answered: u64,
    /// Counted here, from the moment it was sent.
    pub from_sent: u64,
    /// Counted here, from the moment it was due.
    pub from_due: u64,
}

/// What became of the connections.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Connections {
    /// Opened.
    pub opened: u64,
    /// Closed or broken by the other side.
    pub lost: u64,
}

/// What became of labels.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LabelCounts {
    /// Sent.
    pub sent: u64,
    /// Taken, with 204.
    pub accepted: u64,
    /// Answered otherwise.
    pub others_by_status: BTreeMap<u16, u64>,
    /// Not answered.
    pub unanswered: u64,
}

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half were faster.
    pub p50: f64,
    /// 95 of 100 were.
    pub p95: f64,
    /// 99 of 100 were.
    pub p99: f64,
    /// 999 of 1,000 were.
    pub p999: f64,
    /// The worst.
    pub max: f64,
}

/// The same answers, measured from two moments.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Latencies {
    /// From the moment a request was due: what a customer waits.
    pub from_due: Option<Latency>,
    /// From the moment it was sent.
    pub from_sent: Option<Latency>,
}

/// What of the file was not sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Cancellations of orders, and those whose time the file did not reach.
    pub cancels: u64,
    /// Corrections of the books.
    pub adjusts: u64,
    /// Labels whose time the file did not reach.
    pub labels: u64,
}

impl Counts {
    /// Whether every request was answered with a decision.
    pub fn all_decided(&self) -> bool {
        self.unanswered == 0 && self.unreadable == 0 && self.errors_by_status.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let stopped = if self.stopped { ", stopped early" } else { "" };
        writeln!(f, "{}, {}{stopped}", self.file, self.asked)?;
        let (sent, seconds, rate) = (grouped(counts.sent), self.elapsed_s, self.answers_per_s);
        writeln!(f, "{sent} requests in {seconds:.1} s, {rate:.1} answers a second\n")?;
        self.write_answers(f)?;
        self.write_times(f)?;
        self.write_labels(f)?;
        self.write_quality(f)
    }
}

impl Report {
    fn write_answers(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.counts;
        let (answered, sent) = (grouped(counts.answered), grouped(counts.sent));
        line(f, "answered", &format!("{answered} of {sent}"))?;
        line(f, "unanswered", &listed(counts.unanswered, &counts.unanswered_by_reason))?;
        let errors: u64 = counts.errors_by_status.values().map(|refusals| refusals.count).sum();
        line(f, "errors", &grouped(errors + counts.unreadable))?;
        for (status, refusals) in &counts.errors_by_status {
            writeln!(f, "  {status:<12} {}: {}", grouped(refusals.count), refusals.first)?;
        }
        if counts.unreadable > 0 {
            writeln!(f, "  {:<12} {}: no decision on its id", 200, grouped(counts.unreadable))?;
        }
        line(f, "decided by", &shares(&counts.by_tier))?;
        line(f, "cause", &shares(&counts.by_cause))?;
        line(f, "decision", &shares(&counts.by_decision))?;
        line(f, "not final", &grouped(counts.not_final))?;
        line(f, "replayed", &grouped(counts.replayed))?;
        line(f, "retries", &grouped(counts.retries))?;
        if self.left_out.cancels + self.left_out.adjusts > 0 {
            let (cancels, adjusts) =
                (grouped(self.left_out.cancels), grouped(self.left_out.adjusts));
            line(f, "left out", &format!("{cancels} cancels, {adjusts} adjusts"))?;
        }
        Ok(())
    }

    fn write_times(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { connections, late, .. } = &self.counts;
        let (opened, lost) = (grouped(connections.opened), grouped(connections.lost));
        line(f, "connections", &format!("{opened} opened, {lost} lost"))?;
        let names = ["p50", "p95", "p99", "p99.9", "max", "late"];
        writeln!(f)?;
        row(f, "ms", &names.map(str::to_owned))?;
        let measured = [
            ("from due", self.latency_ms.from_due, late.from_due),
            ("from sent", self.latency_ms.from_sent, late.from_sent),
        ];
        for (name, latency, late) in measured {
            let Some(Latency { p50, p95, p99, p999, max }) = latency else { continue };
            let [p50, p95, p99, p999, max] =
                [p50, p95, p99, p999, max].map(|figure| format!("{figure:.3}"));
            row(f, name, &[p50, p95, p99, p999, max, grouped(late)])?;
        }
        let own = grouped(late.as_answered);
        writeln!(f, "late: over the budget; by the elapsed_ms of the answers themselves, {own}")
    }

    fn write_labels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { labels, labels_of_stand_ins, .. } = &self.counts;
        if labels.sent + self.left_out.labels == 0 {
            return Ok(());
        }
        writeln!(f)?;
        let not_due = grouped(self.left_out.labels);
        line(f, "labels", &format!("{}; {not_due} not due by the end", told(labels)))?;
        line(f, "of stand-ins", &told(labels_of_stand_ins))
    }

    fn write_quality(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quality = &self.counts.quality;
        if quality.overall.answers() == 0 {
            return Ok(());
        }
        let names = ["answers", "frauds", "either", "decline", "review"];
        writeln!(f, "\nprecision / recall, positive = decline or review (either), and each alone")?;
        row(f, "", &names.map(str::to_owned))?;
        let mut judged = |name: &str, confusion: &Confusion| {
            let splits = [confusion.either(), confusion.decline(), confusion.review()];
            let [either, decline, review] = splits.map(figures);
            let (answers, frauds) = (grouped(confusion.answers()), grouped(confusion.frauds()));
            row(f, name, &[answers, frauds, either, decline, review])
        };
        judged("overall", &quality.overall)?;
        quality.months.iter().try_for_each(|(month, confusion)| judged(month, confusion))
    }
}

fn line(f: &mut fmt::Formatter<'_>, name: &str, text: &str) -> fmt::Result {
    writeln!(f, "{name:<14} {text}")
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cells: &[String]) -> fmt::Result {
    write!(f, "{name:<10}")?;
    for cell in cells {
        write!(f, " {cell:>13}")?;
    }
    writeln!(f)
}

fn figures(split: Split) -> String {
    let figure = |share: Option<f64>| share.map_or("-".to_owned(), |share| format!("{share:.3}"));
    format!("{} / {}", figure(split.precision), figure(split.recall))
}

fn told(labels: &LabelCounts) -> String {
    let taken = format!("{} sent, {} taken", grouped(labels.sent), grouped(labels.accepted));
    let others = labels.others_by_status.iter();
    let others = others.map(|(status, count)| format!("{} answered {status}", grouped(*count)));
    let lost =
        (labels.unanswered > 0).then(|| format!("{} unanswered", grouped(labels.unanswered)));
    [taken].into_iter().chain(others).chain(lost).collect::<Vec<_>>().join(", ")
}

fn listed(total: u64, parts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> =
        parts.iter().map(|(name, count)| format!("{name} {}", grouped(*count))).collect();
    if parts.is_empty() {
        grouped(total)
    } else {
        format!("{}: {}", grouped(total), parts.join(", "))
    }
}

fn shares(counts: &BTreeMap<String, u64>) -> String {
    let all: u64 = counts.values().sum();
    let part = |(name, count): (&String, &u64)| {
        let percent = *count as f64 * 100.0 / all as f64;
        format!("{name} {} ({percent:.2} %)", grouped(*count))
    };
    if counts.is_empty() {
        "-".to_owned()
    } else {
        counts.iter().map(part).collect::<Vec<_>>().join(", ")
    }
}

/// A count in groups of three digits.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use backstop_contract::{Timestamp, Verdict};

    use super::*;

    fn report() -> Report {
        let counts = |pairs: &[(&str, u64)]| {
            pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let mut quality = Quality::default();
        for (verdict, fraud) in [(Verdict::Decline, true), (Verdict::Review, false)] {
            quality.count(Timestamp::default(), verdict, fraud);
        }
        let latency = Latency { p50: 0.5, p95: 1.25, p99: 2.0, p999: 4.0, max: 301.0 };
        Report {
            file: "day.csv.gz".into(),
            asked: "500 a second".into(),
            elapsed_s: 19.1,
            answers_per_s: 500.1,
            stopped: false,
            ok: false,
            counts: Counts {
                sent: 9_552,
                answered: 9_551,
                unanswered: 1,
                unanswered_by_reason: counts(&[("connection_broke", 1)]),
                errors_by_status: [(422, Refusals { count: 2, first: "/id is reused".into() })]
                    .into(),
                by_tier: counts(&[("core", 9_000), ("edge", 549)]),
                by_cause: counts(&[("deadline", 549)]),
                by_decision: counts(&[("approve", 9_549)]),
                not_final: 549,
                labels: LabelCounts { sent: 3, accepted: 3, ..LabelCounts::default() },
                quality,
                ..Counts::default()
            },
            latency_ms: Latencies { from_due: Some(latency), from_sent: Some(latency) },
            left_out: LeftOut { labels: 7, ..LeftOut::default() },
        }
    }

    #[test]
    fn a_person_reads_every_count_and_figure() {
        let text = report().to_string();
        for part in [
            "9,552 requests in 19.1 s",
            "9,551 of 9,552",
            "1: connection_broke 1",
            "422          2: /id is reused",
            "core 9,000 (94.25 %), edge 549 (5.75 %)",
            "deadline 549 (100.00 %)",
            "301.000",
            "3 sent, 3 taken; 7 not due by the end",
            "0.500 / 1.000",
            "1970-01",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
    }

    #[test]
    fn a_machine_finds_the_counts_at_the_top() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["sent"], 9_552);
        assert_eq!(json["errors_by_status"]["422"]["count"], 2);
        assert_eq!(json["latency_ms"]["from_due"]["max"], 301.0);
        assert_eq!(json["late"]["as_answered"], 0);
        assert_eq!(json["quality"]["months"]["1970-01"]["decline_or_review"]["precision"], 0.5);
    }

    #[test]
    fn only_a_decision_for_every_request_is_good() {
        let good = Counts { sent: 1, answered: 1, ..Counts::default() };
        assert!(good.all_decided());
        let refused = [(503, Refusals::default())].into();
        assert!(!Counts { unanswered: 1, ..good.clone() }.all_decided());
        assert!(!Counts { unreadable: 1, ..good.clone() }.all_decided());
        assert!(!Counts { errors_by_status: refused, ..good }.all_decided());
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_466_282, "1,466,282")];
        for (count, text) in cases {
            assert_eq!(grouped(count), text);
        }
    }
}
