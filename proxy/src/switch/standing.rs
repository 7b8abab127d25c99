//! Whether a stack could take over: its probes, its breaker, and what it answered to mirrored requests.
//! This is what an order is checked against before it is obeyed.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::Stack;
use backstop_contract::breaker::State;
use backstop_settings::settings;

use crate::switch::charge::{self, Charge};
use crate::switch::evidence::{Evidence, Span};

/// What probes and mirrored answers last showed of a stack.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signs {
    /// Since when every probe was decided by its core in time; none where the last one was not.
    pub good_since: Option<Instant>,
    /// When the last probe ended.
    pub probed_at: Option<Instant>,
    /// When its core last decided a mirrored request.
    pub mirrored_at: Option<Instant>,
    /// So many probes in a row its core wrote while clients were being stood in for, in the time that they
    /// had,
    pub writes: u64,
    /// and when the last of them was asked.
    pub wrote_at: Option<Instant>,
    /// Its release knows no rehearsals.
    pub refuses_rehearsals: bool,
    /// When a client's request to it was last stood in for, or late.
    pub bad_at: Option<Instant>,
}

impl Signs {
    /// Notes how a probe ended.
    pub fn probed(&mut self, is_good: bool, now: Instant) {
        self.probed_at = Some(now);
        self.good_since = if is_good { self.good_since.or(Some(now)) } else { None };
        if !is_good {
            self.writes = 0;
        }
    }

    /// Notes that its core wrote a probe that was asked then, while clients were being stood in for and in
    /// the time that they had. What was written longer ago than that proves nothing of now.
    pub fn wrote(&mut self, asked: Instant, fresh_for: Duration) {
        let gap = self.wrote_at.map(|at| asked.saturating_duration_since(at));
        let goes_on = gap.is_some_and(|gap| gap <= fresh_for);
        self.writes = if goes_on { self.writes + 1 } else { 1 };
        self.wrote_at = Some(asked);
    }
}

/// How a stack stands now.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// What was last seen of it.
    pub signs: Signs,
    /// Its circuit breaker.
    pub breaker: State,
}

/// Why a stack is not ready to serve.
#[derive(Clone, Debug, PartialEq)]
pub enum Unready {
    /// Nothing of it was seen yet.
    Cold,
    /// Its last probe failed.
    ProbeFailed,
    /// It was last probed so long ago.
    Unseen(Duration),
    /// It has been well for so long only.
    Warming(Duration),
    /// Its breaker is not closed.
    Breaker,
    /// What it answers is bad.
    Ill(Charge),
}

impl Standing {
    /// Why this stack is not warm and healthy; none where it is.
    pub fn unready(
        &self,
        stack: Stack,
        evidence: &Evidence,
        settings: &settings::Switch,
        now: Instant,
    ) -> Option<Unready> {
        let Some(probed_at) = self.signs.probed_at else { return Some(Unready::Cold) };
        let Some(good_since) = self.signs.good_since else { return Some(Unready::ProbeFailed) };
        let age = now.saturating_duration_since(probed_at);
        if age > settings.fresh_for {
            return Some(Unready::Unseen(age));
        }
        if self.breaker != State::Closed {
            return Some(Unready::Breaker);
        }
        let warm_for = now.saturating_duration_since(good_since);
        if warm_for < settings.warm_after {
            return Some(Unready::Warming(warm_for));
        }
        charge::of_answers(stack, Span::Short, evidence, settings).map(Unready::Ill)
    }
}

impl Unready {
    /// What it is about, in one word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::ProbeFailed => "probe-failed",
            Self::Unseen(_) => "unseen",
            Self::Warming(_) => "warming",
            Self::Breaker => "breaker",
            Self::Ill(_) => "ill",
        }
    }
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cold => f.write_str("it has not decided a probe yet"),
            Self::ProbeFailed => f.write_str("its last probe failed"),
            Self::Unseen(age) => write!(f, "it was last probed {} s ago", age.as_secs()),
            Self::Warming(well) => write!(f, "its probes are good for {} s only", well.as_secs()),
            Self::Breaker => f.write_str("its circuit breaker is open"),
            Self::Ill(charge) => write!(f, "{charge}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::switch::evidence::Counts;

    #[test]
    fn a_stack_is_ready_when_its_probes_have_been_good_for_a_while_and_are_fresh() {
        let (settings, start) = (settings::Switch::default(), Instant::now());
        let evidence = Evidence::new(&settings, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        // Probes at these seconds, good or not; then at this second, with this breaker
        for (probes, now, breaker, expected) in [
            (vec![], 9, State::Closed, Some("cold")),
            (vec![(0, true)], 0, State::Closed, Some("warming")),
            (vec![(0, true), (4, true)], 4, State::Closed, Some("warming")),
            (vec![(0, true), (4, true)], 5, State::Closed, None),
            (vec![(0, true), (4, false)], 9, State::Closed, Some("probe-failed")),
            (vec![(0, true), (4, false), (6, true)], 9, State::Closed, Some("warming")),
            (vec![(0, true), (4, false), (6, true)], 11, State::Closed, None),
            (vec![(0, true), (5, true)], 20, State::Closed, None),
            (vec![(0, true), (5, true)], 21, State::Closed, Some("unseen")),
            (vec![(0, true), (5, true)], 9, State::HalfOpen, Some("breaker")),
            (vec![(0, true), (5, true)], 9, State::Open, Some("breaker")),
        ] {
            let mut signs = Signs::default();
            for (second, is_good) in &probes {
                signs.probed(*is_good, after(*second));
            }
            let standing = Standing { signs, breaker };
            let unready = standing.unready(Stack::OldProd, &evidence, &settings, after(now));
            assert_eq!(unready.as_ref().map(Unready::as_str), expected, "{probes:?} {now}");
        }
    }

    #[test]
    fn a_stack_whose_answers_are_bad_is_not_ready_whatever_its_probes_say() {
        let (settings, start) = (settings::Switch::default(), Instant::now());
        let later = start + Duration::from_secs(9);
        let mut signs = Signs::default();
        signs.probed(true, start);
        signs.probed(true, later);
        let standing = Standing { signs, breaker: State::Closed };
        for (bad, expected) in [(0, None), (60, Some("ill"))] {
            let mut evidence = Evidence::new(&settings, start);
            let answers = Counts { decisions: 600, stand_ins: bad, bad, ..Counts::default() };
            evidence.served(Stack::OldProd, answers, later);
            let unready = standing.unready(Stack::OldProd, &evidence, &settings, later);
            assert_eq!(unready.as_ref().map(Unready::as_str), expected);
        }
    }
}
