//! The life of a connection: one of the places there are, a handshake, and one request after another.
//!
//! Pingora accepts, and from there on the connection is ours: its own loops count no handshake among
//! the connections, and bound neither the wait for a request nor a head as a whole.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::IntoRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use pingora::apps::{HttpServerApp, ServerApp};
use pingora::listeners::tls::Acceptor;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{self, H2Accept, HttpSession};
use pingora::protocols::l4::stream::Stream as Tcp;
use pingora::protocols::{ALPN, Digest, Shutdown, Stream};
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::listening::Service;
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use backstop_settings::settings::Edge;

/// Room for nearly every request, head and body.
const REQUEST_BYTES_USUAL: usize = 4096;
/// So many requests that break the protocol end the h2 connection they came on.
const REJECTED_MAX: usize = 32;

/// What all connections of one kind of client share.
#[derive(Clone)]
pub struct Terms {
    places: Arc<Semaphore>,
    connections_max: usize,
    handshake_timeout: Duration,
    idle_timeout: Duration,
}

impl Terms {
    /// The terms of these settings.
    pub fn new(edge: &Edge) -> Self {
        let connections_max = edge.connections_max;
        let places = Arc::new(Semaphore::new(connections_max));
        let (handshake_timeout, idle_timeout) = (edge.handshake_timeout, edge.idle_timeout);
        Self { places, connections_max, handshake_timeout, idle_timeout }
    }

    /// How many connections there are.
    pub fn open(&self) -> usize {
        self.connections_max.saturating_sub(self.places.available_permits())
    }

    /// A connection on which nothing is asked is closed after this long.
    pub const fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// The same terms for clients who must not lack a place because of others.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { places: Arc::new(Semaphore::new(self.connections_max)), ..self.clone() }
    }
}

/// The connections of one listener. One more than the most there may be is closed at once, before it
/// costs anything else.
pub struct Connections<A> {
    app: Arc<A>,
    tls: Option<Acceptor>,
    terms: Terms,
}

impl<A: HttpServerApp + Send + Sync + 'static> Connections<A> {
    /// Connections to `app`, over TLS where there is an acceptor.
    pub const fn new(app: Arc<A>, tls: Option<Acceptor>, terms: Terms) -> Self {
        Self { app, tls, terms }
    }

    /// The connection after its TLS handshake, if that comes to an end in time.
    async fn shake_hands(&self, stream: Stream) -> Option<Stream> {
        let Some(tls) = &self.tls else { return Some(stream) };
        // Whatever a listener without TLS hands out is of this type.
        let tcp = stream.into_any().downcast::<Tcp>().ok()?;
        match timeout(self.terms.handshake_timeout, tls.tls_handshake(*tcp)).await {
            Ok(Ok(stream)) => Some(Box::new(stream)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake failed");
                None
            }
            Err(_elapsed) => None,
        }
    }

    /// One request after another. A client may open its connection long before it needs it, so the
    /// wait for the first byte of a request is not the time that its head may take.
    async fn serve_http1(&self, mut stream: Stream, shutdown: &ShutdownWatch) {
        loop {
            let mut first = BytesMut::with_capacity(REQUEST_BYTES_USUAL);
            let read = timeout(self.terms.idle_timeout, stream.read_buf(&mut first)).await;
            if !matches!(read, Ok(Ok(1..))) {
                // A farewell may take as long as a greeting.
                let farewell = Shutdown::shutdown(stream.as_mut());
                let _ = timeout(self.terms.handshake_timeout, farewell).await;
                return;
            }
            let mut session = ServerSession::new_http1(stream);
            session.set_pipelined_prefix(first);
            match self.app.process_new_http(session, shutdown).await {
                Some(reused) => (stream, _) = reused.consume(),
                None => return,
            }
        }
    }

    /// Many requests at a time, until there has been none for as long as a connection may be idle.
    async fn serve_h2(&self, stream: Stream, shutdown: &ShutdownWatch) {
        let digest = Arc::new(Digest {
            ssl_digest: stream.get_ssl_digest(),
            timing_digest: stream.get_timing_digest(),
            proxy_digest: stream.get_proxy_digest(),
            socket_digest: stream.get_socket_digest(),
        });
        let greeting = server::handshake(stream, self.app.h2_options());
        let Ok(Ok(mut connection)) = timeout(self.terms.handshake_timeout, greeting).await else {
            return;
        };
        let (mut told, mut is_ending, mut rejected) = (shutdown.clone(), false, 0);
        let mut requests = JoinSet::new();
        while rejected < REJECTED_MAX {
            tokio::select! {
                biased;
                _ = told.changed(), if !is_ending => {
                    connection.graceful_shutdown();
                    is_ending = true;
                }
                opened = HttpSession::from_h2_conn(&mut connection, digest.clone()) => match opened {
                    Ok(Some(H2Accept::Session(session))) => {
                        let (app, shutdown) = (self.app.clone(), shutdown.clone());
                        requests.spawn(async move {
                            app.process_new_http(ServerSession::new_http2(session), &shutdown).await;
                        });
                    }
                    Ok(Some(H2Accept::Rejected)) => rejected += 1,
                    Ok(None) | Err(_) => break,
                },
                _ = requests.join_next(), if !requests.is_empty() => {}
                () = sleep(self.terms.idle_timeout), if requests.is_empty() => break,
            }
        }
        // What was asked is decided, whoever still listens.
        requests.detach_all();
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> ServerApp for Connections<A> {
    async fn process_new(
        self: &Arc<Self>,
        stream: Stream,
        shutdown: &ShutdownWatch,
    ) -> Option<Stream> {
        let _place = self.terms.places.try_acquire().ok()?;
        let stream = self.shake_hands(stream).await?;
        if stream.selected_alpn_proto() == Some(ALPN::H2) {
            self.serve_h2(stream, shutdown).await;
        } else {
            self.serve_http1(stream, shutdown).await;
        }
        None
    }
}

/// A listener.
pub struct Door<A> {
    /// With its address, and whose connections they are.
    pub service: Service<A>,
    /// That address.
    pub address: SocketAddr,
    /// A socket that listens there already.
    pub inherited: Option<TcpListener>,
}

/// Listeners that share their threads.
pub struct Doors<A> {
    /// Whom they are for.
    pub name: &'static str,
    /// Each of them.
    pub doors: Vec<Door<A>>,
    /// How many threads they share.
    pub threads: usize,
    /// True once no more connections are to be taken.
    pub leaving: ShutdownWatch,
}

#[async_trait]
impl<A: ServerApp + Send + Sync + 'static> pingora::services::Service for Doors<A> {
    async fn start_service(
        &mut self,
        files: Option<ListenFds>,
        _: ShutdownWatch,
        listeners_per_fd: usize,
    ) {
        let mut open = JoinSet::new();
        for Door { mut service, address, inherited } in self.doors.drain(..) {
            let (files, leaving) = (files.clone(), self.leaving.clone());
            if let (Some(files), Some(socket)) = (&files, inherited) {
                // What Pingora finds under its address, it need not open.
                files.lock().add(address.to_string(), socket.into_raw_fd());
            }
            open.spawn(async move {
                service.start_service(files, leaving, listeners_per_fd).await;
            });
        }
        while open.join_next().await.is_some() {}
    }

    fn name(&self) -> &'static str {
        self.name
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}

#[cfg(test)]
mod tests;
