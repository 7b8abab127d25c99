//! A store over a real one whose units end as a test wants them to. Nothing is pretended: what is cut
//! is really dropped halfway, what is unseen is really committed.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use crate::error::CoreError;
use crate::store::{Changes, Fence, Loaded, Store, Unit, Wanted};

/// How a unit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// As it ends.
    None,
    /// Somebody else was faster.
    Conflict,
    /// The database does not like the data.
    Refused,
    /// Loading is dropped where it waits for the so-manieth time, and the connection is lost.
    CutLoad(u8),
    /// The same of the commit, which may or may not happen.
    CutCommit(u8),
    /// It is committed, and nobody hears of it.
    Unseen,
}

/// What the next units meet; after these, nothing.
#[derive(Clone, Default)]
pub(super) struct Faults(Arc<Mutex<VecDeque<Fault>>>);

impl Faults {
    pub(super) fn expect(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().unwrap().extend(faults);
    }

    /// How many were not met yet.
    pub(super) fn left(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Nothing more.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    fn next(&self) -> Fault {
        self.0.lock().unwrap().pop_front().unwrap_or(Fault::None)
    }
}

pub(super) struct Faulty<S> {
    store: S,
    faults: Faults,
}

impl<S> Faulty<S> {
    pub(super) const fn new(store: S, faults: Faults) -> Self {
        Self { store, faults }
    }
}

impl<S: Store + Send> Store for Faulty<S> {
    type Unit<'a>
        = FaultyUnit<S::Unit<'a>>
    where
        Self: 'a;

    const READS_AHEAD: bool = S::READS_AHEAD;

    async fn begin(&mut self) -> Result<Self::Unit<'_>, CoreError> {
        let fault = self.faults.next();
        Ok(FaultyUnit { unit: self.store.begin().await?, fault })
    }

    fn forget(&mut self) {
        self.store.forget();
    }

    fn skip(&mut self) {
        self.store.skip();
    }
}

pub(super) struct FaultyUnit<U> {
    unit: U,
    fault: Fault,
}

impl<U: Unit + Send> Unit for FaultyUnit<U> {
    async fn load(&mut self, wanted: Wanted) -> Result<Loaded, CoreError> {
        match self.fault {
            Fault::CutLoad(waits) => cut(waits, self.unit.load(wanted)).await,
            _ => self.unit.load(wanted).await,
        }
    }

    async fn read_ahead(&mut self, wanted: Wanted) {
        self.unit.read_ahead(wanted).await;
    }

    async fn commit(self, changes: &Changes<'_>, is_in_time: &Fence<'_>) -> Result<(), CoreError> {
        match self.fault {
            Fault::None | Fault::CutLoad(_) => self.unit.commit(changes, is_in_time).await,
            Fault::Conflict => Err(CoreError::Conflict),
            Fault::Refused => Err(CoreError::Number),
            Fault::CutCommit(waits) => cut(waits, self.unit.commit(changes, is_in_time)).await,
            Fault::Unseen => {
                self.unit.commit(changes, is_in_time).await?;
                Err(lost())
            }
        }
    }
}

/// Drops a future where it waits for the so-manieth time: in one of its statements, somewhere.
async fn cut<T>(
    mut waits: u8,
    work: impl Future<Output = Result<T, CoreError>>,
) -> Result<T, CoreError> {
    let mut work = pin!(work);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Pending if waits == 0 => Poll::Ready(Err(lost())),
        Poll::Pending => {
            waits -= 1;
            Poll::Pending
        }
        ready @ Poll::Ready(_) => ready,
    })
    .await
}

fn lost() -> CoreError {
    CoreError::Commit(sqlx::Error::WorkerCrashed)
}
