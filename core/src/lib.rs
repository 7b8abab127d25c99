//! The core: the transactions. One decision is one unit, all or nothing, and an id has one answer.
//!
//! A request meets these rooms in this order:
//!
//! | module | does |
//! |---|---|
//! | [`config`] | what the command line, `backstop.toml` and the rules say |
//! | `grpc` | the socket; the only file that knows tonic |
//! | `writer` | the one task that writes: takes what has queued, a transaction for each set |
//! | `decide` | what becomes of a set: pure, no SQL |
//! | `store` | loads, writes, commits: `store::sqlite` is the embedded one |
//! | `metrics`, [`error`] | what is counted, what can go wrong |
//!
//! An answer leaves only after its transaction has committed. A caller who walks away cancels nothing.

pub mod config;
mod decide;
pub mod error;
#[cfg(test)]
mod fixture;
mod grpc;
mod metrics;
mod store;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use backstop_process::Faults;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

pub use config::Config;
pub use error::CoreError;

use store::sqlite::SqliteStore;

/// What is under way at a stop has this long to end.
const STOP_WITHIN: Duration = Duration::from_millis(2_500);

/// A core that serves. Dropped, it goes on; stop it to be sure that it ended.
pub struct Running {
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    written: oneshot::Receiver<()>,
}

/// Starts the core of one stack: it serves its socket when this returns.
pub async fn start(config: Config) -> Result<Running, CoreError> {
    let Config { stack, socket, database, settings, learning, rules } = config;
    let (version, rules) = (rules.version().to_owned(), Arc::new(rules));
    let metrics = metrics::Metrics::new()?;
    let calls_max = settings.queue_max;
    let store = SqliteStore::open(&database, settings.busy_timeout).await?;
    let records = store.records();
    let desk = writer::Desk {
        rules: Arc::clone(&rules),
        stack: stack.clone(),
        settings,
        learning,
        metrics: metrics.clone(),
        faults: Faults::default(),
    };
    let (queue, written) = writer::start(store, desk)?;
    let listener =
        grpc::bind(&socket).map_err(|source| CoreError::Bind { path: socket, source })?;
    let finds = Arc::new(Semaphore::new(grpc::FINDS_MAX));
    let service = grpc::Service { queue, records, rules, metrics, finds };
    let (stop, stopped) = oneshot::channel();
    let stopped = async {
        // A dropped handle is no wish to stop.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let server = tokio::spawn(grpc::serve(listener, service, calls_max, stopped));
    tracing::info!(stack, version, database = %database.display(), "the core serves");
    Ok(Running { stop, server, written })
}

impl Running {
    /// Takes no more requests, and gives those under way a moment to end.
    pub async fn stop(self) {
        let give_up = Instant::now() + STOP_WITHIN;
        // Gone already means stopped already.
        let _gone = self.stop.send(());
        match timeout_at(give_up, self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the server ended"),
            Err(_elapsed) => tracing::warn!("requests were still under way at the stop"),
        }
        if timeout_at(give_up, self.written).await.is_err() {
            tracing::warn!("the writer was still at work at the stop");
        }
    }
}
