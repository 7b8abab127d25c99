//! Clients that do harm, beside the steady load: slow ones, ones that vanish, and very many.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use tokio::time::{Instant, timeout};

use super::scene::{Outcome, Scene};
use crate::system::{fresh_id, payment};

/// Between two bytes of a slow client.
const DRIP_EVERY: Duration = Duration::from_millis(100);
/// `body_timeout` of the edge, and a generous while.
const SLOW_BODY_CUT_WITHIN: Duration = Duration::from_secs(6);
/// `handshake_timeout` of the edge, and a generous while.
const SLOW_HANDSHAKE_CUT_WITHIN: Duration = Duration::from_secs(10);
/// `header_timeout` of the edge, and a generous while.
const SLOW_HEADERS_CUT_WITHIN: Duration = Duration::from_secs(10);
/// Generous: what it shows is that there is an answer at all.
const NEWCOMER_ANSWERED_WITHIN: Duration = Duration::from_secs(5);
/// Files that are left for everything but the flood.
const FILES_KEPT: u64 = 1_000;

/// Slowloris: headers that never end.
pub fn slow_headers(scene: &Scene) -> Outcome {
    let opening = b"POST /v1/decisions HTTP/1.1\r\nHost: slow\r\nX-Slow: ";
    drip(scene, scene.plain(), opening, scene.is_full.then_some(SLOW_HEADERS_CUT_WITHIN))
}

/// The same a layer below: a TLS record that never ends, with a greeting in it.
pub fn slow_handshakes(scene: &Scene) -> Outcome {
    let opening = b"\x16\x03\x01\x40\x00\x01\x00\x3f\xfc\x03\x03";
    let cut_within = scene.is_full.then_some(SLOW_HANDSHAKE_CUT_WITHIN);
    drip(scene, scene.system().listen, opening, cut_within)
}

/// Bodies that never end.
pub fn slow_bodies(scene: &Scene) -> Outcome {
    drip(scene, scene.plain(), head(scene, 1000).as_bytes(), Some(SLOW_BODY_CUT_WITHIN))
}

fn head(scene: &Scene, length: usize) -> String {
    format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n",
        scene.key
    )
}

/// Opens many connections and sends a byte on each now and then; by `cut_within` the edge must have
/// ended them all.
fn drip(
    scene: &Scene,
    address: SocketAddr,
    opening: &[u8],
    cut_within: Option<Duration>,
) -> Outcome {
    let start = Instant::now();
    let mut open = Vec::new();
    for _ in 0..scene.pick(50, 200) {
        let mut stream = connect(address)?;
        stream.write_all(opening).map_err(|error| error.to_string())?;
        stream.set_nonblocking(true).map_err(|error| error.to_string())?;
        open.push(stream);
    }
    let is_over = |open: &Vec<TcpStream>| {
        let is_held = start.elapsed() >= scene.hold;
        let is_late = cut_within.is_none_or(|within| start.elapsed() >= within);
        is_held && (open.is_empty() || is_late)
    };
    while !is_over(&open) {
        std::thread::sleep(DRIP_EVERY);
        open.retain_mut(|stream| stream.write_all(b"x").is_ok() && !has_ended(stream));
    }
    match cut_within {
        Some(within) if !open.is_empty() => {
            Err(format!("{} slow clients were not cut within {within:?}", open.len()))
        }
        _ => Ok(()),
    }
}

/// Whether the edge has closed a connection that does not block.
fn has_ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 4096]) {
        Ok(bytes) => bytes == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(address).map_err(|error| format!("cannot connect: {error}"))
}

/// Clients that ask as fast as they can, and never read an answer.
pub fn never_reading(scene: &Scene) -> Outcome {
    let end = Instant::now() + scene.hold;
    let request = "GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n".repeat(16);
    let mut open = Vec::new();
    while Instant::now() < end {
        if open.len() < scene.pick(10, 40) {
            let stream = connect(scene.plain())?;
            stream.set_nonblocking(true).map_err(|error| error.to_string())?;
            open.push(stream);
        }
        // Full buffers are what this is for; one that was cut makes room for the next.
        open.retain_mut(|stream: &mut TcpStream| match stream.write(request.as_bytes()) {
            Ok(_) => true,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Streams of an h2 connection whose windows never open: the edge can not send their answers, and must
/// end them.
pub fn closed_windows(scene: &Scene) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let waiting = runtime.block_on(ask_and_take_nothing(scene));
    match waiting.map_err(|error| error.to_string())? {
        0 => Ok(()),
        some => Err(format!("{some} streams were not cut within {SLOW_BODY_CUT_WITHIN:?}")),
    }
}

/// How many streams were still open when `SLOW_BODY_CUT_WITHIN` had passed.
async fn ask_and_take_nothing(scene: &Scene<'_>) -> std::io::Result<usize> {
    let tcp = tokio::net::TcpStream::connect(scene.system().listen).await?;
    let tls = tokio_rustls::TlsConnector::from(scene.trust(b"h2"));
    let server = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    let stream = TokioIo::new(tls.connect(server, tcp).await?);
    let opened = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(0)
        .handshake::<_, Full<Bytes>>(stream)
        .await;
    let (mut send, connection) = opened.map_err(std::io::Error::other)?;
    tokio::spawn(connection);
    let mut streams = Vec::new();
    for _ in 0..scene.pick(20, 80) {
        let body = payment(&fresh_id()).to_string();
        let request = hyper::Request::post("https://localhost/v1/decisions")
            .header("authorization", format!("Bearer {}", scene.key))
            .header("content-type", "application/json")
            .body(Full::from(body))
            .map_err(std::io::Error::other)?;
        send.ready().await.map_err(std::io::Error::other)?;
        let response = send.send_request(request);
        streams.push(tokio::spawn(timeout(SLOW_BODY_CUT_WITHIN, async {
            // Cut is cut: an error, where an answer would be a window that was ignored.
            response.await?.into_body().collect().await.map(drop)
        })));
    }
    let mut waiting = 0;
    for stream in streams {
        waiting += usize::from(stream.await.map_err(std::io::Error::other)?.is_err());
    }
    Ok(waiting)
}

/// Clients that go away: at once, in the headers, in the body, and before the answer.
pub fn vanishing(scene: &Scene) -> Outcome {
    let end = Instant::now() + scene.hold;
    let mut number = 0;
    while Instant::now() < end {
        let body = payment(&fresh_id()).to_string();
        let whole = head(scene, body.len()) + &body;
        let sent = [0, whole.len() / 3, whole.len() - body.len() / 2, whole.len()][number % 4];
        let mut stream = connect(scene.plain())?;
        // The edge may have gone first.
        let _ = stream.write_all(&whole.as_bytes()[..sent]);
        drop(stream);
        number += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// As many connections as the edge allows for, all at once, that ask for nothing.
pub fn flood(scene: &Scene) -> Outcome {
    let wanted = scene.pick(2_000, 10_000);
    let allowed = raise_files().map_err(|error| error.to_string())?;
    let count = std::cmp::min(wanted, allowed);
    let start = Instant::now();
    let mut open = Vec::with_capacity(count);
    // One that is not taken at once would wait for the kernel to try again.
    while open.len() < count && start.elapsed() < scene.hold {
        open.push(connect(scene.plain())?);
    }
    let newcomer = newcomer(scene);
    std::thread::sleep(scene.hold.saturating_sub(start.elapsed()));
    // The long form takes all that there are; whoever comes then is turned away.
    if !scene.is_full {
        newcomer?;
    }
    if open.len() * 2 > wanted { Ok(()) } else { Err(format!("only {} connections", open.len())) }
}

/// A merchant that was not connected yet finds a place.
fn newcomer(scene: &Scene) -> Outcome {
    let said = |error: std::io::Error| format!("a newcomer was not answered: {error}");
    let body = payment(&fresh_id()).to_string();
    let mut stream = connect(scene.plain())?;
    stream.set_read_timeout(Some(NEWCOMER_ANSWERED_WITHIN)).map_err(said)?;
    stream.write_all((head(scene, body.len()) + &body).as_bytes()).map_err(said)?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).map_err(said)?;
    if answer == *b"HTTP/1.1 200" { Ok(()) } else { Err("a newcomer was refused".to_owned()) }
}

/// Raises the limit on open files as far as this process may; how many the flood may have of them.
fn raise_files() -> nix::Result<usize> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard.saturating_sub(FILES_KEPT)).unwrap_or(usize::MAX))
}
