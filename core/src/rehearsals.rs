//! What core would decide: the same rows and the same policy, and nothing written. For probes, for the
//! requests that the edge mirrors to see how a stack would fare, and for the people who write the rules
//! ([`recall`]).
//!
//! It reads beside the writers and never joins a set of theirs, so that no client waits for a rehearsal.

mod recall;

use std::sync::Arc;
use std::time::Duration;

use backstop_contract::{Deadline, Question, Timestamp};
use backstop_lua::{InForce, Rules};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use crate::decide::{Judge, Outcome, Set};
use crate::error::CoreError;
use crate::store::{Records, Wanted};
use crate::writer::wanted;

pub use self::recall::{Recalled, Recalls};

/// The most at once. Whoever comes then waits for half of its time, and is told that the queue is full while
/// somebody still listens: else it would seem that core was slow.
pub const REHEARSALS_MAX: usize = 16;

/// Where questions are rehearsed.
#[derive(Clone)]
pub struct Rehearsals<R> {
    /// The books.
    pub records: R,
    /// The policies.
    pub rules: Arc<InForce>,
    /// The stack that decides.
    pub stack: String,
    /// How long a policy may run where its caller leaves it the time.
    pub policy_time_max: Duration,
    /// One permit for each under way, [`REHEARSALS_MAX`] in all.
    pub places: Arc<Semaphore>,
}

impl<R: Records> Rehearsals<R> {
    /// What would be decided.
    pub async fn rehearse(
        &self,
        question: Question,
        deadline: Option<Deadline>,
    ) -> Result<Outcome, CoreError> {
        let rehearsals = self.clone();
        let outcome = async move { rehearsals.rehearse_to_the_end(&question, deadline).await };
        in_a_place(&self.places, deadline, outcome).await
    }

    async fn rehearse_to_the_end(
        &self,
        question: &Question,
        deadline: Option<Deadline>,
    ) -> Result<Outcome, CoreError> {
        let (standing, request) = (self.rules.load_full(), &question.request);
        let rules = standing.rules_for(&question.merchant, &request.account, &request.policy);
        let keys = rules.keys(question, self.time_for(deadline)?);
        let wanted = wanted::by_rehearsal(question, &keys, rules);
        let mut set = self.load(question, wanted, rules).await?;
        let time_max = self.time_for(deadline)?;
        set.rehearse(question, &keys, Timestamp::now(), time_max)
    }

    /// What there is in the books of what is wanted for a question, its own decision and all that it
    /// touched included.
    async fn load<'a>(
        &'a self,
        question: &Question,
        wanted: Wanted,
        rules: &'a Rules,
    ) -> Result<Set<'a>, CoreError> {
        let mut loaded = self.records.load(wanted).await?;
        let named = wanted::by_what_was_rehearsed(question, &loaded);
        if !named.is_empty() {
            loaded.extend(self.records.load(named).await?);
        }
        let judge = Judge { rules, stack: &self.stack, policy_time_max: self.policy_time_max };
        Ok(Set::new(judge, loaded))
    }

    /// How long a policy may run for a caller with this deadline.
    fn time_for(&self, deadline: Option<Deadline>) -> Result<Duration, CoreError> {
        let left = deadline.map_or(Duration::MAX, |deadline| deadline.left(Instant::now()));
        if left.is_zero() {
            return Err(CoreError::TooLate);
        }
        Ok(std::cmp::min(left, self.policy_time_max))
    }
}

/// Waits for a place, and for what is read there. A caller who walks away leaves its statement a task of its
/// own.
async fn in_a_place<T: Send + 'static>(
    places: &Arc<Semaphore>,
    deadline: Option<Deadline>,
    reading: impl Future<Output = Result<T, CoreError>> + Send + 'static,
) -> Result<T, CoreError> {
    let patience = deadline.map(|deadline| deadline.left(Instant::now()) / 2);
    let place = Arc::clone(places).acquire_owned();
    let place = timeout(patience.unwrap_or_default(), place).await;
    let Ok(Ok(place)) = place else { return Err(CoreError::QueueFull) };
    let reading = tokio::spawn(async move {
        let read = reading.await;
        drop(place);
        read
    });
    reading.await.unwrap_or(Err(CoreError::Failed))
}
