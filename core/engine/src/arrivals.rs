//! Which advices of a node have arrived, by their numbers: all up to one, and runs above it. What lies
//! between is a gap, which somebody may have to look for.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

/// The most runs above the first gap that are kept.
pub const RUNS_MAX: usize = 1_024;

/// The numbers of one epoch that have arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Every number from 1 to this one.
    upto: u64,
    /// Runs above it, from and to, apart from each other and in order.
    above: Vec<Run>,
}

/// A run of numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run(pub u64, pub u64);

impl Arrivals {
    /// What was kept; `None` where that is impossible.
    pub fn new(upto: u64, above: Vec<Run>) -> Option<Self> {
        let mut before = upto;
        for Run(first, last) in &above {
            if *first <= before.checked_add(1)? || last < first {
                return None;
            }
            before = *last;
        }
        Some(Self { upto, above })
    }

    /// Every number from 1 to this one has arrived.
    pub const fn upto(&self) -> u64 {
        self.upto
    }

    /// The runs above it.
    pub fn above(&self) -> &[Run] {
        &self.above
    }

    /// Takes note of a number. Returns the gap that is given up for lack of room, the oldest: the most
    /// time was had to see it.
    pub fn arrived(&mut self, number: NonZeroU64) -> Option<Run> {
        let number = number.get();
        if number <= self.upto {
            return None;
        }
        // The first run that ends at the number before this one, or later.
        let place = self.above.partition_point(|run| run.1.saturating_add(1) < number);
        match self.above.get_mut(place) {
            Some(run) if run.0 <= number && number <= run.1 => {}
            Some(run) if run.1.checked_add(1) == Some(number) => {
                run.1 = number;
                self.join(place);
            }
            Some(run) if number.checked_add(1) == Some(run.0) => run.0 = number,
            _ => self.above.insert(place, Run(number, number)),
        }
        self.reach();
        if self.above.len() <= RUNS_MAX {
            return None;
        }
        let given_up = self.gaps().next();
        self.upto = given_up.map_or(self.upto, |gap| gap.1);
        self.reach();
        given_up
    }

    /// The numbers that have not arrived though later ones have, oldest first.
    pub fn gaps(&self) -> impl Iterator<Item = Run> {
        let ends = std::iter::once(self.upto).chain(self.above.iter().map(|run| run.1));
        let gap =
            |(before, run): (u64, &Run)| Run(before.saturating_add(1), run.0.saturating_sub(1));
        ends.zip(&self.above).map(gap)
    }

    /// Joins a run that has grown with the one after it.
    fn join(&mut self, place: usize) {
        let next = self.above.get(place + 1).copied();
        if let (Some(run), Some(next)) = (self.above.get_mut(place), next)
            && run.1.checked_add(1) == Some(next.0)
        {
            run.1 = next.1;
            self.above.remove(place + 1);
        }
    }

    /// Moves on over the first run, once nothing is missing before it.
    fn reach(&mut self) {
        if let Some(Run(first, last)) = self.above.first().copied()
            && self.upto.checked_add(1) == Some(first)
        {
            self.upto = last;
            self.above.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn arrived(numbers: impl IntoIterator<Item = u64>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for number in numbers {
            assert_eq!(arrivals.arrived(NonZeroU64::new(number).unwrap()), None);
        }
        arrivals
    }

    fn gaps(arrivals: &Arrivals) -> Vec<Run> {
        arrivals.gaps().collect()
    }

    #[test]
    fn what_is_missing_below_what_arrived_is_a_gap() {
        for (numbers, upto, missing) in [
            (vec![], 0, vec![]),
            (vec![1, 2, 3], 3, vec![]),
            (vec![3, 1, 2], 3, vec![]),
            (vec![2], 0, vec![Run(1, 1)]),
            (vec![1, 5, 4, 9, 4], 1, vec![Run(2, 3), Run(6, 8)]),
            (vec![1, 3, 5, 4], 1, vec![Run(2, 2)]),
            (vec![u64::MAX, 1, u64::MAX - 1], 1, vec![Run(2, u64::MAX - 2)]),
        ] {
            let arrivals = arrived(numbers);
            assert_eq!((arrivals.upto(), gaps(&arrivals)), (upto, missing));
        }
    }

    #[test]
    fn with_too_many_gaps_the_oldest_is_given_up_and_named() {
        let mut arrivals = arrived((1..=RUNS_MAX as u64).map(|run| run * 3));
        assert_eq!(arrivals.above().len(), RUNS_MAX);
        let next = NonZeroU64::new(RUNS_MAX as u64 * 3 + 3).unwrap();
        assert_eq!(arrivals.arrived(next), Some(Run(1, 2)));
        assert_eq!((arrivals.upto(), arrivals.above().len()), (3, RUNS_MAX));
        assert_eq!(gaps(&arrivals).first(), Some(&Run(4, 5)));
    }

    #[test]
    fn only_what_can_have_been_kept_is_read() {
        assert!(Arrivals::new(3, vec![Run(5, 5), Run(7, 9)]).is_some());
        for (upto, above) in [
            (3, vec![Run(3, 5)]),
            (3, vec![Run(4, 5)]),
            (3, vec![Run(6, 5)]),
            (3, vec![Run(7, 9), Run(10, 11)]),
            (3, vec![Run(7, 9), Run(5, 5)]),
            (u64::MAX, vec![Run(0, 0)]),
        ] {
            assert_eq!(Arrivals::new(upto, above.clone()), None, "{upto} {above:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_in_any_order_and_number_leave_the_gaps_of_a_set(
            numbers in prop::collection::vec(1..60_u64, 0..80),
        ) {
            let arrivals = arrived(numbers.iter().copied());
            let set: BTreeSet<u64> = numbers.into_iter().collect();
            let last = set.last().copied().unwrap_or_default();
            let missing: Vec<u64> = (1..=last).filter(|number| !set.contains(number)).collect();
            let said: Vec<u64> = arrivals.gaps().flat_map(|Run(first, last)| first..=last).collect();
            prop_assert_eq!(said, missing);
            prop_assert_eq!(Arrivals::new(arrivals.upto(), arrivals.above().to_vec()), Some(arrivals));
        }
    }
}
