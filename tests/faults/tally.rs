//! What a load saw of one fault: one row of the table, and what is wrong with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;

use super::load::{Run, Sample};

/// The merchant's budget: what every fault is measured against.
pub const BUDGET: Duration = Duration::from_millis(250);
/// On a shared machine a few are late for reasons of its own, even when nothing is broken: so for a tenth
/// of them a tier may have stood in by `deadline`, and for a tenth a rule may have run out of time.
const STRAGGLERS_SHARE_MAX: usize = 10;

/// Core is back within this, whatever befell it: a restart and a breaker each wait for 5 s at most.
const CORE_AGAIN_MAX: Duration = Duration::from_secs(20);

/// The reasons of an answer that its rule had no time for.
const SAFE: &str = r#"["safe_answer"]"#;

/// A tier, and the causes for which it may answer; core's own answers have none.
pub type Who = (&'static str, &'static [&'static str]);

/// What a fault may lead to.
pub struct Expected {
    pub may: &'static [Who],
    /// Tiers and causes of which at least one answer must have been seen.
    pub must: &'static [(&'static str, &'static [&'static str])],
    /// The decision of every answer.
    pub verdict: &'static str,
    /// How late the last one may be: generous, since the sharp figure is the table's.
    pub late_max: Duration,
}

/// What an answer says of itself; many say the same.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    tier: String,
    cause: String,
    verdict: String,
    /// As JSON.
    reasons: String,
}

/// One row.
pub struct Row {
    name: &'static str,
    sent: usize,
    answered: usize,
    answers: BTreeMap<Answer, usize>,
    latencies: Vec<Duration>,
    lost: usize,
    /// The longest time that the edge says it took.
    own: Duration,
    lag: Duration,
    /// What came instead of an answer, once each.
    wrong: BTreeMap<String, usize>,
    recovered: Option<Duration>,
}

impl Row {
    pub fn new(name: &'static str, run: Run, recovered: Option<Duration>) -> Self {
        let mut row = Self {
            name,
            sent: run.samples.len(),
            answered: 0,
            answers: BTreeMap::new(),
            latencies: Vec::with_capacity(run.samples.len()),
            lost: run.lost,
            own: Duration::ZERO,
            lag: run.lag,
            wrong: BTreeMap::new(),
            recovered,
        };
        for sample in run.samples {
            match decision(&sample) {
                Ok(answer) => row.count(&answer),
                Err(wrong) => *row.wrong.entry(wrong).or_default() += 1,
            }
            row.latencies.push(sample.latency);
        }
        row.latencies.sort_unstable();
        row
    }

    fn count(&mut self, answer: &Value) {
        let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
        let (tier, cause, verdict) = (text("decided_by"), text("cause"), text("decision"));
        let kind = Answer { tier, cause, verdict, reasons: answer["reasons"].to_string() };
        *self.answers.entry(kind).or_default() += 1;
        self.answered += 1;
        let own = Duration::from_secs_f64(answer["elapsed_ms"].as_f64().unwrap_or(0.0) / 1000.0);
        self.own = std::cmp::max(self.own, own);
    }

    fn by_tier(&self, tier: &str) -> usize {
        self.answers.iter().filter(|(answer, _)| answer.tier == tier).map(|(_, count)| count).sum()
    }

    /// The latency that this share of all were within, in percent; the nearest rank.
    fn within(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }

    fn over_budget(&self) -> usize {
        self.latencies.iter().filter(|latency| **latency > BUDGET).count()
    }

    /// What is later than it may be, or was answered for since it was late. A machine that stands still for
    /// half a second does that to any product, so it counts only where it happens again and again.
    pub fn delays(&self, expected: &Expected) -> Vec<String> {
        let mut found = Vec::new();
        // What the load itself was late with is not the product's.
        if self.within(100) > BUDGET + expected.late_max + self.lag {
            found.push(format!("{}: the last answer took {:?}", self.name, self.within(100)));
        }
        let stragglers = self.answers.iter().filter(|(answer, _)| answer.is_straggler(expected));
        let stragglers: usize = stragglers.map(|(_, count)| count).sum();
        if stragglers * STRAGGLERS_SHARE_MAX > self.sent {
            let (name, sent, answers) = (self.name, self.sent, &self.answers);
            found.push(format!("{name}: {stragglers} stragglers of {sent}: {answers:?}"));
        }
        found
    }

    /// Everything else that is not as the promise has it.
    pub fn complaints(&self, expected: &Expected) -> Vec<String> {
        let mut found = Vec::new();
        let mut complain = |what: String| found.push(format!("{}: {what}", self.name));
        if self.answered != self.sent || self.sent == 0 {
            complain(format!("{} of {} answered; {:?}", self.answered, self.sent, self.wrong));
        }
        if self.lost > 0 {
            complain(format!("{} connections lost", self.lost));
        }
        if let Some(recovered) = self.recovered.filter(|it| *it > CORE_AGAIN_MAX) {
            complain(format!("core was back after {recovered:?}"));
        }
        self.complain_of_answers(expected, &mut complain);
        found
    }

    /// Who answered, why and what.
    fn complain_of_answers(&self, expected: &Expected, complain: &mut impl FnMut(String)) {
        for (answer, count) in &self.answers {
            if !answer.is_expected(expected) && !answer.is_straggler(expected) {
                complain(format!("{count} of {answer:?}"));
            }
        }
        for must in expected.must {
            if !self.answers.keys().any(|answer| answer.is_one_of(&[*must])) {
                complain(format!("nothing by {}, cause {:?}: {:?}", must.0, must.1, self.answers));
            }
        }
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let millis = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1000.0);
        let mut causes = BTreeMap::new();
        for (Answer { tier, cause, .. }, count) in &self.answers {
            *causes.entry((tier, cause)).or_insert(0) += count;
        }
        let causes: Vec<_> = causes
            .into_iter()
            .filter(|((_, cause), _)| !cause.is_empty())
            .map(|((tier, cause), count)| format!("{count} {tier} {cause}"))
            .collect();
        [
            self.name.to_owned(),
            self.sent.to_string(),
            self.answered.to_string(),
            self.by_tier("core").to_string(),
            self.by_tier("api").to_string(),
            self.by_tier("edge").to_string(),
            millis(self.within(50)),
            millis(self.within(99)),
            millis(self.within(100)),
            self.over_budget().to_string(),
            self.lost.to_string(),
            millis(self.own),
            millis(self.lag),
            self.recovered.map_or_else(|| "-".to_owned(), millis),
            causes.join(", "),
        ]
    }
}

impl Answer {
    fn is_expected(&self, expected: &Expected) -> bool {
        self.verdict == expected.verdict && self.is_one_of(expected.may)
    }

    /// Whether it is what a tier says when time has run out, where that was not expected.
    fn is_straggler(&self, expected: &Expected) -> bool {
        let is_late = self.verdict == expected.verdict && self.cause == "deadline";
        !self.is_expected(expected) && (is_late || self.reasons == SAFE)
    }

    fn is_one_of(&self, who: &[Who]) -> bool {
        who.iter().any(|(tier, causes)| *tier == self.tier && causes.contains(&&*self.cause))
    }
}

/// The decision of an answer, or why it is none.
fn decision(sample: &Sample) -> Result<Value, String> {
    let (status, body) = sample.answer.as_ref().map_err(Clone::clone)?;
    if *status != 200 {
        return Err(format!("{status}: {}", String::from_utf8_lossy(body)));
    }
    let answer: Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if answer["id"] == sample.id.as_str() { Ok(answer) } else { Err("another's answer".to_owned()) }
}

const COLUMNS: [&str; 15] = [
    "fault",
    "sent",
    "answered",
    "core",
    "api",
    "edge",
    "p50",
    "p99",
    "p100",
    "over budget",
    "connections lost",
    "edge p100",
    "load lag",
    "core again",
    "stand-ins and why",
];

/// The table, all times in milliseconds. `edge p100` is the longest that the edge took by its own
/// account and `load lag` the latest that the load itself was: what p100 exceeds them by is neither's.
/// `core again` ends with ten decisions of core's in a row, 20 ms apart: 200 is at once.
pub fn table(rows: &[Row]) -> String {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let width = |column: usize| {
        let all = cells.iter().map(|cells| cells[column].chars().count());
        all.chain([COLUMNS[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..COLUMNS.len()).map(width).collect();
    let mut text = String::new();
    for cells in std::iter::once(COLUMNS.map(str::to_owned)).chain(cells.iter().cloned()) {
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let is_text = column == 0 || column == COLUMNS.len() - 1;
            let _ = if is_text {
                write!(text, "{cell:width$}  ")
            } else {
                write!(text, "{cell:>width$}  ")
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}
