//! A steady load, open loop: a request is due when it is due, whatever became of those before it, and
//! its latency counts from then. A stall can not hide by holding the load up.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio::time::{Instant, sleep_until, timeout};

use crate::system::fresh_id;

/// A request without an answer is given up after this: twenty budgets.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

const CUSTOMERS: usize = 499;
const TERMINALS: usize = 307;
/// Among the first so many payments are all customers and terminals.
pub const EVERYBODY: usize = if CUSTOMERS > TERMINALS { CUSTOMERS } else { TERMINALS };

/// What is asked, how often and how long.
#[derive(Clone)]
pub struct Load {
    /// Requests a second.
    pub rate: u32,
    pub length: Duration,
    /// Kept alive throughout, used in turn, opened before the first request is due.
    pub connections: usize,
    pub door: Door,
    pub key: String,
    /// Asked for in turn.
    pub policies: &'static [&'static str],
}

/// Where the requests go in.
#[derive(Clone)]
pub enum Door {
    /// The edge, without TLS.
    Plain(SocketAddr),
    /// The edge, over TLS.
    Tls(SocketAddr, Arc<rustls::ClientConfig>),
    /// The socket of an api, as an edge whose wall clock is off by so many milliseconds.
    Api { socket: PathBuf, clock_off: i64 },
}

/// One request and what became of it.
pub struct Sample {
    pub id: String,
    /// From when it was due to the last byte of its answer.
    pub latency: Duration,
    /// Status and body, or what came instead.
    pub answer: Result<(u16, Bytes), String>,
}

/// All that was seen.
#[derive(Default)]
pub struct Run {
    pub samples: Vec<Sample>,
    /// Connections that the other side ended.
    pub lost: usize,
    /// The latest that a request was sent after it was due, for want of CPU on this side.
    pub lag: Duration,
}

impl Run {
    /// The ids that core decided, each with its decision.
    pub fn by_core(&self) -> Vec<(String, String)> {
        let by_core = |sample: &Sample| {
            let (_, body) = sample.answer.as_ref().ok()?;
            let answer: Value = serde_json::from_slice(body).ok()?;
            let decision = answer["decision"].as_str()?.to_owned();
            (answer["decided_by"] == "core").then_some((sample.id.clone(), decision))
        };
        self.samples.iter().filter_map(by_core).collect()
    }
}

struct Due {
    id: String,
    request: Request<Full<Bytes>>,
    at: Instant,
}

impl Load {
    /// Starts on a thread of its own. Returns once every connection is open.
    pub fn start(self) -> std::thread::JoinHandle<Run> {
        let (ready, started) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(self.run(ready))
        });
        // When the thread failed, whoever joins it is told why.
        let _failed = started.recv();
        thread
    }

    async fn run(self, ready: SyncSender<()>) -> Run {
        let total = self.length.as_millis() * u128::from(self.rate) / 1000;
        let total = u32::try_from(total).unwrap();
        let (jobs, waiting) = mpsc::channel(total as usize);
        let waiting = Arc::new(Mutex::new(waiting));
        let mut workers = Vec::new();
        for _ in 0..self.connections {
            let wire = Wire::open(self.door.clone()).await;
            workers.push(tokio::spawn(work(wire, waiting.clone())));
        }
        ready.send(()).unwrap();
        let mut whole = Run::default();
        let start = Instant::now();
        for number in 0..total {
            let at = start + Duration::from_secs(1) * number / self.rate;
            sleep_until(at).await;
            whole.lag = std::cmp::max(whole.lag, at.elapsed());
            let id = fresh_id();
            let request = self.request(&id, number as usize);
            jobs.send(Due { id, request, at }).await.unwrap();
        }
        drop(jobs);
        for worker in workers {
            let (samples, lost) = worker.await.unwrap();
            whole.samples.extend(samples);
            whole.lost += lost;
        }
        whole
    }

    fn request(&self, id: &str, number: usize) -> Request<Full<Bytes>> {
        let policy = self.policies[number % self.policies.len()];
        let body = honest_payment(id, policy, number);
        let request = Request::post("/v1/decisions")
            .header("host", "localhost")
            .header("content-type", "application/json");
        let request = match &self.door {
            Door::Plain(_) | Door::Tls(..) => {
                request.header("authorization", format!("Bearer {}", self.key))
            }
            Door::Api { clock_off, .. } => request
                .header("backstop-merchant", "clock")
                .header("backstop-received-at", now_millis() + clock_off)
                .header("backstop-request-hash", format!("{:064x}", uuid::Uuid::now_v7().as_u128()))
                .header("backstop-budget-ms", "240"),
        };
        request.body(Full::new(body.into())).unwrap()
    }
}

/// An honest payment: many customers and terminals, amounts that nobody minds.
pub fn honest_payment(id: &str, policy: &str, number: usize) -> String {
    let (customer, terminal) = (number % CUSTOMERS, number % TERMINALS);
    let amount = 1000 + number % 997;
    format!(
        r#"{{"id":"{id}","policy":"{policy}","account":"customer-{customer}","amount":{amount},"currency":"GBP","attributes":{{"terminal":"{terminal}"}}}}"#
    )
}

fn now_millis() -> i64 {
    let (seconds, nanos) = uuid::Uuid::now_v7().get_timestamp().unwrap().to_unix();
    i64::try_from(seconds).unwrap() * 1000 + i64::from(nanos) / 1_000_000
}

/// Sends what is due, one after the other, on one connection; gives back how often that was lost.
async fn work(mut wire: Wire, waiting: Arc<Mutex<mpsc::Receiver<Due>>>) -> (Vec<Sample>, usize) {
    let mut samples = Vec::new();
    loop {
        // The lock is handed on in turn, so that every connection is used.
        let next = waiting.lock().await.recv().await;
        let Some(Due { id, request, at }) = next else { break };
        let answer = timeout(ANSWER_TIME_MAX, wire.ask(request)).await;
        let answer = answer.unwrap_or_else(|_elapsed| Err("no answer".to_owned()));
        if answer.is_err() {
            wire.lose();
        }
        samples.push(Sample { id, latency: at.elapsed(), answer });
    }
    wire.look();
    (samples, wire.lost)
}

/// One keep-alive connection, opened again when it was lost.
struct Wire {
    door: Door,
    open: Option<http1::SendRequest<Full<Bytes>>>,
    lost: usize,
}

impl Wire {
    async fn open(door: Door) -> Self {
        let open = connect(&door).await.unwrap();
        Self { door, open: Some(open), lost: 0 }
    }

    fn lose(&mut self) {
        self.lost += usize::from(self.open.take().is_some());
    }

    /// Takes note of a connection that ended while nothing was asked on it.
    fn look(&mut self) {
        if self.open.as_ref().is_some_and(http1::SendRequest::is_closed) {
            self.lose();
        }
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<(u16, Bytes), String> {
        let said = |error: hyper::Error| format!("{error:?}");
        self.look();
        if self.open.is_none() {
            self.open = Some(connect(&self.door).await.map_err(|error| error.to_string())?);
        }
        let open = self.open.as_mut().ok_or("no connection")?;
        open.ready().await.map_err(said)?;
        let response = open.send_request(request).await.map_err(said)?;
        let closes = response.headers().get("connection").is_some_and(|it| it == "close");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.map_err(said)?.to_bytes();
        if closes {
            self.lose();
        }
        Ok((status, body))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

async fn connect(door: &Door) -> io::Result<http1::SendRequest<Full<Bytes>>> {
    let stream: Box<dyn Stream> = match door {
        Door::Plain(address) => Box::new(tcp(*address).await?),
        Door::Tls(address, config) => {
            let server = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let connector = tokio_rustls::TlsConnector::from(config.clone());
            Box::new(connector.connect(server, tcp(*address).await?).await?)
        }
        Door::Api { socket, .. } => Box::new(UnixStream::connect(socket).await?),
    };
    let opened = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(io::Error::other)?;
    // How it ends, its sender tells.
    tokio::spawn(connection);
    Ok(sender)
}

async fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
