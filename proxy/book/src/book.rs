//! The book as the edge holds it.

use std::path::Path;
use std::sync::Arc;

use backstop_contract::advice::Settlement;
use backstop_contract::{Decision, Outcome, RequestHash, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};

use crate::batch::Batch;
use crate::bookkeeper::Bookkeeper;
use crate::debt::{self, Debt};
use crate::error::BookError;
use crate::folder::Folder;
use crate::health::{Health, Opened};
use crate::now::Now;
use crate::place::Key;
use crate::register::{Answer, Known};
use crate::settings::Settings;
use crate::slot::Slot;
use crate::threads::{Shared, Threads};

mod turn;

pub use turn::Turn;

/// Every answer that was released, durably. Clones share it; with the last one its threads end, and
/// whatever was not written yet is lost: see [`Book::close`].
///
/// Its threads live in real time. Under a paused Tokio clock a deadline may pass while they write.
#[derive(Clone, Debug)]
pub struct Book {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

/// What the book knows of an id.
#[derive(Debug)]
pub enum Asked {
    /// Nothing was said yet: the one who asks first decides, and duplicates wait for it.
    Turn(Turn),
    /// It was answered.
    Said(Recall),
    /// It was asked under another hash: another request, which gets 422.
    Other,
}

/// An answer that was given earlier.
#[derive(Debug)]
pub struct Recall {
    shared: Arc<Shared>,
    key: Key,
    id: String,
    known: Known,
}

/// What the client of an id is told, whoever proposed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    /// The answer. `durable` and `is_final` are as of now; `replayed` unless it is the caller's own proposal.
    pub answer: Decision,
    /// The caller's own proposal, which nobody was told before.
    pub is_first: bool,
}

/// The record of an id.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// What the client was told.
    pub said: Said,
    /// What core made of it; `None` for core's own answers and those that it has yet to settle. A word of a
    /// newer release is known as `newer` here.
    pub settled: Option<Outcome>,
}

impl Book {
    /// Opens the book in `folder`, made if it is not there. Blocks while it reads what is in it. A disk
    /// that takes no writes does not fail it: answers go out undurable then, as [`Book::health`] says.
    pub fn open(folder: &Path, settings: Settings) -> Result<(Self, Opened), BookError> {
        let folder = Folder::open(folder)?;
        let (recovery, mut opened, corrupt_files) = folder.reopen(&settings)?;
        let node = folder.node();
        let epoch = recovery.next_epoch(Timestamp::now());
        let keeper = Bookkeeper::new(recovery, node.into_bytes(), epoch, seed());
        opened.node = node.to_string();
        opened.epoch = epoch;
        opened.unsettled = keeper.shipping().len() as u64;
        opened.set_aside = keeper.shipping().aside_len() as u64;
        let shared = Arc::new(Shared::new(keeper, folder, corrupt_files, node.to_string()));
        let threads = Arc::new(Threads::start(&shared)?);
        Ok((Self { shared, _threads: threads }, opened))
    }

    /// What is known of a merchant's id, asked with this hash.
    pub fn ask(&self, merchant: &str, id: &str, hash: &RequestHash) -> Asked {
        let key = Key::of(merchant, id);
        let answer = self.shared.desk().keeper.ask(key, hash, Arc::<Slot>::default);
        match answer {
            Answer::Turn { turn, is_first: _, waiter } => {
                Asked::Turn(Turn::new(self.shared.clone(), key, turn, waiter))
            }
            Answer::Known(known) => Asked::Said(self.recall(key, id, known)),
            Answer::Other => Asked::Other,
        }
    }

    /// The record of a merchant's id, once it is written down or can not be; `None` where nothing was said.
    pub async fn find(&self, merchant: &str, id: &str) -> Option<Found> {
        let key = Key::of(merchant, id);
        let telling = self.shared.desk().keeper.telling(&key);
        if let Some(slot) = telling {
            slot.until(|| slot.durable()).await;
        }
        let known = self.shared.desk().keeper.known(&key)?;
        let settled = known.state.outcome();
        Some(Found { said: self.recall(key, id, known).said().await, settled })
    }

    /// The next advices for core: waits until some are due and few enough are under way.
    pub async fn next_batch(&self) -> Batch {
        Batch::next(&self.shared).await
    }

    /// Core has answered: what it settled is settled, what it refused set aside, the rest sent again.
    pub fn settled(&self, batch: Batch, settlement: &Settlement) {
        batch.settled(settlement);
    }

    /// The batch did not arrive, or its answer did not: it is sent again, a little later each time.
    pub fn failed(&self, batch: Batch) {
        batch.failed();
    }

    /// Core may be back: what waits after a failure is tried at once.
    pub fn wake(&self) {
        self.shared.desk().keeper.wake();
        self.shared.ship.notify_waiters();
    }

    /// Of a merchant, what core has yet to settle or refused, oldest first: those decided from `from`
    /// to before `to`, and no more than `max`. Reads every record that core is owed.
    pub async fn unsettled(
        &self,
        merchant: &str,
        from: Timestamp,
        to: Timestamp,
        max: usize,
    ) -> Vec<Debt> {
        let (shared, merchant) = (self.shared.clone(), merchant.to_owned());
        let read =
            tokio::task::spawn_blocking(move || debt::list(&shared, &merchant, from..to, max));
        read.await.unwrap_or_default()
    }

    /// Those of these ids of a merchant that core has yet to settle or refused. The reason of a refusal is
    /// left out.
    pub async fn owed(&self, merchant: &str, ids: Vec<String>) -> Vec<Debt> {
        let (shared, merchant) = (self.shared.clone(), merchant.to_owned());
        let read = tokio::task::spawn_blocking(move || debt::of(&shared, &merchant, &ids));
        read.await.unwrap_or_default()
    }

    /// How the book fares now.
    pub fn health(&self) -> Health {
        let health = self.shared.desk().keeper.health(Timestamp::now());
        Health { corrupt_files: self.shared.corrupt_files, ..health }
    }

    /// The name of this node, for life.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// Writes and syncs what is there, and gives the book up: another process may open it now. What is
    /// said after it goes out undurable.
    pub async fn close(&self) {
        {
            let mut desk = self.shared.desk();
            desk.keeper.close();
            self.shared.hand_back(desk);
        }
        loop {
            let ended = self.shared.rest.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.shared.desk().keeper.scribe().is_at_rest() {
                return self.shared.folder.give_up();
            }
            ended.await;
        }
    }

    fn recall(&self, key: Key, id: &str, known: Known) -> Recall {
        Recall { shared: self.shared.clone(), key, id: id.to_owned(), known }
    }
}

impl Recall {
    /// Reads the answer. Where it can not be read any more, verdict and tier are known all the same.
    pub async fn said(self) -> Said {
        let Self { shared, key, id, known } = self;
        let read = shared.decision(key).await;
        // What became of it meanwhile, on disk and in core.
        let (now_known, is_durable) = {
            let desk = shared.desk();
            (desk.keeper.known(&key), desk.keeper.is_durable(&key))
        };
        let known = now_known.unwrap_or(known);
        let is_read = read.is_some();
        let mut answer = read.unwrap_or_else(|| Decision::by(known.tier.tier(), id, known.verdict));
        answer.durable = is_read && is_durable;
        answer.is_final = known.state.is_final();
        answer.replayed = true;
        Said { answer, is_first: false }
    }
}

/// Nodes must not retry in step. Without randomness they would, and nothing worse.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    if SystemRandom::new().fill(&mut bytes).is_err() {
        return Now::read().wall.as_millis().unsigned_abs();
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
