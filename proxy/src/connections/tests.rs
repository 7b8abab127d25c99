//! Clients on streams in memory and a paused clock, so that each is cut to the millisecond.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::http::{Answer, Caps, Incoming, Routes, Serve};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Says ok to everything.
struct Yes;

impl Routes for Yes {
    async fn answer(&self, _: &mut Incoming<'_>) -> Option<Answer> {
        Some(Answer::new(200, "text/plain", "ok"))
    }
}

/// A head has 5 s from its first byte, and a connection 60 s before that; there are two places.
fn connections() -> Arc<Connections<Serve<Yes>>> {
    let caps = Caps {
        body_bytes_max: 65_536,
        drain_bytes_max: 2_097_152,
        body_timeout: ms(2_000),
        header_timeout: ms(5_000),
    };
    let settings = Edge { connections_max: 2, ..Edge::default() };
    let app = Arc::new(Serve::new(Yes, caps, Arc::default(), None));
    Arc::new(Connections::new(app, None, Terms::new(&settings)))
}

/// A client of one connection.
struct Client {
    wire: DuplexStream,
    /// Ends when the edge is done with the connection.
    served: JoinHandle<()>,
    _running: watch::Sender<bool>,
}

impl Client {
    fn connect(connections: &Arc<Connections<Serve<Yes>>>) -> Self {
        let (wire, far_end) = duplex(64 * 1024);
        let (running, shutdown) = watch::channel(false);
        let connections = connections.clone();
        let served = tokio::spawn(async move {
            connections.process_new(Box::new(far_end), &shutdown).await;
        });
        Self { wire, served, _running: running }
    }

    /// Sends these bytes and reads one answer; its status.
    async fn ask(&mut self, bytes: &[u8]) -> String {
        self.wire.write_all(bytes).await.unwrap();
        let mut answer = [0; 4096];
        let read = self.wire.read(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer[..read]).into_owned();
        text.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    /// How long the edge goes on with this connection.
    async fn cut(self) -> Duration {
        let start = Instant::now();
        self.served.await.unwrap();
        start.elapsed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_be_idle_for_longer_than_a_head_may_take() {
    let mut client = Client::connect(&connections());
    for _ in 0..3 {
        sleep(ms(59_999)).await;
        assert_eq!(client.ask(REQUEST).await, "200");
    }
    assert_eq!(client.cut().await, ms(60_000));
}

#[tokio::test(start_paused = true)]
async fn a_head_has_its_time_from_its_first_byte_on() {
    for (pause, in_time) in [(4_999, true), (5_001, false)] {
        let mut client = Client::connect(&connections());
        assert_eq!(client.ask(REQUEST).await, "200");
        sleep(ms(30_000)).await;
        client.wire.write_all(&REQUEST[..1]).await.unwrap();
        if in_time {
            sleep(ms(pause)).await;
            assert_eq!(client.ask(&REQUEST[1..]).await, "200");
        } else {
            assert_eq!(client.cut().await, ms(5_000), "however long it was idle before");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_is_cut_as_one_that_stops() {
    let mut client = Client::connect(&connections());
    let start = Instant::now();
    client.wire.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
    while client.wire.write_all(b"x").await.is_ok() && !client.served.is_finished() {
        sleep(ms(100)).await;
    }
    assert!((ms(5_000)..=ms(5_100)).contains(&start.elapsed()), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_head_is_refused_with_a_word() {
    let huge = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 2 << 20], b"\r\n\r\n"].concat();
    let transfer = b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".as_slice();
    for wrong in [b"I am no HTTP\r\n\r\n".as_slice(), b"GET / HTTP/1.1\r\n: x\r\n\r\n", transfer] {
        let mut client = Client::connect(&connections());
        assert_eq!(client.ask(wrong).await, "400", "{}", String::from_utf8_lossy(wrong));
        assert!(client.cut().await < ms(5_000), "and it is the last one");
    }
    let Client { mut wire, .. } = Client::connect(&connections());
    // The edge stops reading long before the end.
    let (mut read, mut write) = tokio::io::split(&mut wire);
    let mut answer = [0; 12];
    let (_, got) = tokio::join!(write.write_all(&huge), read.read_exact(&mut answer));
    got.unwrap();
    assert_eq!(answer, *b"HTTP/1.1 400");
}

/// The same over h2, as if TLS had agreed on it.
fn connect_h2() -> (DuplexStream, JoinHandle<()>, watch::Sender<bool>) {
    let (wire, far_end) = duplex(64 * 1024);
    let (running, shutdown) = watch::channel(false);
    let served = tokio::spawn(async move {
        connections().serve_h2(Box::new(far_end), &shutdown).await;
    });
    (wire, served, running)
}

#[tokio::test(start_paused = true)]
async fn over_h2_a_greeting_has_its_time_and_an_idle_connection_another() {
    let (_silent, served, _running) = connect_h2();
    let start = Instant::now();
    served.await.unwrap();
    assert_eq!(start.elapsed(), ms(5_000), "it never said that it speaks h2");

    let (wire, served, _running) = connect_h2();
    let (mut send, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        sleep(ms(59_000)).await;
        let request = http::Request::get("https://test/").body(Full::new(Bytes::new())).unwrap();
        assert_eq!(send.send_request(request).await.unwrap().status(), 200);
    }
    let start = Instant::now();
    served.await.unwrap();
    assert_eq!(start.elapsed(), ms(60_000));
}

#[tokio::test(start_paused = true)]
async fn over_h2_a_body_that_is_far_too_large_does_not_cost_its_sender_the_answer() {
    let (wire, _served, _running) = connect_h2();
    let (mut send, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(wire)).await.unwrap();
    tokio::spawn(connection);
    for bytes in [1 << 20, 8 << 20, 0] {
        let body = Full::new(Bytes::from(vec![b'x'; bytes]));
        let request = http::Request::post("https://test/").body(body).unwrap();
        let answer = send.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200, "{bytes}");
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(text.as_ref(), b"ok", "{bytes}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_connection_too_many_is_closed_and_a_place_that_is_free_is_given_again() {
    let connections = connections();
    let mut first = Client::connect(&connections);
    assert_eq!(first.ask(REQUEST).await, "200");
    // It says nothing, and takes a place all the same.
    let silent = Client::connect(&connections);
    tokio::task::yield_now().await;
    assert_eq!(Client::connect(&connections).cut().await, Duration::ZERO);
    assert_eq!(silent.cut().await, ms(60_000));
    assert_eq!(Client::connect(&connections).ask(REQUEST).await, "200");
}
