//! Advices on their way to core.

use std::borrow::Cow;
use std::sync::Arc;

use backstop_contract::advice::{Advice, Advices, Settlement};
use bytes::Bytes;
use tokio::time::Instant;

use crate::reading::answer_in;
use crate::shipping::{Next, Owed, Plan};
use crate::threads::Shared;

/// Advices to tell core of, oldest first. Dropped without a word it goes back, to be sent again.
#[derive(Debug)]
pub struct Batch {
    claim: Claim,
    json: Bytes,
    len: usize,
}

/// Advices that are under way. Dropped, they are due again.
#[derive(Debug)]
struct Claim {
    shared: Arc<Shared>,
    batch: u64,
    is_ended: bool,
}

impl Batch {
    /// The body of `POST /v1/advices`.
    pub fn to_json(&self) -> Bytes {
        self.json.clone()
    }

    /// How many advices are in it; at least one.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn settled(mut self, settlement: &Settlement) {
        let claim = &mut self.claim;
        claim.is_ended = true;
        let mut desk = claim.shared.desk();
        desk.keeper.settled(claim.batch, settlement, Instant::now());
        claim.shared.hand_back(desk);
        claim.shared.ship.notify_waiters();
    }

    pub(crate) fn failed(mut self) {
        let claim = &mut self.claim;
        claim.is_ended = true;
        claim.shared.desk().keeper.failed(claim.batch, Instant::now());
        claim.shared.ship.notify_waiters();
    }

    /// Waits until some are due and few enough are under way.
    pub(crate) async fn next(shared: &Arc<Shared>) -> Self {
        loop {
            let changed = shared.ship.notified();
            tokio::pin!(changed);
            // Before looking, so that nothing falls in between.
            changed.as_mut().enable();
            let next = shared.desk().keeper.next_batch(Instant::now());
            match next {
                Next::Batch(plan) => {
                    if let Some(batch) = Self::read(shared, plan).await {
                        return batch;
                    }
                }
                Next::Wait(Some(until)) => drop(tokio::time::timeout_at(until, changed).await),
                Next::Wait(None) => changed.await,
            }
        }
    }

    /// Reads what is to be sent; `None` where nothing of it can be read.
    async fn read(shared: &Arc<Shared>, plan: Plan) -> Option<Self> {
        let Plan { batch, advices } = plan;
        let claim = Claim { shared: shared.clone(), batch, is_ended: false };
        let reader = shared.clone();
        let read = tokio::task::spawn_blocking(move || {
            let records = advices.iter().map(|it| reader.read(&it.key)).collect::<Vec<_>>();
            let written = write(&reader.node, &advices, &records);
            let unread = written.unread.iter();
            let mut desk = reader.desk();
            unread.for_each(|owed| desk.keeper.unreadable(owed));
            (written.json, advices.len() - written.unread.len())
        });
        let (json, len) = read.await.ok()?;
        (len > 0).then(|| Self { claim, json: json.into(), len })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_ended {
            self.shared.desk().keeper.put_back(self.batch);
            self.shared.ship.notify_waiters();
        }
    }
}

struct Written {
    json: Vec<u8>,
    unread: Vec<Owed>,
}

/// The body for these advices, without those whose record is not what it should be.
fn write(node: &str, advices: &[Owed], records: &[Option<Bytes>]) -> Written {
    let mut unread = Vec::new();
    let mut readable = Vec::with_capacity(advices.len());
    for (owed, record) in advices.iter().zip(records) {
        match record.as_deref().and_then(|it| advice(owed, it)) {
            Some(advice) => readable.push(advice),
            None => unread.push(*owed),
        }
    }
    let advices = Advices { node: Cow::Borrowed(node), advices: readable };
    // Strings, numbers and JSON that was read as such: there is nothing in it that could fail.
    Written { json: serde_json::to_vec(&advices).unwrap_or_default(), unread }
}

fn advice<'a>(owed: &Owed, record: &'a [u8]) -> Option<Advice<'a>> {
    let said = answer_in(record).filter(|it| it.advice == Some(owed.advice))?;
    Some(Advice {
        epoch: owed.advice.epoch,
        number: owed.advice.number,
        merchant: Cow::Borrowed(said.merchant),
        test: said.test,
        numeric_ids: said.numeric_ids,
        received_at: said.received_at,
        hash: said.hash,
        request: serde_json::from_slice(said.request).ok()?,
        answer: serde_json::from_slice(said.answer).ok()?,
    })
}
