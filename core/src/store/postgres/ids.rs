//! Which ids are decided, as far as this core knows. Only those are looked for at the server: any other is taken
//! for new, and the commit refuses it if it is not. To look for ids that are nowhere was half of what a set had
//! to read.
//!
//! Once a commit failed, all of them are looked for, for a while: whoever asks again after a switch, a restart,
//! or a commit of which nobody knows what became, seldom asks alone.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Duration;

use quick_cache::unsync::Cache;
use tokio::time::Instant;

use crate::store::{DecisionKey, Wanted};

/// Ids that are known to be decided. One that is asked again after so many others costs a commit that fails.
const DECIDED_MAX: usize = 131_072;
/// How long every id is looked for after a commit failed.
const DOUBTFUL_FOR: Duration = Duration::from_secs(1);

/// Ids that were decided not long ago.
pub struct Ids {
    /// Their hashes: two that are alike cost one look at the server.
    decided: Cache<u64, ()>,
    hashing: RandomState,
    doubtful_until: Option<Instant>,
}

impl Default for Ids {
    fn default() -> Self {
        let decided = Cache::new(DECIDED_MAX);
        Self { decided, hashing: RandomState::new(), doubtful_until: None }
    }
}

impl Ids {
    /// The same without the ids that are taken for new. Something is read in any case, where anything is wanted and
    /// was not read ahead: a set that only writes would be the one to find that its connection is gone.
    pub fn narrow(&self, mut wanted: Wanted) -> Wanted {
        let is_doubtful = self.doubtful_until.is_some_and(|until| Instant::now() < until);
        if !is_doubtful && wanted.has_more_than_asked() {
            wanted.asked.retain(|key| self.decided.get(&self.hash(key)).is_some());
        }
        wanted.with_asked_looked_for()
    }

    /// Takes note of one that is decided.
    pub fn learn(&mut self, key: &DecisionKey) {
        self.decided.insert(self.hash(key), ());
    }

    /// Takes none for new for a while.
    pub fn doubt(&mut self) {
        self.doubtful_until = Some(Instant::now() + DOUBTFUL_FOR);
    }

    fn hash(&self, key: &DecisionKey) -> u64 {
        self.hashing.hash_one(key)
    }
}
