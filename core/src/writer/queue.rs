//! The way to the writers: a lane for each, in it a queue for those who wait and one for what can.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use backstop_contract::{Deadline, Question};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::decide::Outcome;
use crate::decide::settle::Advice;
use crate::error::CoreError;
use crate::metrics::{Metrics, Place};
use crate::store::settled::SequenceKey;
use crate::store::{DecisionKey, RowKey};

/// Advices that wait in one lane, at most. Whoever brings more waits with them.
const ADVICES_WAITING_MAX: usize = 256;

/// What is asked of a writer.
#[derive(Debug)]
pub enum Ask {
    /// Decide this.
    Decide(Box<Question>),
    /// Label this decision: a fraud, or not.
    Label(DecisionKey, bool),
    /// Set what is left of this stock.
    SetStock(RowKey, i64),
    /// Settle this. Nobody's budget hangs on it.
    Settle(Box<Advice>),
    /// These advices have arrived, by number.
    Arrived(SequenceKey, Vec<u64>),
}

impl Ask {
    /// Whether somebody waits for it.
    pub(super) const fn is_live(&self) -> bool {
        !matches!(self, Self::Settle(_) | Self::Arrived(..))
    }

    /// The merchant, and what of it most of the rows belong to.
    fn concerns(&self) -> (&str, &str) {
        match self {
            Self::Decide(question) => (&question.merchant, &question.request.account),
            Self::Settle(advice) => (&advice.question.merchant, &advice.question.request.account),
            Self::Label(key, _) => key.words(),
            Self::SetStock(key, _) => key.words(),
            Self::Arrived(key, _) => (&key.node, ""),
        }
    }
}

/// What is asked, and whom to tell.
pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) deadline: Option<Deadline>,
    pub(super) reply: Reply,
}

/// Takes the outcome to whoever asked.
pub(super) type Reply = Box<dyn FnOnce(Result<Outcome, CoreError>) + Send + Sync>;

/// The way to the writers. Clones share it; when the last is gone, they end what they have and stop.
#[derive(Clone)]
pub struct Queue {
    pub(super) lanes: Arc<[Lane]>,
    pub(super) metrics: Metrics,
}

/// The way to one writer.
pub(super) struct Lane {
    pub(super) live: mpsc::Sender<Job>,
    pub(super) bulk: mpsc::Sender<Job>,
    pub(super) needed: Needed,
}

/// What waits for one writer.
pub(super) struct Waiting {
    pub(super) live: mpsc::Receiver<Job>,
    bulk: mpsc::Receiver<Job>,
}

/// What a unit takes, as its writer last learned it.
#[derive(Clone, Default)]
pub(super) struct Needed(Arc<AtomicU64>);

impl Needed {
    pub(super) fn set(&self, needed: Duration) {
        let micros = u64::try_from(needed.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

impl Lane {
    /// A lane for `queue_max` who wait, and what waits in it.
    pub(super) fn new(queue_max: usize) -> (Self, Waiting) {
        let (live, waiting) = mpsc::channel(queue_max);
        let (bulk, advices) = mpsc::channel(ADVICES_WAITING_MAX);
        let lane = Self { live, bulk, needed: Needed::default() };
        (lane, Waiting { live: waiting, bulk: advices })
    }
}

impl Waiting {
    /// The next set: who waits, up to `live_max`, and some advices with them, the fewer the more wait; one at
    /// least, or they might wait for ever. Advices go first, so that a retry in their set is told what its
    /// client was told. `None` once nobody can ask any more.
    pub(super) async fn next(&mut self, live_max: usize, bulk_max: usize) -> Option<Vec<Job>> {
        let (mut jobs, mut live) = (Vec::new(), Vec::with_capacity(live_max));
        let taken = tokio::select! {
            biased;
            live = self.live.recv_many(&mut live, live_max), if !self.live_has_ended() => live,
            bulk = self.bulk.recv_many(&mut jobs, bulk_max), if !self.bulk_has_ended() => bulk,
            else => return None,
        };
        if taken == 0 {
            // One of the two has ended. The other may have more.
            return Some(Vec::new());
        }
        while live.len() < live_max
            && let Ok(job) = self.live.try_recv()
        {
            live.push(job);
        }
        let room = bulk_max * live_max.saturating_sub(live.len()) / std::cmp::max(live_max, 1);
        while jobs.len() < std::cmp::max(room, 1)
            && let Ok(job) = self.bulk.try_recv()
        {
            jobs.push(job);
        }
        jobs.append(&mut live);
        Some(jobs)
    }

    /// Whether the next set would be as large as one may be.
    pub(super) fn has_a_whole_set(&self, live_max: usize) -> bool {
        self.live.len() >= live_max
    }

    /// Whether a moment's rest makes the next set larger, and lets nobody wait for nothing.
    pub(super) fn may_rest(&self, live_max: usize) -> bool {
        !self.has_a_whole_set(live_max) && !self.live.is_closed() && self.bulk.is_empty()
    }

    fn live_has_ended(&self) -> bool {
        self.live.is_closed() && self.live.is_empty()
    }

    fn bulk_has_ended(&self) -> bool {
        self.bulk.is_closed() && self.bulk.is_empty()
    }
}

impl Queue {
    /// Waits for the outcome, which is in the books when this returns. It may be there, too, when the
    /// future is dropped or the database is out of reach: a retry finds out.
    pub async fn ask(&self, ask: Ask, deadline: Option<Deadline>) -> Result<Outcome, CoreError> {
        let (reply, outcome) = oneshot::channel();
        self.put(ask, deadline, |it| {
            // The caller may have walked away; the outcome stands.
            let _walked_away = reply.send(it);
        });
        outcome.await.unwrap_or(Err(CoreError::Unusable))
    }

    /// The same for a caller that does not wait: `reply` is called with the outcome.
    pub fn put(
        &self,
        ask: Ask,
        deadline: Option<Deadline>,
        reply: impl FnOnce(Result<Outcome, CoreError>) + Send + Sync + 'static,
    ) {
        let Some(lane) = self.lane(&ask) else { return reply(Err(CoreError::Unusable)) };
        if deadline.is_some_and(|it| it.left(Instant::now()) < lane.needed.get()) {
            self.metrics.fenced(Place::Admission);
            return reply(Err(CoreError::TooLate));
        }
        self.metrics.queued();
        let job = Job { ask, deadline, reply: Box::new(reply) };
        let (refused, error) = match lane.live.try_send(job) {
            Ok(()) => return,
            Err(mpsc::error::TrySendError::Full(job)) => (job, CoreError::QueueFull),
            Err(mpsc::error::TrySendError::Closed(job)) => (job, CoreError::Unusable),
        };
        self.metrics.taken_up(1);
        (refused.reply)(Err(error));
    }

    /// Asks for what can wait, in the order of these calls: this one ends as soon as there is room, and
    /// what it returns as [`Self::ask`] does.
    pub async fn ask_in_bulk(&self, ask: Ask) -> oneshot::Receiver<Result<Outcome, CoreError>> {
        let (reply, outcome) = oneshot::channel();
        let reply = Box::new(|it| {
            let _walked_away = reply.send(it);
        });
        if let Some(lane) = self.lane(&ask) {
            // Refused only where the writer is gone, and with it whoever would have replied.
            let _gone = lane.bulk.send(Job { ask, deadline: None, reply }).await;
        }
        outcome
    }

    fn lane(&self, ask: &Ask) -> Option<&Lane> {
        let mut hasher = DefaultHasher::new();
        ask.concerns().hash(&mut hasher);
        let lanes = u64::try_from(self.lanes.len()).ok()?;
        let place = hasher.finish().checked_rem(lanes)?;
        self.lanes.get(usize::try_from(place).ok()?)
    }
}
