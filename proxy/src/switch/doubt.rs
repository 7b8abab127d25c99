//! Whether the stack that serves is in doubt. Then more of what it serves is mirrored: what the edge goes
//! by, when it is to leave it, are the answers of the other stack, and a rehearsal is dear as long as
//! nothing speaks against the one that serves.
//!
//! Probes ask for less: they are written from the first stand-in on. That is no doubt yet. A stack whose
//! answers are within every limit has some all day, under load most of all, and ten times the rehearsals
//! would be a load of their own.

use backstop_contract::breaker::State;
use backstop_contract::{Stack, Timestamp};
use backstop_settings::settings;

use crate::switch::charge;
use crate::switch::mix;
use crate::switch::pilot::View;

/// Of a million: what chance explains less often than this is a reason to look closely. It is none to act
/// upon, and may come from one moment and a small sample.
const CHANCE_PPM: u64 = 10_000;

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
        Self { settings, hasty }
    }

    /// What speaks against the stack that serves, or against a canary.
    pub fn look(&self, view: &View<'_>) -> Option<Doubt> {
        if self.is_new(view.choice.switched_at, view.at) {
            return Some(Doubt::Switched);
        }
        let active = view.choice.course.active;
        if active.of(view.standings).breaker != State::Closed {
            return Some(Doubt::Breaker);
        }
        let charged = |stack| charge::of_served(stack, view.evidence, &self.hasty);
        if let Some(charge) = Stack::ALL.into_iter().find_map(charged) {
            return Some(Doubt::Answers(charge.kind));
        }
        mix::seems_other(view.evidence, &self.settings).then_some(Doubt::Mix)
    }

    /// Until the edge may switch by itself again: by then the other stack has much to show.
    fn is_new(&self, switched_at: Option<Timestamp>, at: Timestamp) -> bool {
        switched_at.is_some_and(|since| at.distance(since) < self.settings.cool_down)
    }

    /// So many of a hundred requests are mirrored.
    pub fn percent(&self, doubt: Option<Doubt>) -> u64 {
        let settings::Switch { mirror_percent, mirror_percent_in_doubt, .. } = self.settings;
        match doubt {
            None => mirror_percent,
            Some(_) => std::cmp::max(mirror_percent, mirror_percent_in_doubt),
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
