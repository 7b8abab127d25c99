//! An api on a real socket that decides, lies, says nothing, or is gone.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite,
    AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::task::JoinSet;

use backstop_settings::Address;

/// How long a slow one takes: within every budget here.
const SLOW: Duration = Duration::from_millis(50);

/// Connections that nobody has accepted yet.
const BACKLOG: u32 = 128;

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Decides, and says that it is well.
    Well,
    /// The same, after a while.
    Slow,
    /// Answers what is no HTTP.
    Garbage,
    /// Takes every request, and answers none.
    Silent,
    /// Its process is dead: nothing listens, and every connection is broken.
    Gone,
}

/// One api. It ends with the test.
pub struct FalseApi {
    address: Address,
    seen: Arc<Seen>,
    door: tokio::sync::Mutex<Door>,
}

/// Where it listens, or would.
#[derive(Default)]
struct Door {
    /// The task that listens, which holds those of its connections.
    listening: JoinSet<()>,
    /// While it is gone: bound and no more, so that nobody else is given its port.
    closed: Option<TcpSocket>,
}

struct Seen {
    manner: Mutex<Manner>,
    decisions: AtomicUsize,
    authorization: Mutex<Option<String>>,
}

impl FalseApi {
    /// One on a port of its own.
    pub async fn start() -> Self {
        let socket = bound("127.0.0.1:0");
        let api = Self::new(Address::Host(socket.local_addr().unwrap().to_string()));
        let listener = socket.listen(BACKLOG).unwrap();
        api.door.lock().await.listening.spawn(accept(listener, api.seen.clone()));
        api
    }

    /// One on a Unix socket.
    pub fn start_at(socket: PathBuf) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let mut api = Self::new(Address::Socket(socket));
        let seen = api.seen.clone();
        api.door.get_mut().listening.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(converse(stream, seen.clone()));
            }
        });
        api
    }

    fn new(address: Address) -> Self {
        let (manner, authorization) = (Mutex::new(Manner::Well), Mutex::new(None));
        let seen = Seen { manner, decisions: AtomicUsize::new(0), authorization };
        Self { address, seen: Arc::new(seen), door: tokio::sync::Mutex::default() }
    }

    pub fn address(&self) -> Address {
        self.address.clone()
    }

    /// Changes what it does, from now on; what was asked before stays unanswered.
    pub async fn set(&self, manner: Manner) {
        *self.seen.manner.lock().unwrap() = manner;
        let mut door = self.door.lock().await;
        // Before the one before it lets go of the port.
        let socket = bound(&self.address.to_string());
        door.listening.shutdown().await;
        door.closed = if manner == Manner::Gone {
            Some(socket)
        } else {
            let listener = socket.listen(BACKLOG).unwrap();
            door.listening.spawn(accept(listener, self.seen.clone()));
            None
        };
    }

    /// How many requests it has decided.
    pub fn decisions(&self) -> usize {
        self.seen.decisions.load(Ordering::Relaxed)
    }

    /// What the last request said in `Authorization`.
    pub fn authorization(&self) -> Option<String> {
        self.seen.authorization.lock().unwrap().clone()
    }
}

/// A socket that is bound and does not listen yet; others of this process may be bound to the same port.
fn bound(address: &str) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address.parse().unwrap()).unwrap();
    socket
}

async fn accept(listener: TcpListener, seen: Arc<Seen>) {
    let mut open = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        open.spawn(converse(stream, seen.clone()));
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, seen: Arc<Seen>) {
    let mut stream = BufReader::new(stream);
    while let Some(decides) = take_request(&mut stream, &seen).await {
        let manner = *seen.manner.lock().unwrap();
        let answer = match manner {
            Manner::Well | Manner::Slow if decides => {
                if manner == Manner::Slow {
                    tokio::time::sleep(SLOW).await;
                }
                seen.decisions.fetch_add(1, Ordering::Relaxed);
                let body = serde_json::to_string(&super::decision("txn-1")).unwrap();
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            }
            Manner::Well | Manner::Slow => {
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n".to_owned()
            }
            Manner::Garbage => "I am no HTTP\r\n\r\n".to_owned(),
            Manner::Silent | Manner::Gone => return std::future::pending().await,
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads one request; whether it is one for a decision. `None` when the connection ended.
async fn take_request(stream: &mut (impl AsyncBufRead + Unpin), seen: &Seen) -> Option<bool> {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        stream.read_line(&mut head).await.ok().filter(|read| *read > 0)?;
        let line = head[start..].trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(bytes) = line.strip_prefix("content-length: ") {
            length = bytes.parse().unwrap();
        }
    }
    stream.read_exact(&mut vec![0; length]).await.ok()?;
    let sent = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("authorization").then(|| value.to_owned())
    });
    *seen.authorization.lock().unwrap() = sent;
    Some(head.starts_with("POST /v1/decisions "))
}
