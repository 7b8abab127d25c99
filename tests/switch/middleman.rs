//! Stands between the edge and a real api, and makes of a healthy stack a bad one while it serves.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;

/// What it does to requests for decisions, and for rehearsals.
#[derive(Default)]
pub struct Ways {
    /// They wait so long.
    pub delay_ms: AtomicU64,
    /// So many of a thousand are answered 500.
    pub errors_permille: AtomicU64,
    /// Every approval becomes a decline.
    pub declines: AtomicBool,
    seen: AtomicU64,
}

impl Ways {
    /// Whether this one is to be answered 500: evenly, so that as many are as are asked for.
    fn fails(&self) -> bool {
        let permille = self.errors_permille.load(Ordering::Relaxed);
        self.seen.fetch_add(permille, Ordering::Relaxed) % 1_000 + permille >= 1_000
    }
}

/// Passes everything on until it is dropped.
pub struct Middleman {
    pub ways: Arc<Ways>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Middleman {
    /// Listens on `socket`, and passes on to the api that listens, sooner or later, on `api`.
    pub fn start(socket: &Path, api: &Path) -> Self {
        let ways = Arc::new(Ways::default());
        let (stop, stopped) = oneshot::channel();
        let (serves, socket, api) = (ways.clone(), socket.to_owned(), api.to_owned());
        let listens = socket.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                tokio::select! {
                    () = listen(&socket, api, serves) => {}
                    _ = stopped => {}
                }
            });
        });
        crate::system::until("the middleman listens", || listens.exists().then_some(()));
        Self { ways, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Middleman {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn listen(socket: &Path, api: PathBuf, ways: Arc<Ways>) {
    let listener = UnixListener::bind(socket).unwrap();
    while let Ok((edge, _)) = listener.accept().await {
        let (api, ways) = (api.clone(), ways.clone());
        // Whichever side goes first, the other is hung up on.
        tokio::spawn(async move { converse(edge, &api, &ways).await.unwrap_or(()) });
    }
}

async fn converse(mut edge: UnixStream, api: &Path, ways: &Ways) -> io::Result<()> {
    let mut api = UnixStream::connect(api).await?;
    while let Some(request) = message(&mut edge).await? {
        let is_asked = [&b"POST /v1/decisions "[..], b"POST /v1/rehearsals "]
            .iter()
            .any(|it| request.starts_with(it));
        if is_asked {
            tokio::time::sleep(Duration::from_millis(ways.delay_ms.load(Ordering::Relaxed))).await;
            if ways.fails() {
                edge.write_all(b"HTTP/1.1 500 Said\r\nContent-Length: 2\r\n\r\n{}").await?;
                continue;
            }
        }
        api.write_all(&request).await?;
        let Some(mut answer) = message(&mut api).await? else { break };
        if is_asked && ways.declines.load(Ordering::Relaxed) {
            let text = String::from_utf8_lossy(&answer);
            answer = text.replace(r#""decision":"approve""#, r#""decision":"decline""#).into();
        }
        edge.write_all(&answer).await?;
    }
    Ok(())
}

/// One request or answer, whole; `None` when the other side has closed.
async fn message(from: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
    let mut read = Vec::with_capacity(4_096);
    loop {
        if let Some(head) = read.windows(4).position(|it| it == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&read[..head]).to_ascii_lowercase();
            let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
            if read.len() >= head + 4 + length {
                return Ok(Some(read));
            }
        }
        if from.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    }
}
