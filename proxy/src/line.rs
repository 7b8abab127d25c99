//! Connections to one api, kept open between exchanges.
//!
//! hyper's client writes a small request in one go, where Pingora's writes head and body each by itself,
//! which wakes the api twice.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// A connection that is no exchange's: whoever takes it owns it, and puts it back when its answer was
/// read to the end.
pub struct Line {
    sender: SendRequest<Full<Bytes>>,
    is_used: bool,
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

/// The idle connections to one api.
pub struct Idle {
    lines: Mutex<Vec<(SendRequest<Full<Bytes>>, Instant)>>,
    lines_max: usize,
    timeout: Duration,
}

impl Idle {
    /// Keeps at most `lines_max`, each for as long as `timeout`.
    pub const fn new(lines_max: usize, timeout: Duration) -> Self {
        Self { lines: Mutex::new(Vec::new()), lines_max, timeout }
    }

    /// The connection that was put back last, if it is still open.
    pub fn take(&self, now: Instant) -> Option<Line> {
        let mut lines = self.lines();
        while let Some((sender, since)) = lines.pop() {
            if !sender.is_closed() && now.saturating_duration_since(since) < self.timeout {
                return Some(Line { sender, is_used: true });
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
        if lines.len() < self.lines_max {
            lines.push((line.sender, now));
        }
    }

    /// Closes them all.
    pub fn clear(&self) {
        self.lines().clear();
    }

    fn lines(&self) -> MutexGuard<'_, Vec<(SendRequest<Full<Bytes>>, Instant)>> {
        // Each change is whole, even after a panic in another.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection.
pub async fn connect(end: &End) -> io::Result<Line> {
    match end {
        End::Socket(path) => speak_http(UnixStream::connect(path).await?).await,
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
    Ok(Line { sender, is_used: false })
}
