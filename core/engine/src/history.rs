//! Sliding-window counts and sums of one entity (a customer, a terminal) in a row of bounded size.
//!
//! A row is a list of *buckets* in the order of event time. While there are at most
//! [`BUCKETS_MAX`] of them, a bucket is one instant and every window is exact. Past that, the oldest
//! neighbours are joined on a grid that is finer where windows are shorter:
//!
//! | age of the bucket, counted from the newest event | grid |
//! |---|---|
//! | up to 1 h | 5 min |
//! | up to 24 h | 30 min |
//! | up to 7 d | 4 h |
//! | beyond | 1 day |
//!
//! A bucket spans less than its grid. One that straddles an end of a window counts in part, as if its
//! events had come evenly, so a window is off by less than that one bucket at each end.
//!
//! Measured by `tests/oracle.rs`, on card transactions that come by day and rest by night:
//!
//! | traffic of the entity | mean error of a count |
//! |---|---|
//! | one customer or terminal, up to 9 a day | none; 0.001 % over 30 days |
//! | 96 a day | none over 1 h; 0.2 % over 24 h, 7 d and 30 d; 1 % over 7 d that end 7 d ago |
//! | 9,600 a day | 0.4 % over 1 h; 0.05 % over 24 h; 0.1 % over 7 d; 0.3 % over 30 d; 1 % over 7 d that end 7 d ago |

mod counterparties;
mod encoding;
mod varint;

use std::time::Duration;

use backstop_contract::{Timestamp, Verdict};

pub use counterparties::COUNTERPARTIES_MAX;
use counterparties::Counterparties;
pub use encoding::DecodeError;

/// The most buckets that a row holds.
pub const BUCKETS_MAX: usize = 192;

/// The most bytes that a row encodes to.
pub const ENCODED_BYTES_MAX: usize = encoding::HEAD_BYTES_MAX
    + BUCKETS_MAX * encoding::BUCKET_BYTES_MAX
    + encoding::COUNT_BYTES_MAX
    + COUNTERPARTIES_MAX * encoding::MET_BYTES_MAX;

/// How long an event is kept, in event time: 37 days that policies may ask for (30, 7 late) and a margin.
pub const KEPT: Duration = Duration::from_hours(44 * 24);

/// Joining stops at this many, so that it runs once in 48 new buckets. The grid cannot fill it: 13
/// cells in the last hour, 47 in the day, 38 in the week, 39 beyond.
const BUCKETS_AFTER_JOINING: usize = 144;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// (oldest age, width) of each step of the grid. Each width divides the next: a bucket stays in one cell.
const GRID: [(i64, i64); 4] =
    [(HOUR, 5 * MINUTE), (DAY, 30 * MINUTE), (7 * DAY, 4 * HOUR), (i64::MAX, DAY)];

/// One entity's events of the last 44 days, compact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Disjoint, oldest first.
    buckets: Vec<Bucket>,
    /// None of them met after the newest bucket.
    counterparties: Counterparties,
}

/// The events of one instant or, once joined, of one cell of the grid.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bucket {
    /// The earliest event, in milliseconds since 1970.
    first: i64,
    /// The latest event.
    last: i64,
    /// How many there are, at least one.
    count: u64,
    /// The sum of their amounts.
    sum: u64,
    /// The part of the sum that was approved.
    approved: u64,
    /// How many are labelled a fraud, at most all.
    frauds: u64,
}

impl Bucket {
    /// What of `total`, a figure of this bucket, falls in `(after, until]`: a whole number of events, each
    /// like their average, so that a mean or a risk of a part is that of the whole.
    fn part(&self, total: u64, after: i64, until: i64) -> u64 {
        if after < self.first && self.last <= until {
            return total;
        }
        let from = std::cmp::max(self.first, after.saturating_add(1));
        let inside = std::cmp::min(self.last, until).abs_diff(from).saturating_add(1);
        let span = self.last.abs_diff(self.first).saturating_add(1);
        share(total, share(self.count, inside, span), self.count)
    }

    fn absorb(&mut self, later: &Self) {
        self.last = later.last;
        self.count = self.count.saturating_add(later.count);
        self.sum = self.sum.saturating_add(later.sum);
        self.approved = self.approved.saturating_add(later.approved);
        self.frauds = self.frauds.saturating_add(later.frauds);
    }
}

impl History {
    /// Counts one decided event, and whom it was with, if the policy said so. Events may come in any
    /// order; one that is over 44 days older than the newest is not kept.
    pub fn record(
        &mut self,
        at: Timestamp,
        amount: u64,
        verdict: Verdict,
        counterparty: Option<&str>,
    ) {
        let at = at.as_millis();
        let oldest =
            self.newest().map_or(i64::MIN, |newest| oldest_kept(std::cmp::max(newest, at)));
        if at < oldest {
            return;
        }
        let approved = if verdict == Verdict::Approve { amount } else { 0 };
        let place = self.place(at);
        match self.buckets.get_mut(place) {
            Some(bucket) if bucket.first <= at => {
                bucket.count = bucket.count.saturating_add(1);
                bucket.sum = bucket.sum.saturating_add(amount);
                bucket.approved = bucket.approved.saturating_add(approved);
            }
            _ => {
                let bucket =
                    Bucket { first: at, last: at, count: 1, sum: amount, approved, frauds: 0 };
                self.buckets.insert(place, bucket);
            }
        }
        let expired = self.buckets.partition_point(|bucket| bucket.last < oldest);
        self.buckets.drain(..expired);
        self.join_oldest();
        self.counterparties.expire(oldest);
        if let Some(counterparty) = counterparty {
            self.counterparties.meet(at, counterparty);
        }
    }

    /// Takes an event back that was recorded `at`, as far as a row can: it tells neither which of joined
    /// events it was, nor when a counterparty was met before. Nothing changes for one that is no longer
    /// kept.
    pub fn forget(&mut self, at: Timestamp, amount: u64, verdict: Verdict) {
        let at = at.as_millis();
        let place = self.place(at);
        let Some(bucket) = self.buckets.get_mut(place).filter(|bucket| bucket.first <= at) else {
            return;
        };
        if bucket.count <= 1 {
            self.buckets.remove(place);
            self.counterparties.forget_after(self.newest());
            return;
        }
        let approved = if verdict == Verdict::Approve { amount } else { 0 };
        bucket.count -= 1;
        bucket.sum = bucket.sum.saturating_sub(amount);
        bucket.approved = std::cmp::min(bucket.approved.saturating_sub(approved), bucket.sum);
        bucket.frauds = std::cmp::min(bucket.frauds, bucket.count);
    }

    /// Corrects the verdict on an event that was recorded `at`: only the approved sums change. Nothing does
    /// for an event that is no longer kept.
    pub fn correct(&mut self, at: Timestamp, amount: u64, was: Verdict, now: Verdict) {
        let at = at.as_millis();
        let place = self.place(at);
        let Some(bucket) = self.buckets.get_mut(place).filter(|bucket| bucket.first <= at) else {
            return;
        };
        match (was == Verdict::Approve, now == Verdict::Approve) {
            (false, true) => {
                let approved = bucket.approved.saturating_add(amount);
                bucket.approved = std::cmp::min(approved, bucket.sum);
            }
            (true, false) => bucket.approved = bucket.approved.saturating_sub(amount),
            (true, true) | (false, false) => {}
        }
    }

    /// Applies the label of an event that was recorded `at`; `was` is the label it had before, if any.
    /// Repeating a label changes nothing, nor does one for an event that is no longer kept.
    pub fn label(&mut self, at: Timestamp, fraud: bool, was: Option<bool>) {
        let at = at.as_millis();
        let place = self.place(at);
        let Some(bucket) = self.buckets.get_mut(place).filter(|bucket| bucket.first <= at) else {
            return;
        };
        match (fraud, was.unwrap_or(false)) {
            (true, false) => {
                bucket.frauds = std::cmp::min(bucket.frauds.saturating_add(1), bucket.count);
            }
            (false, true) => bucket.frauds = bucket.frauds.saturating_sub(1),
            (true, true) | (false, false) => {}
        }
    }

    /// How many events there were in `(now - delay - window, now - delay]`.
    pub fn count(&self, window: Duration, delay: Duration, now: Timestamp) -> u64 {
        self.total(window, delay, now, |bucket| bucket.count)
    }

    /// The sum of their amounts, in minor units.
    pub fn sum(&self, window: Duration, delay: Duration, now: Timestamp) -> u64 {
        self.total(window, delay, now, |bucket| bucket.sum)
    }

    /// The part of that sum that was approved.
    pub fn approved_sum(&self, window: Duration, delay: Duration, now: Timestamp) -> u64 {
        self.total(window, delay, now, |bucket| bucket.approved)
    }

    /// The mean amount; `None` without events.
    pub fn mean(&self, window: Duration, delay: Duration, now: Timestamp) -> Option<f64> {
        let count = self.count(window, delay, now);
        (count > 0).then(|| self.sum(window, delay, now) as f64 / count as f64)
    }

    /// How many of the events are labelled a fraud.
    pub fn frauds(&self, window: Duration, delay: Duration, now: Timestamp) -> u64 {
        self.total(window, delay, now, |bucket| bucket.frauds)
    }

    /// The share of frauds among the events; `None` without events.
    pub fn risk(&self, window: Duration, delay: Duration, now: Timestamp) -> Option<f64> {
        let count = self.count(window, delay, now);
        (count > 0).then(|| self.frauds(window, delay, now) as f64 / count as f64)
    }

    /// How many different counterparties were met in `(now - window, now]`. Exact below
    /// [`COUNTERPARTIES_MAX`], which itself means that many or more. It takes no delay: a row knows when it
    /// last met each of them, not every time. So, too, whoever was met again after `now` is not counted.
    pub fn distinct(&self, window: Duration, now: Timestamp) -> u64 {
        let until = now.as_millis();
        self.counterparties.within(until.saturating_sub(millis(window)), until)
    }

    /// The latest event at or before `now`.
    pub fn last_seen(&self, now: Timestamp) -> Option<Timestamp> {
        let seen = self.buckets.partition_point(|bucket| bucket.last <= now.as_millis());
        let bucket = self.buckets.get(seen.checked_sub(1)?)?;
        Some(Timestamp::from_millis(bucket.last))
    }

    /// Reads what [`encode`](Self::encode) wrote; refuses anything else without a large allocation.
    pub fn decode(row: &[u8]) -> Result<Self, DecodeError> {
        encoding::decode(row)
    }

    /// The row, in at most [`ENCODED_BYTES_MAX`] bytes and usually eight or nine for each bucket.
    pub fn encode(&self) -> Vec<u8> {
        encoding::encode(self)
    }

    fn newest(&self) -> Option<i64> {
        self.buckets.last().map(|bucket| bucket.last)
    }

    /// The index of the bucket that holds `at`, or else of the one before which it belongs.
    fn place(&self, at: i64) -> usize {
        // Most events are newer than all before them.
        match self.newest() {
            Some(newest) if newest >= at => self.buckets.partition_point(|bucket| bucket.last < at),
            _ => self.buckets.len(),
        }
    }

    fn total(
        &self,
        window: Duration,
        delay: Duration,
        now: Timestamp,
        of: impl Fn(&Bucket) -> u64,
    ) -> u64 {
        let until = now.as_millis().saturating_sub(millis(delay));
        let after = until.saturating_sub(millis(window));
        let start = self.buckets.partition_point(|bucket| bucket.last <= after);
        let end = self.buckets.partition_point(|bucket| bucket.first <= until);
        let buckets = self.buckets.get(start..end).unwrap_or_default();
        let parts = buckets.iter().map(|bucket| bucket.part(of(bucket), after, until));
        parts.fold(0, u64::saturating_add)
    }

    /// Joins the oldest neighbours that share a cell, no more than needed: what is recent stays exact.
    fn join_oldest(&mut self) {
        let (Some(newest), true) = (self.newest(), self.buckets.len() > BUCKETS_MAX) else {
            return;
        };
        let mut excess = self.buckets.len().saturating_sub(BUCKETS_AFTER_JOINING);
        let mut joined: Vec<Bucket> = Vec::with_capacity(BUCKETS_MAX);
        for bucket in self.buckets.drain(..) {
            match joined.last_mut() {
                Some(before)
                    if excess > 0 && cell(before.last, newest) == cell(bucket.last, newest) =>
                {
                    before.absorb(&bucket);
                    excess -= 1;
                }
                _ => joined.push(bucket),
            }
        }
        self.buckets = joined;
    }
}

/// `total * part / whole`, rounded. At most `total`, for a part is no more than its whole.
fn share(total: u64, part: u64, whole: u64) -> u64 {
    let whole = u128::from(std::cmp::max(whole, 1));
    let share = (u128::from(total) * u128::from(part) + whole / 2) / whole;
    u64::try_from(share).unwrap_or(total)
}

fn oldest_kept(newest: i64) -> i64 {
    newest.saturating_sub(millis(KEPT))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The cell of the grid that an event falls in: its width and number.
fn cell(at: i64, newest: i64) -> (i64, i64) {
    let age = newest.saturating_sub(at);
    let width = GRID.iter().find(|(oldest, _)| age <= *oldest).map_or(DAY, |(_, width)| *width);
    (width, at.div_euclid(width))
}

#[cfg(test)]
mod tests;
