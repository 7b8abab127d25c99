//! The core: the transactions. One decision is one unit, all or nothing, and an id has one answer.
//!
//! A request meets these rooms in this order:
//!
//! | module | does |
//! |---|---|
//! | [`config`] | what the command line, `backstop.toml` and the rules say |
//! | `grpc` | the socket; the only file that knows tonic |
//! | `writer` | the tasks that write, a lane each: take what has queued, a unit for each set |
//! | `rehearsals` | what would be decided, and what was without itself: reads beside the writers, writes nothing |
//! | `shadow` | what the bundle that is tried would have decided, asked where nobody waits |
//! | `decide` | what becomes of a set: pure, no SQL |
//! | `store` | loads, writes, commits: `store::sqlite` for one machine, `store::postgres` for many |
//! | `metrics`, [`error`] | what is counted, what can go wrong |
//!
//! An answer leaves only after its transaction has committed. A caller who walks away cancels nothing.

#[cfg(test)]
#[path = "../../tests/cluster.rs"]
#[expect(dead_code, reason = "the tests of the whole use more of it")]
mod cluster;
pub mod config;
// Public for the simulator in tests/sim, which decides and settles with it over books of its own.
#[doc(hidden)]
pub mod decide;
pub mod error;
#[cfg(test)]
mod fixture;
mod grpc;
mod metrics;
mod rehearsals;
mod shadow;
#[doc(hidden)]
pub mod store;
mod writer;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backstop_process::Faults;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use config::Config;
pub use error::CoreError;

use config::Database;
use store::postgres::{PostgresStore, TimeLimits};
use store::sqlite::SqliteStore;
use store::{Records, Store};

/// A core that serves. Dropped, it goes on; stop it to be sure that it ended.
pub struct Running {
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    written: mpsc::Receiver<Infallible>,
    drain_time: Duration,
}

/// Starts the core of one stack: it serves its socket when this returns.
pub async fn start(config: Config) -> Result<Running, CoreError> {
    let settings = &config.settings;
    match &config.database {
        Database::Sqlite(file) => {
            let store = SqliteStore::open(file, settings.busy_timeout).await?;
            let (records, database) = (store.records(), file.display().to_string());
            serve(config, vec![store], records, &database)
        }
        Database::Postgres(url) => {
            let limits =
                TimeLimits { statement: settings.statement_timeout, lock: settings.lock_timeout };
            let store = PostgresStore::open(url, limits).await?;
            let (records, database) = (store.records(), store.name().to_owned());
            let mut stores: Vec<_> = (1..settings.lanes).map(|_| store.another()).collect();
            stores.push(store);
            serve(config, stores, records, &database)
        }
    }
}

fn serve<S: Store + Send + 'static>(
    config: Config,
    stores: Vec<S>,
    records: impl Records,
    database: &str,
) -> Result<Running, CoreError> {
    let Config { stack, socket, settings, learning, rules, drain_time, .. } = config;
    let (version, rules) = (rules.load().live().version().to_owned(), Arc::new(rules));
    rules.follow();
    let metrics = metrics::Metrics::new()?;
    let calls_max = settings.queue_max;
    let rehearsals = rehearsals::Rehearsals {
        records: records.clone(),
        rules: Arc::clone(&rules),
        stack: stack.clone(),
        policy_time_max: settings.policy_time_max,
        places: Arc::new(Semaphore::new(rehearsals::REHEARSALS_MAX)),
    };
    let desk = writer::Desk {
        rules: Arc::clone(&rules),
        stack: stack.clone(),
        shadow: shadow::start(&metrics, settings.policy_time_max),
        settings,
        learning,
        metrics: metrics.clone(),
        faults: Faults::default(),
    };
    let (queue, written) = writer::start(stores, desk);
    let listener =
        grpc::bind(&socket).map_err(|source| CoreError::Bind { path: socket, source })?;
    let lookups = Arc::new(Semaphore::new(grpc::LOOKUPS_MAX));
    let (stopping, stopped_serving) = watch::channel(());
    let service = grpc::Service {
        queue,
        records,
        rules,
        metrics,
        lookups,
        recalls: rehearsals::Recalls::beside(&rehearsals),
        rehearsals,
        settles: Semaphore::new(grpc::SETTLES_MAX),
        calls_max,
        stopping: stopped_serving,
    };
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        // A dropped handle is no wish to stop.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let server = tokio::spawn(grpc::serve(listener, service, stopping, stopped));
    tracing::info!(stack, version, database, "the core serves");
    Ok(Running { stop, server, written, drain_time })
}

impl Running {
    /// Takes no more requests, and gives those under way a moment to end.
    pub async fn stop(mut self) {
        let give_up = Instant::now() + self.drain_time;
        // Gone already means stopped already.
        let _gone = self.stop.send(());
        match timeout_at(give_up, self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended"),
            Err(_elapsed) => tracing::warn!("requests were still under way at the stop"),
        }
        if timeout_at(give_up, self.written.recv()).await.is_err() {
            tracing::warn!("the writer was still at work at the stop");
        }
    }
}
