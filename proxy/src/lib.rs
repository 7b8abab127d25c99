//! The edge: the only tier a merchant meets. It asks the api within the budget, and answers by
//! itself, with the policy's Lua default, when the api is late or gone.
//!
//! A request passes through these rooms, in this order:
//!
//! | module | what happens there |
//! |---|---|
//! | [`connections`] | a connection gets one of the places there are, and its handshake |
//! | [`http`] | headers and body are read within named caps; the answer is written |
//! | [`edge`] | the key is checked, the request judged, the budget begun |
//! | [`merchants`] | who may ask, reloaded as the file changes |
//! | [`stacks`] | which stack is asked |
//! | [`api_client`], [`peers`] | one of its apis is asked, and the next when nobody is there |
//! | [`exchange`], [`place`] | by an exchange that no waiter can cancel, over a pooled connection |
//! | [`fallback`], [`exposure`] | the edge decides alone, and approves no more than it may |
//! | [`once`] | one id, one answer: in the book before it leaves |
//! | [`shipper`] | core is told of every answer that was given in its place |
//! | [`record`] | what the edge can show of a decision by itself |
//! | [`why`] | the budget ledger of the decision is kept |
//! | [`admin`] | operators look in, on a listener of their own |
//!
//! This is the only crate that knows Pingora. The edge is a caller with a fallback, not a streaming
//! proxy, so it is built on Pingora's HTTP server and its pooled connector, not on its proxy: a
//! fallback must not cost the merchant its connection.

use std::net::SocketAddr;
use std::sync::Arc;

use ::async_trait::async_trait;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server, ShutdownSignal, ShutdownSignalWatch};
use pingora::services::background::GenBackgroundService;
use pingora::services::listening::Service;

use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;

use backstop_book::Book;
use backstop_contract::Link;
use backstop_process::Faults;
use backstop_settings::{Address, STACKS, settings};

pub mod admin;
pub mod api_client;
pub mod config;
pub mod connections;
pub mod edge;
pub mod exchange;
pub mod exposure;
pub mod fallback;
pub mod http;
pub mod line;
pub mod merchants;
pub mod metrics;
pub mod once;
pub mod pass_on;
pub mod peers;
pub mod place;
pub mod record;
pub mod shipper;
pub mod stacks;
pub mod trace;
pub mod why;

pub use config::{Args, Config, ConfigError};

use crate::admin::Admin;
use crate::api_client::ApiClient;
use crate::connections::{Connections, Doors, Terms};
use crate::edge::Edge;
use crate::exchange::{Exchanges, LateAnswer};
use crate::exposure::Exposures;
use crate::http::{Caps, Serve};
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::place::Place;
use crate::shipper::Shipper;
use crate::stacks::Stacks;
use crate::why::Accounts;

/// Requests under way get this long to end after the edge was told to stop. In seconds.
const GRACE: u64 = 1;
/// Answers that came too late, and wait to be compared.
const LATE_ANSWERS_MAX: usize = 1_024;

/// Serves until the process is told to stop.
pub fn run(config: Config) -> Result<(), ConfigError> {
    let caps = caps(&config);
    let metrics = Arc::new(Metrics::new()?);
    let (late, came_late) = mpsc::channel(LATE_ANSWERS_MAX);
    let stacks = Arc::new(stacks(&config, late)?);
    let book = open_book(&config)?;
    let rules = Arc::new(config.rules);
    let edge = &config.settings;
    let stand_in_caps = exposure::Caps {
        approvals_max: edge.stand_in_approvals_max,
        amount_max: edge.stand_in_amount_max,
    };
    let shipper = Shipper {
        book: book.clone(),
        stacks: stacks.clone(),
        metrics: metrics.clone(),
        in_flight_max: edge.advices_in_flight_max,
        late: Mutex::new(came_late),
        faults: Arc::new(Faults::default()),
    };
    let accounts = Arc::new(Accounts::new(edge.why_recent_max, edge.why_degraded_max));
    let admin = Admin {
        stacks: stacks.clone(),
        metrics: metrics.clone(),
        policy_version: rules.version().to_owned(),
        accounts: accounts.clone(),
        token: config.admin_token,
        book: book.clone(),
        merchants: config.roll.merchants(),
        merchant_key: config.layout.merchant_key(),
    };
    let edge = Edge {
        merchants: config.roll.merchants(),
        stacks,
        rules,
        default_time_max: config.settings.default_time_max,
        hash_key: config.hash_key,
        body_bytes_max: config.settings.body_bytes_max,
        metrics,
        faults: Faults::default(),
        accounts,
        book,
        exposures: Exposures::default(),
        stand_in_caps,
    };
    let terms = Terms::new(&config.settings);
    let merchants = doors(&config.args, config.tls, &Arc::new(Serve::new(edge, caps)), &terms)?;
    let admin = Connections::new(Arc::new(Serve::new(admin, caps)), None, terms.apart());
    let mut operators = Service::new("admin".into(), admin);
    operators.add_tcp(&config.args.admin.to_string());

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config.layout.run()));
    server.bootstrap();
    server.add_service(GenBackgroundService::new("merchants".into(), Arc::new(config.roll)));
    server.add_service(GenBackgroundService::new("shipper".into(), Arc::new(shipper)));
    server.add_service(operators);
    server.add_service(Doors { services: merchants, threads: config.settings.threads });
    server.run(RunArgs { shutdown_signal: Box::new(Lifeline) });
    Ok(())
}

/// Where merchants come in: over TLS, and without it from a balancer that ends TLS itself.
fn doors(
    args: &Args,
    (chain, key): (String, String),
    serve: &Arc<Serve<Edge>>,
    terms: &Terms,
) -> Result<Vec<Service<Connections<Serve<Edge>>>>, ConfigError> {
    let mut tls = TlsSettings::intermediate(&chain, &key)
        .map_err(|error| ConfigError::Tls { file: chain.into(), what: error.to_string() })?;
    tls.enable_h2();
    let door = |tls: Option<TlsSettings>, address: SocketAddr| {
        let connections =
            Connections::new(serve.clone(), tls.map(TlsSettings::build), terms.clone());
        let mut service = Service::new("edge".into(), connections);
        service.add_tcp(&address.to_string());
        service
    };
    let plain = args.listen_plain.map(|address| door(None, address));
    Ok(std::iter::once(door(Some(tls), args.listen)).chain(plain).collect())
}

fn caps(config: &Config) -> Caps {
    let edge = &config.settings;
    Caps {
        body_bytes_max: edge.body_bytes_max,
        drain_bytes_max: edge.drain_bytes_max,
        body_timeout: edge.body_timeout,
        header_timeout: edge.header_timeout,
    }
}

/// The book of this directory. Nothing that a disk does keeps the edge from answering.
fn open_book(config: &Config) -> Result<Book, ConfigError> {
    let edge = &config.settings;
    let settings = backstop_book::Settings {
        fsync: match edge.book_fsync {
            settings::Fsync::Process => backstop_book::Fsync::Process,
            settings::Fsync::Disk => backstop_book::Fsync::Disk,
        },
        bytes_max: edge.book_bytes_max,
        keys_max: edge.book_keys_max,
        age_max: edge.book_age_max,
        segment_bytes: edge.book_segment_bytes,
        queue_max: edge.book_queue_max,
        memory_max: edge.book_memory_max,
        batch_max: edge.advices_batch_max,
        in_flight_max: edge.advices_in_flight_max,
    };
    let (book, opened) = Book::open(&config.layout.book(), settings)?;
    tracing::info!(?opened, "the book is open");
    Ok(book)
}

fn stacks(config: &Config, late: mpsc::Sender<LateAnswer>) -> Result<Stacks, ConfigError> {
    let edge = &config.settings;
    let exchanges = Arc::new(Exchanges::new(
        edge.exchanges_max,
        edge.exchange_time_max,
        config.hop_token.as_ref(),
        late,
    ));
    let client = |stack, addresses: &[Address]| {
        let place = |address: &Address| {
            Place::new(address.clone(), edge.api_connections_max, edge.idle_timeout)
        };
        let places = addresses.iter().map(place).collect::<Result<_, _>>()?;
        let peers = Peers::new(stack, places, config.link.breaker, exchanges.clone());
        let link = Link::new(config.link, Instant::now());
        Ok::<_, ConfigError>(ApiClient::new(stack, peers, exchanges.clone(), link))
    };
    let ([prod, old_prod], [first, second]) = (STACKS, &config.apis);
    Ok(Stacks::new([client(prod, first)?, client(old_prod, second)?]))
}

/// Pingora's own settings, the dangerous defaults overridden: it would stay up for five minutes after
/// SIGTERM, and keep its upgrade socket and pid file where every local user can reach them.
fn server_conf(run_dir: &std::path::Path) -> ServerConf {
    ServerConf {
        grace_period_seconds: Some(GRACE),
        graceful_shutdown_timeout_seconds: Some(GRACE),
        max_retries: 0,
        pid_file: run_dir.join("proxy.pid").display().to_string(),
        upgrade_sock: run_dir.join("proxy-upgrade.sock").display().to_string(),
        ..ServerConf::default()
    }
}

/// Stops the server when `backstop up` lets go of this process, or a signal says so.
struct Lifeline;

#[async_trait]
impl ShutdownSignalWatch for Lifeline {
    async fn recv(&self) -> ShutdownSignal {
        backstop_process::lifeline().await;
        ShutdownSignal::GracefulTerminate
    }
}
