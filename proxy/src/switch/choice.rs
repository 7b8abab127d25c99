//! Which stack serves a request: the active one, unless its merchant is pinned or a canary takes it. A
//! choice never changes; an order makes the next one, with a generation that is one higher.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use backstop_contract::order::What;
use backstop_contract::{Canary, Stack, Timestamp};

/// Which stack serves whom, since when and why.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// One more with each order; 0 while nothing was ever ordered.
    pub generation: u64,
    /// Where requests go.
    pub course: Course,
    /// Merchants whose requests go elsewhere, whatever the course.
    pub pins: BTreeMap<String, Stack>,
    /// When it ends by itself, and what comes then.
    pub until: Option<Until>,
    /// What was in force before, for an undo.
    pub before: Option<Before>,
    /// What was ordered.
    pub what: Kind,
    /// Since when.
    pub since: Timestamp,
    /// Who said so.
    pub who: String,
    /// Why.
    pub reason: String,
    /// When an operator last chose the active stack.
    pub ordered_at: Option<Timestamp>,
    /// When the edge last did so by itself.
    pub automatic_at: Option<Timestamp>,
    /// When the active stack last changed.
    pub switched_at: Option<Timestamp>,
}

/// Where requests go that nobody pinned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// To this stack,
    pub active: Stack,
    /// but for these.
    pub canary: Option<Canary>,
}

/// The end of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Until {
    /// By the wall clock, since it must survive a restart.
    pub at: Timestamp,
    /// What comes then.
    pub back: Course,
}

/// What an undo brings back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Before {
    /// Where requests went.
    pub course: Course,
    /// And who was pinned.
    #[serde(default)]
    pub pins: BTreeMap<String, Stack>,
}

/// What made a choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nothing was ordered yet.
    #[default]
    Start,
    /// An operator chose a stack.
    Switch,
    /// An operator took the last order back.
    Undo,
    /// It came to its end.
    Revert,
    /// The edge switched by itself.
    Automatic,
    /// An operator began, changed or ended a canary.
    Canary,
    /// The edge ended a canary by itself.
    CanaryEnded,
    /// An operator pinned a merchant, or let it go.
    Pin,
}

impl Kind {
    /// The word in the audit log and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Switch => "switch",
            Self::Undo => "undo",
            Self::Revert => "revert",
            Self::Automatic => "automatic",
            Self::Canary => "canary",
            Self::CanaryEnded => "canary-ended",
            Self::Pin => "pin",
        }
    }
}

/// Who makes the next choice, when and why.
#[derive(Clone, Debug)]
pub struct Hand {
    /// What is done.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub who: String,
    /// Why.
    pub reason: String,
}

/// There is nothing to take back.
#[derive(Debug, PartialEq, Eq)]
pub struct NothingBefore;

impl Choice {
    /// The stack that serves a request of this account.
    pub fn stack_for(&self, merchant: &str, account: &str) -> Stack {
        if let Some(pinned) = self.pins.get(merchant) {
            return *pinned;
        }
        match &self.course.canary {
            Some(canary) if canary.takes(merchant, account) => canary.to,
            _ => self.course.active,
        }
    }

    /// What an order makes of it. A switch ends a canary, and neither it nor a canary touches the pins.
    pub fn ordered(
        &self,
        what: &What,
        lasts: Option<Duration>,
        hand: Hand,
    ) -> Result<Self, NothingBefore> {
        let mut next = self.next(hand);
        match what {
            What::Switch(to) => next.course = Course { active: *to, canary: None },
            What::Canary(canary) => next.course.canary = *canary,
            What::Pin { merchant, to: Some(stack) } => {
                next.pins.insert(merchant.clone(), *stack);
            }
            What::Pin { merchant, to: None } => {
                next.pins.remove(merchant);
            }
            What::Undo => {
                let Before { course, pins } = self.before.clone().ok_or(NothingBefore)?;
                (next.course, next.pins) = (course, pins);
            }
        }
        if matches!(what, What::Switch(_) | What::Undo) {
            next.ordered_at = Some(next.since);
            next.until = None;
        }
        if let Some(lasts) = lasts {
            next.until = Some(Until { at: after(next.since, lasts), back: self.course });
        }
        Ok(next.stamped(self))
    }

    /// What comes at its end; none where it has none, or not yet.
    pub fn reverted(&self, hand: Hand) -> Option<Self> {
        let until = self.until.filter(|until| until.at <= hand.at)?;
        let mut next = self.next(hand);
        (next.course, next.until) = (until.back, None);
        Some(next.stamped(self))
    }

    /// What the edge makes of it by itself: another active stack, or no canary where that is what is bad.
    #[must_use]
    pub fn automatic(&self, course: Course, hand: Hand) -> Self {
        let mut next = self.next(hand);
        next.course = course;
        if course.active == self.course.active {
            // What it reverts to must not bring the bad canary back.
            if let Some(until) = &mut next.until {
                until.back.canary = None;
            }
        } else {
            next.until = None;
            next.automatic_at = Some(next.since);
        }
        next.stamped(self)
    }

    fn next(&self, hand: Hand) -> Self {
        Self {
            generation: self.generation.saturating_add(1),
            before: Some(Before { course: self.course, pins: self.pins.clone() }),
            what: hand.kind,
            since: hand.at,
            who: hand.who,
            reason: hand.reason,
            ..self.clone()
        }
    }

    fn stamped(mut self, from: &Self) -> Self {
        if self.course.active != from.course.active {
            self.switched_at = Some(self.since);
        }
        self
    }
}

/// So long after a moment of the wall clock.
fn after(at: Timestamp, length: Duration) -> Timestamp {
    let millis = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::canary::{By, Percent, Share};

    const fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn hand(kind: Kind, millis: i64) -> Hand {
        Hand { kind, at: at(millis), who: "maria".into(), reason: "r".into() }
    }

    fn canary(to: Stack, percent: f64) -> Canary {
        let share = Share::Percent(Percent::try_from(percent).unwrap());
        Canary { to, share, by: By::Account }
    }

    fn order(choice: &Choice, what: &What, lasts: Option<u64>, millis: i64) -> Choice {
        let lasts = lasts.map(Duration::from_millis);
        choice.ordered(what, lasts, hand(Kind::Switch, millis)).unwrap()
    }

    #[test]
    fn a_request_goes_to_the_active_stack_unless_pinned_or_taken_by_a_canary() {
        let start = Choice::default();
        assert_eq!(start.stack_for("demo", "a"), Stack::Prod);
        let all = order(&start, &What::Canary(Some(canary(Stack::OldProd, 100.0))), None, 1);
        assert_eq!(all.stack_for("demo", "a"), Stack::OldProd);
        let pin = What::Pin { merchant: "demo".into(), to: Some(Stack::Prod) };
        let pinned = order(&all, &pin, None, 2);
        assert_eq!(pinned.stack_for("demo", "a"), Stack::Prod);
        assert_eq!(pinned.stack_for("shop", "a"), Stack::OldProd);
        let unpin = What::Pin { merchant: "demo".into(), to: None };
        assert_eq!(order(&pinned, &unpin, None, 3).stack_for("demo", "a"), Stack::OldProd);
    }

    #[test]
    fn a_switch_ends_the_canary_and_keeps_the_pins() {
        let pin = What::Pin { merchant: "demo".into(), to: Some(Stack::OldProd) };
        let choice = order(&Choice::default(), &pin, None, 1);
        let choice = order(&choice, &What::Canary(Some(canary(Stack::OldProd, 14.0))), None, 2);
        let choice = order(&choice, &What::Switch(Stack::OldProd), None, 3);
        assert_eq!(choice.course, Course { active: Stack::OldProd, canary: None });
        assert_eq!((choice.pins.len(), choice.generation), (1, 3));
        assert_eq!(choice.switched_at, Some(at(3)));
        let again = order(&choice, &What::Switch(Stack::OldProd), None, 4);
        assert_eq!((again.switched_at, again.ordered_at), (Some(at(3)), Some(at(4))));
    }

    #[test]
    fn an_end_brings_back_what_was_before_and_not_sooner() {
        let start =
            order(&Choice::default(), &What::Canary(Some(canary(Stack::OldProd, 14.0))), None, 1);
        let short = order(&start, &What::Switch(Stack::OldProd), Some(900_000), 1_000);
        assert_eq!(short.reverted(hand(Kind::Revert, 900_999)), None);
        let back = short.reverted(hand(Kind::Revert, 901_000)).unwrap();
        assert_eq!((back.course, back.until, back.generation), (start.course, None, 3));
        // A pin in between changes nothing of that; an order of the operator does.
        let pin = What::Pin { merchant: "demo".into(), to: Some(Stack::Prod) };
        assert_eq!(order(&short, &pin, None, 2_000).until, short.until);
        let meant = order(&short, &What::Switch(Stack::OldProd), None, 2_000);
        assert_eq!(meant.reverted(hand(Kind::Revert, i64::MAX)), None);
    }

    #[test]
    fn an_undo_brings_back_course_and_pins_and_a_second_one_takes_it_back() {
        assert_eq!(
            Choice::default().ordered(&What::Undo, None, hand(Kind::Undo, 1)).unwrap_err(),
            NothingBefore
        );
        let start =
            order(&Choice::default(), &What::Canary(Some(canary(Stack::OldProd, 14.0))), None, 1);
        let switched = order(&start, &What::Switch(Stack::OldProd), Some(60_000), 2);
        let undone = order(&switched, &What::Undo, None, 3);
        assert_eq!((undone.course, undone.until, undone.generation), (start.course, None, 3));
        assert_eq!(order(&undone, &What::Undo, None, 4).course, switched.course);
        let pin = What::Pin { merchant: "demo".into(), to: Some(Stack::Prod) };
        let pinned = order(&start, &pin, None, 5);
        assert!(order(&pinned, &What::Undo, None, 6).pins.is_empty());
    }

    #[test]
    fn a_bad_canary_that_is_ended_does_not_come_back_at_the_end_of_a_switch() {
        let start =
            order(&Choice::default(), &What::Canary(Some(canary(Stack::OldProd, 14.0))), None, 1);
        let other = What::Canary(Some(canary(Stack::OldProd, 50.0)));
        let short = order(&start, &other, Some(60_000), 2);
        let course = Course { canary: None, ..short.course };
        let ended = short.automatic(course, hand(Kind::CanaryEnded, 3));
        assert_eq!(ended.automatic_at, None, "no switch");
        let back = ended.reverted(hand(Kind::Revert, 100_000)).unwrap();
        assert_eq!(back.course.canary, None);
        let flipped = short
            .automatic(Course { active: Stack::OldProd, canary: None }, hand(Kind::Automatic, 4));
        assert_eq!((flipped.automatic_at, flipped.until), (Some(at(4)), None));
    }
}
