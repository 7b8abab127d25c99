//! The way to core: one HTTP/2 connection over its Unix socket, which mends itself.
//!
//! tonic's own channel will not do here: it reads `grpc-timeout` from the request and cancels the
//! stream when that has passed, but an exchange must outlive its waiter. It is also simpler to see
//! from here that a dead socket fails at once, and that a core which came back is used at once.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use backstop_process::Socket;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tonic::Status;
use tonic::body::Body;

/// A request that no connection took is offered to this many: the open one, and a fresh one.
const OFFERS_MAX: usize = 2;

/// Bytes to core and back.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens a stream to core, or says why it cannot, at once.
type Dial = Box<dyn Fn() -> Promise<io::Result<Box<dyn Stream>>> + Send + Sync>;
type Promise<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Sender = http2::SendRequest<Body>;

/// A gRPC service at the other end of a stream. Clones share the connection.
#[derive(Clone)]
pub struct Connection(Arc<Line>);

struct Line {
    dial: Dial,
    silence_max: Duration,
    open: Mutex<Option<Sender>>,
}

impl Connection {
    /// Over a Unix socket. Opens nothing yet. A peer that is silent for `silence_max` while it owes
    /// an answer, and for as long again when pinged, has its connection closed: that bounds what can
    /// wait on it.
    pub fn lazy(socket: PathBuf, silence_max: Duration) -> Self {
        Self::over(silence_max, move || {
            let socket = socket.clone();
            async move {
                let stream = Socket::connect(&socket).await;
                stream.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", socket.display()))
                })
            }
        })
    }

    /// Over the streams that `dial` opens.
    pub fn over<S, F>(silence_max: Duration, dial: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: Stream + 'static,
    {
        let dial: Dial = Box::new(move || {
            let opened = dial();
            Box::pin(async move { Ok(Box::new(opened.await?) as Box<dyn Stream>) })
        });
        Self(Arc::new(Line { dial, silence_max, open: Mutex::new(None) }))
    }
}

impl Line {
    async fn send(
        &self,
        mut request: http::Request<Body>,
    ) -> Result<http::Response<Incoming>, Status> {
        for _ in 0..OFFERS_MAX {
            let mut sender = self.sender().await?;
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut refused) => match refused.take_message() {
                    // It closed under our hands, and not a byte was sent: ask a fresh one.
                    Some(unsent) => request = unsent,
                    None => return Err(Status::unavailable(refused.into_error().to_string())),
                },
            }
        }
        Err(Status::unavailable("every connection closed before it took the request"))
    }

    /// The open connection, or a new one. One caller connects; the others wait for it, which on a
    /// Unix socket is no wait: it is accepted or refused in the same system call.
    async fn sender(&self) -> Result<Sender, Status> {
        let mut open = self.open.lock().await;
        if let Some(sender) = open.as_ref().filter(|sender| !sender.is_closed()) {
            return Ok(sender.clone());
        }
        let sender = self.connect().await?;
        *open = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self) -> Result<Sender, Status> {
        let away = |error: &dyn std::fmt::Display| Status::unavailable(error.to_string());
        let stream = (self.dial)().await.map_err(|error| away(&error))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(self.silence_max)
            .keep_alive_timeout(self.silence_max)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| away(&error))?;
        tokio::spawn(async move {
            // The calls on it are told by themselves; here it is only for whoever looks closely.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to core broke");
            }
        });
        Ok(sender)
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = Status;
    type Future = Promise<Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let line = Arc::clone(&self.0);
        Box::pin(async move { line.send(request).await })
    }
}
