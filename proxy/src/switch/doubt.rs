//! Whether the stack that serves is in doubt. Then more of what it serves is mirrored: what the edge goes
//! by, when it is to leave it, are the answers of the other stack, and a rehearsal is dear as long as
//! nothing speaks against the one that serves, or nothing could be made of it.
//!
//! Probes ask for less: they are written from the first stand-in on. That is no doubt yet. A stack whose
//! answers are within every limit has some all day, under load most of all, and ten times the rehearsals
//! would be a load of their own.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::breaker::State;
use backstop_contract::{Stack, Timestamp};
use backstop_settings::settings::{self, Mode};

use crate::switch::charge;
use crate::switch::mix;
use crate::switch::pilot::{View, locks_left};
use crate::switch::standing::Unready;

/// Of a million: what chance explains less often than this is a reason to look closely. It is none to act
/// upon, and may come from one moment and a small sample.
const CHANCE_PPM: u64 = 10_000;
/// What raises a doubt may be gone with the next answer, and come again with the one after it.
const LASTS_MIN: Duration = Duration::from_secs(3);

/// Why more is mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// It changed a moment ago, and has yet to show itself.
    Switched,
    /// Its breaker is not closed.
    Breaker,
    /// Its answers are over a limit, by what is known so far.
    Answers(charge::Kind),
    /// Its decisions seem to come out otherwise than the other stack's.
    Mix,
}

/// Doubts.
#[derive(Debug)]
pub struct Doubter {
    settings: settings::Switch,
    /// The same limits, exceeded sooner.
    hasty: settings::Switch,
    /// What is in doubt, and since when something is.
    raised: Option<(Doubt, Instant)>,
    /// When the stacks still seemed to differ though all the pairs were there that could be had.
    compared_at: Option<Instant>,
}

impl Doubter {
    /// One that goes by these limits.
    pub fn new(settings: settings::Switch) -> Self {
        let hasty = settings::Switch {
            sample_min: 1,
            moments_forgiven: 0,
            doubt_ppm: std::cmp::max(settings.doubt_ppm, CHANCE_PPM),
            ..settings.clone()
        };
        Self { settings, hasty, raised: None, compared_at: None }
    }

    /// What speaks against the stack that serves, or against a canary: where the edge could act upon it.
    pub fn look(&mut self, view: &View<'_>) -> Option<Doubt> {
        let course = view.choice.course;
        let canary = course.canary.map(|canary| canary.to).filter(|to| *to != course.active);
        let active = self.may_leave(course.active, view).then_some(course.active);
        let suspects = [canary, active];
        if self.settings.mode == Mode::Off || suspects == [None; 2] {
            self.raised = None;
            return None;
        }
        let is_young = |since| view.now.saturating_duration_since(since) < LASTS_MIN;
        self.raised = match (self.find(suspects, view), self.raised) {
            (Some(doubt), Some((_, since))) => Some((doubt, since)),
            (Some(doubt), None) => Some((doubt, view.now)),
            (None, raised) => raised.filter(|(_, since)| is_young(*since)),
        };
        self.raised.map(|(doubt, _)| doubt)
    }

    /// What speaks against these: a canary, and the stack that serves.
    fn find(&mut self, suspects: [Option<Stack>; 2], view: &View<'_>) -> Option<Doubt> {
        let [_, active] = suspects;
        if active.is_some() && self.is_new(view.choice.switched_at, view.at) {
            return Some(Doubt::Switched);
        }
        if active.is_some_and(|active| active.of(view.standings).breaker != State::Closed) {
            return Some(Doubt::Breaker);
        }
        let charged = |stack| charge::of_served(stack, view.evidence, &self.hasty);
        if let Some(charge) = suspects.into_iter().flatten().find_map(charged) {
            return Some(Doubt::Answers(charge.kind));
        }
        self.lacks_pairs(view).then_some(Doubt::Mix)
    }

    /// Whether the edge could leave the stack that serves while what is mirrored now still counts.
    fn may_leave(&self, active: Stack, view: &View<'_>) -> bool {
        let settings::Switch { window_long, warm_after, .. } = self.settings;
        let other = active.other();
        let standing = other.of(view.standings);
        let left = match standing.unready(other, view.evidence, &self.settings, view.now) {
            None => Some(Duration::ZERO),
            Some(Unready::Warming(well_for)) => Some(warm_after.saturating_sub(well_for)),
            Some(_) => None,
        };
        let locks = locks_left(&self.settings, view.choice, view.at);
        !standing.signs.refuses_rehearsals
            && left.is_some_and(|left| left <= window_long)
            && locks.into_iter().flatten().all(|left| left <= window_long)
    }

    /// Whether the stacks seem to decide otherwise, and more pairs would tell. After one window there are all
    /// that can be had. A difference that is there to stay is looked at once in a while.
    fn lacks_pairs(&mut self, view: &View<'_>) -> bool {
        let settings::Switch { window, window_long, .. } = self.settings;
        let is_over = |since, length| view.now.saturating_duration_since(since) >= length;
        let rests = self.compared_at.is_some_and(|at| !is_over(at, window_long));
        if rests || !mix::seems_other(view.evidence, &self.settings) {
            return false;
        }
        let has_enough = mix::has_enough_pairs(view.evidence, &self.settings)
            || self.raised.is_some_and(|(_, since)| is_over(since, window));
        if has_enough {
            self.compared_at = Some(view.now);
        }
        !has_enough
    }

    /// Until the edge may switch by itself again: by then the other stack has much to show.
    fn is_new(&self, switched_at: Option<Timestamp>, at: Timestamp) -> bool {
        switched_at.is_some_and(|since| at.distance(since) < self.settings.cool_down)
    }

    /// So many of a hundred requests are mirrored; none ever where nothing is to be.
    pub fn percent(&self, doubt: Option<Doubt>) -> u64 {
        let settings::Switch { mirror_percent, mirror_percent_in_doubt, mirror_rate_min, .. } =
            self.settings;
        let mirrors = mirror_percent > 0 || mirror_rate_min > 0;
        if doubt.is_some() && mirrors {
            std::cmp::max(mirror_percent, mirror_percent_in_doubt)
        } else {
            mirror_percent
        }
    }
}

impl Doubt {
    /// What it is about, in one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Switched => "switched",
            Self::Breaker => "breaker",
            Self::Answers(kind) => kind.as_str(),
            Self::Mix => "mix",
        }
    }
}

#[cfg(test)]
mod tests;
