//! Connections to one api, kept open between exchanges.
//!
//! hyper's client writes a small request in one go, where Pingora's writes head and body each by itself,
//! which wakes the api twice.
//!
//! The task that drives a connection stays on the threads that opened it, so it is lent to their exchanges
//! only: a merchant's request over a connection that a probe opened would wake the probes' thread to be
//! written, and again to be read.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backstop_process::Socket;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;

/// A connection that is no exchange's: whoever takes it owns it, and puts it back when its answer was
/// read to the end.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    is_used: bool,
    /// On whose threads it is driven.
    home: Option<Id>,
}

impl Line {
    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> hyper::Result<http::Response<Incoming>> {
        // The connection may still be at the end of the exchange before.
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Whether it lay idle before: then the api may have closed it meanwhile.
    pub const fn is_used(&self) -> bool {
        self.is_used
    }
}

/// What an open connection leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// A Unix socket.
    Socket(PathBuf),
    /// An address on the network.
    Network(SocketAddr),
}

/// The idle connections to one api, and since when each is.
pub struct Idle {
    lines: Mutex<Vec<(Line, Instant)>>,
    /// Of each home.
    lines_max: usize,
    timeout: Duration,
}

impl Idle {
    /// Keeps at most `lines_max` of those that the same threads drive, each for as long as `timeout`.
    pub const fn new(lines_max: usize, timeout: Duration) -> Self {
        Self { lines: Mutex::new(Vec::new()), lines_max, timeout }
    }

    /// Of those that the caller's threads drive, the connection that was put back last, if it is still open.
    pub fn take(&self, now: Instant) -> Option<Line> {
        let (here, mut lines) = (here(), self.lines());
        while let Some(index) = lines.iter().rposition(|(line, _)| line.home == here) {
            let (line, since) = lines.remove(index);
            if !line.sender.is_closed() && now.saturating_duration_since(since) < self.timeout {
                return Some(Line { is_used: true, ..line });
            }
        }
        None
    }

    /// Keeps a connection for the next exchange. One too many, or idle for too long, is closed.
    pub fn put_back(&self, line: Line, now: Instant) {
        let mut lines = self.lines();
        // The one at the front was used longest ago: with every exchange, one may go.
        let is_stale = |since: Instant| now.saturating_duration_since(since) >= self.timeout;
        if lines.first().is_some_and(|(_, since)| is_stale(*since)) {
            lines.remove(0);
        }
        // A probe's connection is not to take the place of one that merchants' exchanges could have.
        let neighbours = lines.iter().filter(|(it, _)| it.home == line.home).count();
        if neighbours < self.lines_max {
            lines.push((line, now));
        }
    }

    /// Closes them all.
    pub fn clear(&self) {
        self.lines().clear();
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(Line, Instant)>> {
        // Each change is whole, even after a panic in another.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection.
pub async fn connect(end: &End) -> io::Result<Line> {
    match end {
        End::Socket(path) => speak_http(Socket::connect(path).await?).await,
        End::Network(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            speak_http(stream).await
        }
    }
}

async fn speak_http<S>(stream: S) -> io::Result<Line>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(io::Error::other)?;
    tokio::spawn(async move {
        // Its exchanges are told by themselves; here it is only for whoever looks closely.
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to an api broke");
        }
    });
    Ok(Line { sender, is_used: false, home: here() })
}

/// The runtime of the caller.
fn here() -> Option<Id> {
    Handle::try_current().ok().map(|handle| handle.id())
}
