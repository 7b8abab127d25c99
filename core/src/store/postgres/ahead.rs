//! Reading for the next set while this one commits, on a connection of its own: to read takes the server half
//! as long as to commit, and core decides meanwhile.
//!
//! A reading begins after the requests of its set came in, so that what it shows was so while they waited; it serves
//! no other set. What this set changes is not taken from it but read again; which rows those are is noted before the
//! commit is sent, so that it does not matter how that ends. What others change is told by versions at the next
//! commit, as for any row.

use std::collections::HashSet;
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, timeout};

use super::session::Session;
use crate::decide::decision_key;
use crate::error::CoreError;
use crate::store::settled::SequenceKey;
use crate::store::{AccountKey, Changes, DecisionKey, Loaded, RowKey, Wanted};

/// How long a set waits for what was begun to be read a set ago, before it reads for itself.
const WAIT_MAX: Duration = Duration::from_millis(100);
/// How long nothing is read ahead after that went wrong.
const REST: Duration = Duration::from_secs(1);

/// The reader of a writer.
pub struct Ahead {
    /// Another one while that of the reading is under way.
    session: Session,
    reading: Option<Reading>,
    resting_until: Option<Instant>,
}

/// What is being read, or was.
struct Reading {
    fresh: Keys,
    ended: JoinHandle<(Session, Result<Loaded, CoreError>)>,
}

/// The rows that were looked for, or taken for new, and that nobody here has changed since.
#[derive(Default)]
pub struct Keys {
    decisions: HashSet<DecisionKey>,
    history: HashSet<RowKey>,
    stock: HashSet<RowKey>,
    accounts: HashSet<AccountKey>,
    arrivals: HashSet<SequenceKey>,
}

impl Ahead {
    /// Reads over this one.
    pub const fn over(session: Session) -> Self {
        Self { session, reading: None, resting_until: None }
    }

    /// Begins to read `wanted`, which is what is left to read of `keys`.
    pub async fn begin(&mut self, keys: Keys, wanted: Wanted) {
        if self.resting_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let next = self.session.another();
        let mut session = std::mem::replace(&mut self.session, next);
        let ended = tokio::spawn(async move {
            let rows = session.load(&wanted).await;
            (session, rows)
        });
        self.reading = Some(Reading { fresh: keys, ended });
        // The server has it before the set is decided, which takes this thread.
        yield_now().await;
    }

    /// The rows that were read ahead and that nobody here has changed, struck from `wanted`.
    pub async fn take(&mut self, wanted: &mut Wanted) -> Loaded {
        let Some(Reading { fresh, ended }) = self.reading.take() else { return Loaded::default() };
        let why = match timeout(WAIT_MAX, ended).await {
            Ok(Ok((session, Ok(mut rows)))) => {
                self.session = session;
                fresh.keep(&mut rows);
                fresh.strike(wanted);
                return rows;
            }
            Ok(Ok((_, Err(error)))) => error.to_string(),
            Ok(Err(error)) => error.to_string(),
            // It goes on by itself, to the end of its statement.
            Err(elapsed) => elapsed.to_string(),
        };
        tracing::warn!(why, "rows were not read ahead");
        self.resting_until = Some(Instant::now() + REST);
        Loaded::default()
    }

    /// Nobody wants what was read: others may have changed it when somebody does.
    pub fn skip(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.fresh = Keys::default();
        }
    }

    /// Whether nothing is being read any more.
    #[cfg(test)]
    pub fn is_done(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.ended.is_finished())
    }

    /// Takes note that these rows change.
    pub fn outdate(&mut self, changes: &Changes<'_>) {
        if let Some(reading) = &mut self.reading {
            reading.fresh.remove(changes);
        }
    }
}

impl Keys {
    /// All that are wanted.
    pub fn of(wanted: &Wanted) -> Self {
        let Wanted { asked, decisions, history, stock, accounts, arrivals } = wanted;
        Self {
            decisions: asked.iter().chain(decisions).cloned().collect(),
            history: history.iter().cloned().collect(),
            stock: stock.iter().cloned().collect(),
            accounts: accounts.iter().cloned().collect(),
            arrivals: arrivals.iter().cloned().collect(),
        }
    }

    /// Drops what is not among them.
    fn keep(&self, loaded: &mut Loaded) {
        let Loaded { decisions, history, stock, balances, arrivals } = loaded;
        decisions.retain(|key, _| self.decisions.contains(key));
        history.retain(|key, _| self.history.contains(key));
        stock.retain(|key, _| self.stock.contains(key));
        balances.retain(|key, _| self.accounts.contains(key));
        arrivals.retain(|key, _| self.arrivals.contains(key));
    }

    /// Drops what is among them.
    fn strike(&self, wanted: &mut Wanted) {
        let Wanted { asked, decisions, history, stock, accounts, arrivals } = wanted;
        asked.retain(|key| !self.decisions.contains(key));
        decisions.retain(|key| !self.decisions.contains(key));
        history.retain(|key| !self.history.contains(key));
        stock.retain(|key| !self.stock.contains(key));
        accounts.retain(|key| !self.accounts.contains(key));
        arrivals.retain(|key| !self.arrivals.contains(key));
    }

    fn remove(&mut self, changes: &Changes<'_>) {
        let Changes {
            decided,
            marked,
            restated,
            revised: _, // with restated
            history,
            stock,
            balances,
            ledger: _, // is never loaded
            discrepancies: _,
            arrivals,
        } = changes;
        for (question, _) in decided {
            self.decisions.remove(&decision_key(question));
        }
        for put in marked.iter().chain(restated) {
            self.decisions.remove(put.key);
        }
        let row = |merchant: &str, key: &str| RowKey {
            merchant: merchant.to_owned(),
            key: key.to_owned(),
        };
        for put in history {
            self.history.remove(&row(put.merchant, put.key));
        }
        for put in stock {
            self.stock.remove(&row(put.merchant, put.key));
        }
        for put in balances {
            let (merchant, account) = (put.merchant.to_owned(), put.account.to_owned());
            self.accounts.remove(&AccountKey { merchant, account });
        }
        for put in arrivals {
            self.arrivals.remove(put.key);
        }
    }
}
