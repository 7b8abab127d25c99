//! The api: validates, asks core, and decides by policy when core cannot.
//!
//! A request meets these rooms in this order:
//!
//! | module | does |
//! |---|---|
//! | [`config`] | what the command line, `backstop.toml` and the rules say |
//! | [`http`] | the routes, on a Unix socket and, where asked to, an address; the only file that knows axum |
//! | [`hop`] | reads what the edge tells in headers |
//! | [`tier`] | the questions of merchants: decide, find, label; and what the edge asks to reconcile |
//! | [`settle`] | advices on their way from edge to core |
//! | [`core_client`], [`connection`] | core as the next tier, over gRPC; each exchange outlives its waiter |
//! | [`seen`] | the history that core's replies showed |
//! | [`fallback`] | the api's own answer: core's policy with that history; tried on a share of what core decided, too |
//! | [`record`], [`timing`], [`metrics`] | what is shown of it: to clients, in headers, to Prometheus |
//!
//! It keeps nothing: killed at any moment, it loses the history it has seen, and no decision.

pub mod config;
pub mod connection;
pub mod core_client;
pub mod fallback;
pub mod hop;
pub mod http;
pub mod metrics;
pub mod record;
pub mod seen;
pub mod settle;
pub mod tier;
pub mod timing;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::{Question, Tier as Decider};
use backstop_process::metrics::MetricsError;
use backstop_process::{Faults, Fidelity};
use backstop_settings::drain_time;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use config::{Config, ConfigError, Network};

use connection::Connection;
use core_client::CoreClient;
use fallback::StandIn;
use metrics::Metrics;
use seen::{Known, Seen};
use tier::Tier;

/// Why an api did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket could not be opened.
    #[error("{}: the socket cannot be opened: {source}", socket.display())]
    Socket {
        /// Its path.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The address could not be listened on.
    #[error("{listen}: cannot be listened on: {source}")]
    Address {
        /// Which one.
        listen: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A metric could not be made.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
}

/// An api that serves. Dropped, it goes on; stop it to be sure that it ended.
pub struct Running {
    stop: watch::Sender<bool>,
    server: JoinHandle<io::Result<()>>,
    address: Option<SocketAddr>,
    drain_time: Duration,
}

/// Starts the api of one stack: it serves its socket when this returns. It needs no core to start,
/// but a Tokio runtime to be called in.
pub fn start(mut config: Config) -> Result<Running, StartError> {
    let (layout, stack) = (config.layout.clone(), config.stack.clone());
    let silence_max = config.settings.call_time_max;
    let core = Connection::lazy(layout.socket("core", &stack), silence_max);
    let (network, beside) = (config.network.take(), config.beside);
    let tier = assemble(config, core)?;
    let version = tier.rules.load().live().version().to_owned();
    tier.rules.follow();
    let socket = if beside { layout.next_socket() } else { layout.socket("api", &stack) };
    let listener = bind(&socket).map_err(|source| StartError::Socket { socket, source })?;
    let routes = http::routes(Arc::new(tier));
    let (stop, stopped) = watch::channel(false);
    let serve = http::serve(http::Door(listener), routes.clone(), stopping(stopped.clone()));
    let mut address = None;
    let server = match network {
        None => tokio::spawn(serve),
        Some(Network { listen, token }) => {
            let wrong = |source| StartError::Address { listen, source };
            let listener = bind_address(listen).map_err(wrong)?;
            address = Some(listener.local_addr().map_err(wrong)?);
            let serve_network = http::serve_network(listener, token, routes, stopping(stopped));
            tokio::spawn(async { tokio::try_join!(serve, serve_network).map(drop) })
        }
    };
    tracing::info!(stack, version, ?address, "the api serves");
    Ok(Running { stop, server, address, drain_time: drain_time(&layout) })
}

/// Resolves when it is time to stop. A dropped handle is no wish to stop.
async fn stopping(mut stopped: watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The tier that asks the core at the other end of this connection.
fn assemble(config: Config, core: Connection) -> Result<Tier, StartError> {
    let Config { stack, settings, link, fidelity, rules, .. } = config;
    let metrics = Metrics::new()?;
    let (rules, seen) = (Arc::new(rules), Arc::new(Seen::new(settings.history_entries_max)));
    let stand_in = Arc::new(StandIn::new(
        Arc::clone(&rules),
        Arc::clone(&seen),
        stack,
        settings.policy_time_max,
        metrics.breaches(),
    ));
    let fallback = Arc::clone(&stand_in);
    let says = move |question: &Question, known: &Known| fallback.would_say(question, known);
    let fidelity = Fidelity::start(Decider::Api, fidelity, metrics.registry(), says)?;
    let fidelity = Arc::new(fidelity);
    Ok(Tier {
        core: CoreClient::new(
            core,
            settings.calls_max,
            settings.call_time_max,
            seen,
            link,
            Arc::clone(&fidelity),
        ),
        stand_in,
        fidelity,
        rules,
        metrics,
        settings,
        advices: Semaphore::new(settle::MESSAGES_MAX),
        faults: Faults::default(),
    })
}

impl Running {
    /// Where it listens beside its socket, if it does.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Takes no more requests, and gives those under way a moment to end.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        match timeout(self.drain_time, self.server).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the server ended"),
            Ok(Err(error)) => tracing::error!(%error, "the server ended"),
            Err(_elapsed) => tracing::warn!("requests were still under way at the stop"),
        }
    }
}

/// Listens on a Unix socket that only this user can reach; a stale one makes room.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = socket.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(socket),
    }
}

fn bind_address(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
