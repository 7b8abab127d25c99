//! What a stack is charged with: too many errors, stand-ins or misses, or an objective that is spent too
//! fast; for decisions that come out otherwise than the other stack's see [`mix`](super::mix). Pure
//! arithmetic over the evidence.
//!
//! A share is over its limit when neither chance nor a single moment explains it, and it is so still:
//! with few requests in the short window a longer one makes sure, and the short one shows that it has not
//! passed.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use backstop_contract::Stack;
use backstop_settings::settings;

use crate::switch::chance;
use crate::switch::evidence::{Counts, Evidence, SLOTS, Span};

const MILLION: f64 = 1_000_000.0;

/// What a stack is charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stand-ins by error or unavailability.
    Errors,
    /// Missed deadlines.
    Misses,
    /// Stand-ins of any cause.
    StandIns,
    /// The objective is spent too fast.
    Burn,
    /// Its decisions are not those of the other stack, nor the usual ones.
    Mix,
}

/// One charge, with its numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Charge {
    /// What it is.
    pub kind: Kind,
    /// So many decisions,
    pub bad: u64,
    /// of so many,
    pub of: u64,
    /// in this time up to now,
    pub span: Span,
    /// which is so long,
    pub window: Duration,
    /// while this share would be fine; of a mix, the share that the other stack has.
    pub limit: f64,
    /// What is counted, as the end of a sentence that begins with a share of its decisions.
    pub verb: &'static str,
}

impl Kind {
    /// The word in the audit log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Errors => "errors",
            Self::Misses => "misses",
            Self::StandIns => "stand-ins",
            Self::Burn => "burn",
            Self::Mix => "mix",
        }
    }

    /// So many of these decisions count.
    pub const fn count(self, counts: &Counts) -> u64 {
        match self {
            Self::Errors => counts.errors,
            Self::Misses => counts.misses,
            Self::StandIns => counts.stand_ins,
            Self::Burn => counts.bad,
            Self::Mix => 0,
        }
    }

    /// The share that is fine.
    fn limit(self, settings: &settings::Switch) -> f64 {
        let ppm = match self {
            Self::Errors => settings.errors_ppm as f64,
            Self::Misses => settings.misses_ppm as f64,
            Self::StandIns => settings.stand_ins_ppm as f64,
            Self::Burn => settings.objective_ppm as f64 * settings.burn_percent as f64 / 100.0,
            Self::Mix => MILLION,
        };
        (ppm / MILLION).clamp(0.0, 1.0)
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Errors => "were stand-ins by error or unavailability",
            Self::Misses => "missed their deadline",
            Self::StandIns => "were stand-ins",
            Self::Burn => "were stand-ins or late",
            Self::Mix => "came out otherwise",
        }
    }

    /// The windows that are looked at: in one group all must show it.
    const fn windows(self) -> [&'static [Span]; 2] {
        match self {
            Self::Burn => [&[Span::Burn, Span::BurnRecent], &[Span::BurnSingle]],
            _ => [&[Span::Short], &[Span::Long]],
        }
    }
}

const COUNTED: [Kind; 4] = [Kind::Errors, Kind::Misses, Kind::StandIns, Kind::Burn];

/// What this stack is surely charged with by what it answered to requests.
pub fn of_served(stack: Stack, evidence: &Evidence, settings: &settings::Switch) -> Option<Charge> {
    COUNTED.into_iter().find_map(|kind| {
        let shown = |span: &Span| shown(kind, stack, *span, evidence, settings);
        kind.windows().into_iter().find_map(|group| {
            let (first, others) = group.split_first()?;
            others.iter().all(|span| shown(span).is_some()).then(|| shown(first)).flatten()
        })
    })
}

/// What a span shows a stack to be charged with, if it is over its limit, and surely.
fn shown(
    kind: Kind,
    stack: Stack,
    span: Span,
    evidence: &Evidence,
    settings: &settings::Switch,
) -> Option<Charge> {
    let limit = kind.limit(settings);
    let is_sure = |bad: u64, of: u64| {
        let expected = of as f64 * limit;
        of >= settings.sample_min
            && bad as f64 > expected
            && chance::as_many_as(bad, expected) <= settings.doubt_ppm as f64 / MILLION
    };
    let all = evidence.of_served(stack, span);
    if all.decisions < settings.sample_min || kind.count(&all) == 0 {
        return None;
    }
    if span != Span::Short {
        // It may have passed since.
        let recent = evidence.of_served(stack, Span::Short);
        if share(kind.count(&recent), recent.decisions) <= limit {
            return None;
        }
    }
    let length = span.length(settings);
    if kind == Kind::Burn && !evidence.reaches(length) {
        // A rate is of the whole window: in a part of it, a moment weighs too much.
        return None;
    }
    // What began a moment ago is not to be lost among what was good before: any time up to now will do,
    // but for a rate. The worst moments are left out: one cause that has passed may explain them all.
    let mut worst = Worst::new(settings.moments_forgiven);
    let (mut seen, mut rest) = ((0, 0), (0, 0));
    for (index, moment) in (1..).zip(evidence.moments(stack, span)) {
        let moment = (kind.count(moment), moment.decisions);
        let left = worst.put(moment);
        seen = (seen.0 + moment.0, seen.1 + moment.1);
        rest = (rest.0 + left.0, rest.1 + left.1);
        let is_whole = index == SLOTS;
        if (is_whole || kind != Kind::Burn) && is_sure(rest.0, rest.1) {
            let (bad, of) = seen;
            let window = length * index / SLOTS;
            return Some(Charge { kind, bad, of, span, window, limit, verb: kind.verb() });
        }
    }
    None
}

/// The worst moments so far: bad ones, and all.
struct Worst {
    kept: Vec<(u64, u64)>,
    max: usize,
}

impl Worst {
    fn new(max: usize) -> Self {
        Self { kept: Vec::with_capacity(max), max }
    }

    /// Keeps this moment, and gives back the one that is now not among the worst.
    fn put(&mut self, moment: (u64, u64)) -> (u64, u64) {
        if self.kept.len() < self.max {
            self.kept.push(moment);
            return (0, 0);
        }
        match self.kept.iter_mut().min() {
            Some(least) if *least < moment => std::mem::replace(least, moment),
            _ => moment,
        }
    }
}

/// What speaks against a stack that is to take over, by all that it answered in this span: here a doubt
/// is enough. A moment in which much was mirrored weighs no more than any other.
pub fn of_answers(
    stack: Stack,
    span: Span,
    evidence: &Evidence,
    settings: &settings::Switch,
) -> Option<Charge> {
    /// A single failure is no illness.
    const FAILURES_MIN: u64 = 2;
    let counts = evidence.of_all(stack, span);
    let is_over = |kind: &Kind| {
        let (bad, limit) = (kind.count(&counts), kind.limit(settings));
        let moments = evidence.moments_of_all(stack, span);
        bad >= FAILURES_MIN
            && share(bad, counts.decisions) > limit
            && even_share(moments, |it| (kind.count(it), it.decisions)) > limit
    };
    COUNTED.into_iter().find(is_over).map(|kind| charge(kind, &counts, span, settings))
}

/// Whether a stack that was charged is well within its limits again.
pub fn is_cleared(stack: Stack, evidence: &Evidence, settings: &settings::Switch) -> bool {
    let recent = evidence.of_served(stack, Span::Short);
    let enough = settings.clear_percent as f64 / 100.0;
    COUNTED
        .into_iter()
        .all(|kind| share(kind.count(&recent), recent.decisions) <= kind.limit(settings) * enough)
}

fn charge(kind: Kind, counts: &Counts, span: Span, settings: &settings::Switch) -> Charge {
    Charge {
        kind,
        bad: kind.count(counts),
        of: counts.decisions,
        span,
        window: span.length(settings),
        limit: kind.limit(settings),
        verb: kind.verb(),
    }
}

/// So many of so many; 0 of none.
pub fn share(part: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}

/// The same of many moments, each of which weighs alike. More is mirrored while a stack is in doubt, and
/// what befalls both stacks then is no worse for being looked at closely.
pub fn even_share(
    moments: impl Iterator<Item = Counts>,
    count: impl Fn(&Counts) -> (u64, u64),
) -> f64 {
    let counted = moments.map(|it| count(&it)).filter(|(_, of)| *of > 0);
    let (sum, moments) =
        counted.fold((0.0, 0_u32), |(sum, n), (part, of)| (sum + share(part, of), n + 1));
    if moments == 0 { 0.0 } else { sum / f64::from(moments) }
}

/// A share as people read it, to two significant digits.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0..0.095 => format!("{percent:.2} %"),
        0.095..9.95 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// A length of time as people read it.
pub fn length(length: Duration) -> String {
    match length.as_secs() {
        seconds if seconds >= 3_600 && seconds.is_multiple_of(3_600) => {
            format!("{} h", seconds / 3_600)
        }
        seconds if seconds >= 60 && seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        seconds => format!("{seconds} s"),
    }
}

impl Charge {
    /// Its numbers, for the audit log.
    pub fn numbers(&self) -> Map<String, Value> {
        let numbers = json!({
            "charge": self.kind.as_str(),
            "bad": self.bad,
            "of": self.of,
            "share": share(self.bad, self.of),
            "limit": self.limit,
            "window_seconds": self.window.as_secs(),
        });
        if let Value::Object(numbers) = numbers { numbers } else { Map::new() }
    }

    /// The charge against this stack, as a part of a sentence.
    pub fn of(&self, stack: Stack) -> String {
        self.say(&format!("{stack}'s"))
    }

    fn say(&self, whose: &str) -> String {
        let Self { kind, bad, of, verb, .. } = self;
        let (share, limit) = (percent(share(*bad, *of)), percent(self.limit));
        let against = if *kind == Kind::Mix { "against" } else { "the limit is" };
        let window = length(self.window);
        format!(
            "{bad} of {whose} {of} decisions in the last {window} {verb} ({share}; {against} {limit})"
        )
    }
}

impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.say("its"))
    }
}

#[cfg(test)]
mod tests;
