//! A false api in place of the real one: it takes the edge's requests, and answers with lies.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// One lie: what is sent for the request with this id, how, and what comes then.
#[derive(Clone, Copy)]
pub struct Lie {
    pub says: fn(&str) -> Cow<'static, [u8]>,
    /// Sent a byte at a time, with this pause; all at once where it is zero.
    pub pause: Duration,
    pub then: Then,
}

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is closed.
    Close,
    /// It takes the next request.
    Keep,
    /// Nothing more, ever.
    Silence,
}

const ONCE: Lie = Lie { says: |_| Cow::Borrowed(b""), pause: Duration::ZERO, then: Then::Close };

pub const DRIPS: Lie = Lie { says: truth, pause: Duration::from_millis(20), ..ONCE };
pub const NEVER_ANSWERS: Lie = Lie { then: Then::Silence, ..ONCE };
pub const HANGS_UP: Lie = ONCE;
pub const GARBAGE: Lie =
    Lie { says: |_| b"\x00\xff(%&/ no HTTP at all\r\n\r\n".repeat(20).into(), ..ONCE };
pub const NO_DECISION: Lie =
    Lie { says: |_| http(200, b"{\"decision\":\"appr"), then: Then::Keep, ..ONCE };
pub const ANOTHER_ID: Lie = Lie { says: |_| truth("another"), then: Then::Keep, ..ONCE };
pub const TRUNCATED: Lie = Lie { says: |id| half(&truth(id)), ..ONCE };
pub const TEN_MEGABYTES: Lie = Lie { says: |_| Cow::Borrowed(&BIG), ..ONCE };
pub const REFUSES: Lie = Lie { says: |_| http(503, b"{}"), then: Then::Keep, ..ONCE };
/// No lie: what the others are measured against.
pub const HONEST: Lie = Lie { says: truth, then: Then::Keep, ..ONCE };

/// Made once: to make it each time would keep a machine busy that has others to serve.
static BIG: LazyLock<Vec<u8>> = LazyLock::new(|| http(200, &vec![b' '; 10 << 20]).into_owned());

fn half(whole: &[u8]) -> Cow<'static, [u8]> {
    whole[..whole.len() - 100].to_vec().into()
}

fn http(status: u16, body: &[u8]) -> Cow<'static, [u8]> {
    let head = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat().into()
}

/// A decision as a true api would send it.
fn truth(id: &str) -> Cow<'static, [u8]> {
    let decision = json!({
        "id": id, "decision": "approve", "reasons": [], "score": 0, "decided_by": "core",
        "cause": null, "final": true, "durable": true, "stack": "prod",
        "policy_version": "000000000000", "effects": { "stock": {}, "balance": {} },
        "budget_ms": 240, "elapsed_ms": 1.0, "decided_at": "2026-11-22T00:00:00Z",
    });
    http(200, decision.to_string().as_bytes())
}

/// Listens until it is dropped.
pub struct FalseApi {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FalseApi {
    /// Answers everything on `socket` with this lie.
    pub fn lying(socket: &Path, lie: Lie) -> Self {
        Self::start(socket, move |socket| async move {
            let listener = UnixListener::bind(socket).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                // A client that walks away ends its conversation.
                tokio::spawn(async move { converse(stream, lie).await.unwrap_or(()) });
            }
        })
    }

    /// Accepts nobody, with a queue that is full.
    pub fn with_full_backlog(socket: &Path) -> Self {
        Self::start(socket, move |path| async move {
            let socket = UnixSocket::new_stream().unwrap();
            socket.bind(&path).unwrap();
            let _listener = socket.listen(1).unwrap();
            let mut queued = Vec::new();
            while let Ok(stream) = UnixStream::connect(&path).await {
                queued.push(stream);
            }
            std::future::pending::<()>().await;
        })
    }

    fn start<F: Future<Output = ()>>(
        socket: &Path,
        listen: impl FnOnce(std::path::PathBuf) -> F + Send + 'static,
    ) -> Self {
        let path = socket.to_owned();
        let _none_before = std::fs::remove_file(&path);
        let (stop, stopped) = oneshot::channel();
        let listens = path.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = listen(path.clone()) => {}
                    _ = stopped => {}
                }
            });
            let _ = std::fs::remove_file(&path);
        });
        crate::system::until("the false api listens", || listens.exists().then_some(()));
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for FalseApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn converse(mut stream: UnixStream, lie: Lie) -> std::io::Result<()> {
    while let Some(id) = next_request(&mut stream).await? {
        let bytes = (lie.says)(&id);
        if lie.pause.is_zero() {
            stream.write_all(&bytes).await?;
        } else {
            for byte in bytes.iter() {
                stream.write_all(&[*byte]).await?;
                sleep(lie.pause).await;
            }
        }
        match lie.then {
            Then::Close => break,
            Then::Keep => {}
            Then::Silence => std::future::pending().await,
        }
    }
    Ok(())
}

/// Reads one request to its end; the id in its body.
async fn next_request(stream: &mut UnixStream) -> std::io::Result<Option<String>> {
    let mut read = Vec::new();
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&read);
        let Some((_head, body)) = text.split_once("\r\n\r\n") else { continue };
        // The edge's bodies are whole JSON documents: one that can be read has come to its end.
        if let Ok(body) = serde_json::from_str::<Value>(body) {
            return Ok(Some(body["id"].as_str().unwrap_or_default().to_owned()));
        }
    }
}
