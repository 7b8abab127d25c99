//! How the edge stops, and how it makes room for its successor, so that no client notices.
//!
//! Told to stop, it takes no more connections, finishes what is under way, and closes the book. Told to
//! hand over, it does the same, and stays: the listening sockets are the supervisor's and the successor
//! accepts on them, but connections that clients keep open are ours. What still arrives on those is passed
//! on to the successor over a private Unix socket, as it came, and the answer says `Connection: close`;
//! so every client moves over after one more request, and none is cut.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use pingora::apps::{HttpServerApp, ServerApp as _};
use pingora::protocols::l4::stream::Stream;
use pingora::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use backstop_book::Book;
use backstop_process::{Order, Orders};
use backstop_settings::{Address, DRAIN_TIME_MAX, Merchants};

use crate::connections::{Connections, Terms};
use crate::place::{BadSocket, Place};
use crate::switch::Switch;

/// Beyond the largest budget: to write the answer.
const WRITE_TIME: Duration = Duration::from_millis(100);
/// The longest that a request waits for the successor, who may have to read a long book first.
const PASS_ON_TIME_MAX: Duration = Duration::from_secs(20);
/// Before the successor is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(5);
/// Connections to the successor that are kept between requests.
const LINES_MAX: usize = 64;
/// The largest answer that is passed back: a statement may be long.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How often it is looked whether the last connection has gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What only one connection knows, and not the next (RFC 9110, section 7.6.1); lengths are set anew, and a
/// body that is here is expected by nobody.
const OF_ONE_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    TE,
    UPGRADE,
    EXPECT,
];

/// Lets requests in, and knows how many are under way. Once closed it lets none in.
#[derive(Debug, Default)]
pub struct Gate {
    /// Twice the number of those under way, and one more when closed.
    state: AtomicUsize,
    left: Notify,
}

const CLOSED: usize = 1;
const ONE: usize = 2;

/// A request that was let in and is under way for as long as this lives.
#[derive(Debug)]
pub struct UnderWay<'a>(&'a Gate);

impl Gate {
    /// Lets a request in; `None` when the gate is closed.
    pub fn enter(&self) -> Option<UnderWay<'_>> {
        let before = self.state.fetch_add(ONE, Ordering::AcqRel);
        // Dropped, where it was closed, it takes itself out again.
        let entered = UnderWay(self);
        (before & CLOSED == 0).then_some(entered)
    }

    /// One more is under way, even if the gate was closed meanwhile: for what was let in already.
    pub fn hold(&self) -> UnderWay<'_> {
        self.state.fetch_add(ONE, Ordering::AcqRel);
        UnderWay(self)
    }

    /// Lets no more in.
    pub fn close(&self) {
        self.state.fetch_or(CLOSED, Ordering::AcqRel);
    }

    /// Waits until nothing is under way.
    pub async fn is_empty(&self) {
        loop {
            let left = self.left.notified();
            if self.state.load(Ordering::Acquire) < ONE {
                return;
            }
            left.await;
        }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let before = self.0.state.fetch_sub(ONE, Ordering::AcqRel);
        if before == ONE | CLOSED || before == ONE {
            self.0.left.notify_waiters();
        }
    }
}

/// The way to the process that serves after this one.
pub struct Successor {
    place: Place,
}

/// What the successor answered.
#[derive(Debug)]
pub struct Passed {
    /// The status.
    pub status: StatusCode,
    /// The headers, but those of the connection.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Successor {
    /// It listens, or will, on this Unix socket.
    pub fn new(socket: PathBuf, idle_timeout: Duration) -> Result<Self, BadSocket> {
        Ok(Self { place: Place::new(Address::Socket(socket), LINES_MAX, idle_timeout)? })
    }

    /// Passes a request on as it came. Waits for the successor where it is not there yet; `None` when it
    /// does not come, or breaks off.
    pub async fn pass_on(&self, head: &http::request::Parts, body: Bytes) -> Option<Passed> {
        let exchange = async {
            loop {
                match self.try_pass_on(head, body.clone()).await {
                    Ok(passed) => return passed,
                    Err(error) => tracing::debug!(%error, "the successor does not answer yet"),
                }
                sleep(RETRY_AFTER).await;
            }
        };
        timeout(PASS_ON_TIME_MAX, exchange).await.ok()
    }

    /// A request carries its idempotency key, so it may be sent again, whatever became of it.
    async fn try_pass_on(
        &self,
        head: &http::request::Parts,
        body: Bytes,
    ) -> Result<Passed, Box<dyn std::error::Error + Send + Sync>> {
        let mut line = self.place.connect().await?;
        let response = line.send(request(head, body)?).await?;
        let (mut head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await?.to_bytes();
        self.place.put_back(line);
        strip(&mut head.headers);
        Ok(Passed { status: head.status, headers: head.headers, body })
    }
}

/// The request in HTTP/1.1, whatever it came in.
fn request(head: &http::request::Parts, body: Bytes) -> http::Result<Request<Full<Bytes>>> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(&head.method).uri(target).body(Full::new(body))?;
    *request.headers_mut() = head.headers.clone();
    strip(request.headers_mut());
    if let Some(authority) = head.uri.authority()
        && !request.headers().contains_key(HOST)
    {
        request.headers_mut().insert(HOST, authority.as_str().parse()?);
    }
    Ok(request)
}

fn strip(headers: &mut HeaderMap) {
    for name in OF_ONE_HOP {
        headers.remove(name);
    }
}

/// The private door through which a predecessor passes its last requests on.
pub struct BackDoor<A> {
    listener: Option<UnixListener>,
    connections: Arc<Connections<A>>,
    leaving: ShutdownWatch,
}

impl<A: HttpServerApp + Send + Sync + 'static> BackDoor<A> {
    /// Connections that come in through this listener, which must not block, until we leave.
    pub const fn new(
        listener: UnixListener,
        connections: Arc<Connections<A>>,
        leaving: ShutdownWatch,
    ) -> Self {
        Self { listener: Some(listener), connections, leaving }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> pingora::services::Service for BackDoor<A> {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, _: usize) {
        let listener = self.listener.take().map(tokio::net::UnixListener::from_std);
        let Some(Ok(listener)) = listener else {
            return tracing::error!("no predecessor can pass requests on");
        };
        let mut leaving = self.leaving.clone();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                // The next predecessor is this process itself.
                _ = leaving.wait_for(|leaving| *leaving) => return,
            };
            match accepted {
                Ok((stream, _peer)) => {
                    let (connections, leaving) = (self.connections.clone(), self.leaving.clone());
                    tokio::spawn(async move {
                        connections.process_new(Box::new(Stream::from(stream)), &leaving).await;
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a predecessor could not be let in");
                    sleep(LOOK_EVERY).await;
                }
            }
        }
    }

    fn name(&self) -> &'static str {
        "back door"
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}

/// Listens where only this user can connect. What is there already makes room.
pub fn bind(socket: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Ends the edge when it is told to.
pub struct Farewell {
    /// True from then on: no more connections are taken, and none is kept for a further request.
    pub leaving: watch::Sender<bool>,
    /// What is under way, of merchants and of operators.
    pub gates: [Arc<Gate>; 2],
    /// Which connections there are.
    pub terms: Terms,
    /// Whose budgets are to be kept.
    pub merchants: Arc<ArcSwap<Merchants>>,
    /// What is closed once nothing is under way: which stack serves,
    pub switch: Arc<Switch>,
    /// and what was released.
    pub book: Book,
}

#[async_trait]
impl ShutdownSignalWatch for Farewell {
    async fn recv(&self) -> ShutdownSignal {
        let mut orders = Orders::new();
        let order = orders.next().await;
        self.give_up(order).await;
        if order == Order::HandOver {
            tracing::info!("handed over; what still comes in is passed on to the successor");
            tokio::select! {
                () = self.everybody_gone() => {}
                () = stop(&mut orders) => {}
            }
        }
        // What was under way has ended: there is nothing left that a grace period would be for.
        ShutdownSignal::FastShutdown
    }
}

async fn stop(orders: &mut Orders) {
    while orders.next().await != Order::Stop {}
}

impl Farewell {
    /// Takes no more connections, finishes what is under way, and gives up the book.
    async fn give_up(&self, order: Order) {
        self.leaving.send_replace(true);
        let start = Instant::now();
        let time_max = self.drain_time();
        // Without a successor, whoever asks once more on a connection of his is answered here.
        if order == Order::HandOver {
            self.close_gates();
        }
        let finished = async {
            for gate in &self.gates {
                gate.is_empty().await;
            }
        };
        let (finished, ()) = tokio::join!(timeout(time_max, finished), self.switch.close());
        if finished.is_err() {
            tracing::warn!("requests were still under way when their time was over");
        }
        self.close_gates();
        // Last of all, since whoever has the book is the edge.
        self.book.close().await;
        tracing::info!(took = ?start.elapsed(), "what was under way is finished, the book closed");
    }

    fn close_gates(&self) {
        for gate in &self.gates {
            gate.close();
        }
    }

    /// The largest budget of any merchant.
    fn drain_time(&self) -> Duration {
        std::cmp::min(self.merchants.load().largest_budget() + WRITE_TIME, DRAIN_TIME_MAX)
    }

    /// Resolves once no client is connected; those who say nothing are cut at their idle timeout.
    async fn everybody_gone(&self) {
        let until = Instant::now() + self.terms.idle_timeout() + PASS_ON_TIME_MAX;
        while self.terms.open() > 0 && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests;
