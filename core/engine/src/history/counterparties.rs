//! Whom an entity met lately: the terminals of a customer, the cards of a device.
//!
//! The row keeps the [`COUNTERPARTIES_MAX`] met last, each as 64 bits and one time. Whoever was pushed
//! out was met before all that are kept, so a window that finds fewer than the maximum is exact, and
//! one that finds the maximum means *that many or more*.

use ring::digest;

/// The most counterparties that a row holds.
pub const COUNTERPARTIES_MAX: usize = 64;

/// One counterparty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Met {
    /// When it was last met, in milliseconds since 1970.
    pub(super) last: i64,
    /// The name, by [`hash_of`].
    pub(super) hash: u64,
}

/// Each counterparty once, the one met last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counterparties(pub(super) Vec<Met>);

impl Counterparties {
    /// Notes a meeting. Meetings may come in any order.
    pub(super) fn meet(&mut self, at: i64, name: &str) {
        let hash = hash_of(name);
        // Whom we meet now we often met lately.
        match self.0.iter().rposition(|met| met.hash == hash) {
            Some(known) if self.0.get(known).is_some_and(|met| met.last >= at) => return,
            Some(known) => drop(self.0.remove(known)),
            None => {}
        }
        let place = self.0.partition_point(|met| met.last <= at);
        self.0.insert(place, Met { last: at, hash });
        let excess = self.0.len().saturating_sub(COUNTERPARTIES_MAX);
        self.0.drain(..excess);
    }

    /// Forgets those that were last met before `oldest`.
    pub(super) fn expire(&mut self, oldest: i64) {
        let expired = self.0.partition_point(|met| met.last < oldest);
        self.0.drain(..expired);
    }

    /// Forgets those that were last met after `newest`; all of them where it is none.
    pub(super) fn forget_after(&mut self, newest: Option<i64>) {
        let kept = newest.map_or(0, |newest| self.0.partition_point(|met| met.last <= newest));
        self.0.truncate(kept);
    }

    /// How many were last met in `(after, until]`.
    pub(super) fn within(&self, after: i64, until: i64) -> u64 {
        let before = |limit| self.0.partition_point(|met| met.last <= limit);
        before(until).saturating_sub(before(after)) as u64
    }
}

/// The first eight bytes of the SHA-256 of a name, little-endian: the same on every machine and in every
/// release, and a client that chooses its names cannot cheaply make two of them one.
fn hash_of(name: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, name.as_bytes());
    digest.as_ref().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
