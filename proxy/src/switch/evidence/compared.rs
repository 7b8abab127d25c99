//! What both stacks answered in the same moments. Load comes and goes, what it does to both with it, and how
//! much of it is mirrored changes too: the answers of a whole window are those of other moments for the one
//! stack than for the other, and where both fared alike all the time one of them may look better.

use std::time::Duration;

use backstop_settings::settings;

use super::windows::Windows;
use super::{Counts, SLOTS, Span, nanos};
use crate::switch::chance;

const MILLION: u64 = 1_000_000;
/// A moment in which only one of them answered goes on until both did, but for no more slots than these: what
/// the other answers later is of another moment.
const SLOTS_MAX: u32 = 3;

/// What one stack answered to requests, next to all that the other answered then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// What the one answered in moments in which both did.
    pub own: Counts,
    /// What the other answered in those.
    pub other: Counts,
    /// In millionths: what the other's would be had all of each moment come out alike.
    expected: Counts,
}

impl Compared {
    /// The doubt that the other fares better.
    pub fn doubt(&self, count: impl Fn(&Counts) -> u64) -> f64 {
        let expected = count(&self.expected) as f64 / MILLION as f64;
        chance::no_better(count(&self.own), count(&self.other), expected)
    }
}

/// The same in windows of every length, a moment at a time.
#[derive(Debug)]
pub(super) struct Comparison {
    own: Windows,
    other: Windows,
    expected: Windows,
    /// What both answered in the moment that is going on.
    open: (Counts, Counts),
    /// When that began, in nanoseconds,
    began: u64,
    /// how long it lasts at least,
    min: u64,
    /// and at most.
    max: u64,
}

impl Comparison {
    pub(super) fn new(settings: &settings::Switch) -> Self {
        let slot: Duration = settings.window / SLOTS;
        let windows = || Windows::new(settings);
        Self {
            own: windows(),
            other: windows(),
            expected: windows(),
            open: <_>::default(),
            began: 0,
            min: nanos(slot),
            max: nanos(slot * SLOTS_MAX),
        }
    }

    /// The one answered this.
    pub(super) fn own(&mut self, counts: Counts) {
        self.open.0 += counts;
    }

    /// The other did.
    pub(super) fn other(&mut self, counts: Counts) {
        self.open.1 += counts;
    }

    /// Ends the moment that is going on if it has lasted, so many nanoseconds after the beginning of all.
    pub(super) fn end_moment(&mut self, elapsed: u64) {
        let lasted = elapsed.saturating_sub(self.began);
        let (own, other) = self.open;
        let is_whole = own.decisions > 0 && other.decisions > 0;
        if lasted < self.min || !is_whole && lasted < self.max {
            return;
        }
        (self.open, self.began) = (<_>::default(), elapsed);
        if is_whole {
            self.own.add(own);
            self.other.add(other);
            self.expected.add(expected(own, other));
        }
    }

    pub(super) fn advance(&mut self, elapsed: u64) {
        for windows in [&mut self.own, &mut self.other, &mut self.expected] {
            windows.advance(elapsed);
        }
    }

    pub(super) fn of(&self, span: Span) -> Compared {
        let Self { own, other, expected, .. } = self;
        Compared { own: own.total(span), other: other.total(span), expected: expected.total(span) }
    }
}

/// The other's part of what came out in each way, in millionths.
fn expected(own: Counts, other: Counts) -> Counts {
    let mut both = own;
    both += other;
    let (part, all) = (u128::from(other.decisions), u128::from(both.decisions));
    let of = |count| (u128::from(count) * u128::from(MILLION) * part).checked_div(all);
    let millionths = |count| of(count).and_then(|it| u64::try_from(it).ok()).unwrap_or_default();
    Counts::from_array(both.to_array().map(millionths))
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::switch::evidence::Evidence;
    use backstop_contract::Stack;

    const SECOND: Duration = Duration::from_secs(1);

    /// So many answers in half a second, and so many of them bad.
    type Answers = (u64, u64);

    /// What comes of moments of these answers of prod, and of old-prod to mirrored requests.
    fn compared(moments: &[(Answers, Answers)]) -> (Answers, Answers, f64) {
        let (settings, start) = (settings::Switch::default(), Instant::now());
        let mut evidence = Evidence::new(&settings, start);
        let counts = |(decisions, bad)| Counts { decisions, bad, ..Counts::default() };
        for (moment, (own, other)) in (1..).zip(moments) {
            let now = start + SECOND * moment / 2;
            evidence.answered_mirrored(Stack::OldProd, counts(*other), now);
            evidence.served(Stack::Prod, counts(*own), now);
            evidence.end_moment(now);
        }
        let compared = evidence.compared(Stack::Prod, Span::Short);
        let answers = |it: Counts| (it.decisions, it.bad);
        (answers(compared.own), answers(compared.other), compared.doubt(|it| it.bad))
    }

    #[test]
    fn another_is_better_only_by_what_it_answered_in_the_same_moments() {
        let (well, bad) = ((500, 0), (500, 100));
        for (what, moments, own, other, is_better) in [
            ("as bad", vec![(bad, (50, 10))], bad, (50, 10), false),
            ("better", vec![(bad, (50, 0))], bad, (50, 0), true),
            // By all of it: 100 of 1,000 against 10 of 300, which chance explains once in 10,000 times.
            (
                "as bad, and then it answered more often",
                vec![(bad, (50, 10)), (well, (250, 0))],
                (1_000, 100),
                (300, 10),
                false,
            ),
            (
                "well, and a moment later",
                vec![(bad, (0, 0)), (well, (50, 0))],
                (1_000, 100),
                (50, 0),
                true,
            ),
            (
                "well, but at another time",
                [vec![(bad, (0, 0)); 3], vec![(well, (50, 0))]].concat(),
                well,
                (50, 0),
                false,
            ),
        ] {
            let got = compared(&moments);
            assert_eq!((got.0, got.1), (own, other), "{what}");
            assert_eq!(got.2 < 0.01, is_better, "{what}: {}", got.2);
        }
    }
}
