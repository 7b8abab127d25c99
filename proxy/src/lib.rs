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
//! | [`stacks`], [`switch`] | which stack is asked, and what changes that |
//! | [`publisher`] | which bundle of rules is live, tried, or taken back |
//! | [`probes`], [`mirror`] | what each stack would answer: by questions of our own, and by some of the merchants' |
//! | [`api_client`], [`peers`] | one of its apis is asked, and the next when nobody is there |
//! | [`exchange`], [`place`] | by an exchange that no waiter can cancel, over a pooled connection |
//! | [`fallback`], [`exposure`] | the edge decides alone, and approves no more than it may |
//! | [`once`] | one id, one answer: in the book before it leaves |
//! | [`shipper`] | core is told of every answer that was given in its place |
//! | [`record`], [`reconciliation`] | what became of decisions: what the books say, and what the edge alone knows |
//! | [`fidelity`] | what core decided is put to the defaults as well, to know how often they agree |
//! | [`why`] | the budget ledger of the decision is kept |
//! | [`admin`] | operators look in, on a listener of their own |
//! | [`handover`] | it stops, or makes room for its successor, and no client notices |
//!
//! This is the only crate that knows Pingora. The edge is a caller with a fallback, not a streaming
//! proxy, so it is built on Pingora's HTTP server and its pooled connector, not on its proxy: a
//! fallback must not cost the merchant its connection.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::GenBackgroundService;
use pingora::services::listening::Service;

use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use backstop_book::{Book, BookError};
use backstop_contract::HashKey;
use backstop_lua::InForce;
use backstop_process::{Faults, doors};
use backstop_settings::{Address, STACKS, settings};

pub mod admin;
pub mod api_client;
pub mod config;
pub mod connections;
pub mod edge;
pub mod exchange;
pub mod exposure;
pub mod fallback;
pub mod fidelity;
pub mod handover;
pub mod http;
pub mod line;
pub mod merchants;
pub mod metrics;
pub mod mirror;
pub mod once;
pub mod pass_on;
pub mod peers;
pub mod place;
pub mod probes;
pub mod publisher;
pub mod reconciliation;
pub mod record;
pub mod shipper;
pub mod stacks;
pub mod switch;
pub mod trace;
pub mod trial;
pub mod why;

pub use config::{Args, Config, ConfigError};

use crate::admin::Admin;
use crate::api_client::ApiClient;
use crate::connections::{Connections, Door, Doors, Terms};
use crate::edge::Edge;
use crate::exchange::{Exchanges, LateAnswer};
use crate::exposure::Exposures;
use crate::handover::{BackDoor, Farewell, Gate, Successor};
use crate::http::{Caps, Serve};
use crate::metrics::Metrics;
use crate::mirror::{Mirror, Mirroring};
use crate::peers::Peers;
use crate::place::Place;
use crate::probes::Probes;
use crate::publisher::Publisher;
use crate::shipper::Shipper;
use crate::stacks::Stacks;
use crate::switch::{Routine, Switch};
use crate::why::Accounts;

/// The longest wait for a predecessor to give up the book: what is under way has its time.
const BOOK_WAIT_MAX: Duration = Duration::from_mins(1);
/// How often the book is tried meanwhile. The clients of both wait.
const BOOK_RETRY_AFTER: Duration = Duration::from_millis(1);
/// Answers that came too late, and wait to be compared.
const LATE_ANSWERS_MAX: usize = 1_024;

/// Serves until the process is told to stop.
pub fn run(config: Config) -> Result<(), ConfigError> {
    let caps = caps(&config);
    let back_door = back_door(&config)?;
    // Whoever has the book is the edge of this directory: nothing that a predecessor may still change is
    // read before that.
    let book = open_book(&config)?;
    let metrics = Arc::new(Metrics::new()?);
    let (late, came_late) = mpsc::channel(LATE_ANSWERS_MAX);
    let stacks = Arc::new(stacks(&config, late)?);
    let (layout, terms) = (&config.layout, config.switch.clone());
    let switch = Arc::new(Switch::open(layout, terms, stacks.clone(), metrics.clone()));
    let rules = Arc::new(config.rules);
    let (layout, publishing) = (config.layout.clone(), config.publishing);
    let publisher = Publisher::new(layout, publishing, (&switch, &stacks), &rules, &metrics);
    let terms = (&config.switch, &config.hash_key, book.node());
    let (mirror, mirroring, probes) = lookouts(terms, &stacks, &switch, &rules, &metrics);
    let edge = &config.settings;
    let stand_in_caps = stand_in_caps(edge);
    let shipper = Shipper {
        book: book.clone(),
        stacks: stacks.clone(),
        metrics: metrics.clone(),
        in_flight_max: edge.advices_in_flight_max,
        late: Mutex::new(came_late),
        faults: Arc::new(Faults::default()),
    };
    let accounts = Arc::new(Accounts::new(edge.why_recent_max, edge.why_degraded_max));
    let fidelity =
        Arc::new(fidelity::start(config.fidelity, rules.clone(), edge.default_time_max, &metrics)?);
    let admin = Admin {
        fidelity: fidelity.clone(),
        stacks: stacks.clone(),
        switch: switch.clone(),
        metrics: metrics.clone(),
        rules: rules.clone(),
        publisher: publisher.clone(),
        accounts: accounts.clone(),
        token: config.admin_token,
        book: book.clone(),
        merchants: config.roll.merchants(),
        merchant_key: config.layout.merchant_key(),
    };
    let edge = Edge {
        fidelity,
        merchants: config.roll.merchants(),
        stacks,
        switch: switch.clone(),
        mirror,
        rules,
        publisher: publisher.clone(),
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
    let (leaving, left) = watch::channel(false);
    let gates = [Arc::new(Gate::default()), Arc::new(Gate::default())];
    let [of_merchants, of_operators] = gates.clone();
    let successor = Successor::new(config.layout.edge_socket(), config.settings.idle_timeout)?;
    let farewell = Farewell {
        leaving,
        gates,
        terms: terms.clone(),
        merchants: config.roll.merchants(),
        switch: switch.clone(),
        book: edge.book.clone(),
    };
    let serve = Arc::new(Serve::new(edge, caps, of_merchants, Some(successor)));
    let predecessors = Arc::new(Connections::new(serve.clone(), None, terms.apart()));
    let admin = Arc::new(Serve::new(admin, caps, of_operators, None));
    let mut inherited = Inherited(doors::inherited());
    let merchants = entrances(&config.args, config.tls, &serve, &terms, &mut inherited)?;
    let operators = Connections::new(admin, None, terms.apart());
    let operators = inherited.door(doors::ADMIN, config.args.admin, operators);

    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config.layout.run()));
    server.bootstrap();
    server.add_service(GenBackgroundService::new("merchants".into(), Arc::new(config.roll)));
    server.add_service(GenBackgroundService::new("shipper".into(), Arc::new(shipper)));
    server.add_service(GenBackgroundService::new("switch".into(), Arc::new(Routine(switch))));
    let publishing = Arc::new(publisher::Routine(publisher));
    server.add_service(GenBackgroundService::new("publisher".into(), publishing));
    server.add_service(GenBackgroundService::new("probes".into(), Arc::new(probes)));
    server.add_service(GenBackgroundService::new("mirror".into(), Arc::new(mirroring)));
    let doors = vec![operators];
    server.add_service(Doors { name: "operators", doors, threads: 1, leaving: left.clone() });
    let (doors, threads) = (merchants, config.settings.threads);
    server.add_service(Doors { name: "edge", doors, threads, leaving: left.clone() });
    server.add_service(BackDoor::new(back_door, predecessors, left));
    server.run(RunArgs { shutdown_signal: Box::new(farewell) });
    Ok(())
}

/// What tells the switch how both stacks fare, beside the way of requests.
fn lookouts(
    (terms, hash_key, node): (&settings::Switch, &HashKey, &str),
    stacks: &Arc<Stacks>,
    switch: &Arc<Switch>,
    rules: &Arc<InForce>,
    metrics: &Arc<Metrics>,
) -> (Mirror, Mirroring, Probes) {
    let (mirror, offers) = Mirror::new(terms, switch.clone(), metrics.clone());
    let mirroring = Mirroring {
        stacks: stacks.clone(),
        switch: switch.clone(),
        metrics: metrics.clone(),
        offers: Mutex::new(offers),
        in_flight_max: terms.mirror_in_flight_max,
    };
    let probes = Probes {
        stacks: stacks.clone(),
        switch: switch.clone(),
        metrics: metrics.clone(),
        rules: rules.clone(),
        hash_key: hash_key.clone(),
        node: node.to_owned(),
        settings: terms.clone(),
    };
    (mirror, mirroring, probes)
}

/// Where merchants come in: over TLS, and without it from a balancer that ends TLS itself.
fn entrances(
    args: &Args,
    (chain, key): (String, String),
    serve: &Arc<Serve<Edge>>,
    terms: &Terms,
    inherited: &mut Inherited,
) -> Result<Vec<Door<Connections<Serve<Edge>>>>, ConfigError> {
    let mut tls = TlsSettings::intermediate(&chain, &key)
        .map_err(|error| ConfigError::Tls { file: chain.into(), what: error.to_string() })?;
    tls.enable_h2();
    let mut door = |name, tls: Option<TlsSettings>, address: SocketAddr| {
        let connections =
            Connections::new(serve.clone(), tls.map(TlsSettings::build), terms.clone());
        inherited.door(name, address, connections)
    };
    let secure = door(doors::LISTEN, Some(tls), args.listen);
    let plain = args.listen_plain.map(|address| door(doors::LISTEN_PLAIN, None, address));
    Ok(std::iter::once(secure).chain(plain).collect())
}

/// The sockets that listen already.
struct Inherited(Vec<(String, TcpListener)>);

impl Inherited {
    /// The door at this address, where there is a socket of this name with that.
    fn door<A>(&mut self, name: &str, address: SocketAddr, connections: A) -> Door<A> {
        let mut service = Service::new(name.to_owned(), connections);
        service.add_tcp(&address.to_string());
        let index = self.0.iter().position(|(it, _)| it == name);
        let inherited = index.map(|index| self.0.swap_remove(index).1);
        Door { service, address, inherited }
    }
}

/// Where a predecessor passes its last requests on; taken up only once there is a book to answer from.
fn back_door(config: &Config) -> Result<std::os::unix::net::UnixListener, ConfigError> {
    let layout = &config.layout;
    let socket = if config.args.beside { layout.next_socket() } else { layout.edge_socket() };
    handover::bind(&socket).map_err(|source| ConfigError::BackDoor { socket, source })
}

/// What stand-ins may approve for a merchant that has no caps of its own.
const fn stand_in_caps(edge: &settings::Edge) -> exposure::Caps {
    exposure::Caps {
        approvals_max: edge.stand_in_approvals_max,
        amount_max: edge.stand_in_amount_max,
    }
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
    let start = Instant::now();
    loop {
        match Book::open(&config.layout.book(), settings) {
            Ok((book, opened)) => {
                tracing::info!(?opened, took = ?start.elapsed(), "the book is open");
                return Ok(book);
            }
            Err(BookError::Locked { .. })
                if config.args.beside && start.elapsed() < BOOK_WAIT_MAX =>
            {
                std::thread::sleep(BOOK_RETRY_AFTER);
            }
            Err(error) => return Err(error.into()),
        }
    }
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
        Ok::<_, ConfigError>(ApiClient::new(stack, peers, exchanges.clone(), config.link))
    };
    let ([prod, old_prod], [first, second]) = (STACKS, &config.apis);
    Ok(Stacks::new([client(prod, first)?, client(old_prod, second)?]))
}

/// Pingora's own settings, the dangerous defaults overridden: it would stay up for five minutes after
/// SIGTERM where ours has waited for all there is to wait for, keep its upgrade socket and pid file where
/// every local user can reach them, and wake a clock of its own a hundred times a second, which none of its
/// waits here needs.
fn server_conf(run_dir: &std::path::Path) -> ServerConf {
    ServerConf {
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(0),
        max_retries: 0,
        fast_timeout_to_tokio_threshold_seconds: Some(0),
        pid_file: run_dir.join("proxy.pid").display().to_string(),
        upgrade_sock: run_dir.join("proxy-upgrade.sock").display().to_string(),
        ..ServerConf::default()
    }
}
