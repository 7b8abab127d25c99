//! Two edges: one that leaves, over streams in memory, and its successor behind a real Unix socket.

use http::header::HeaderValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use backstop_settings::Edge;

use super::*;
use crate::http::{Answer, Caps, Incoming, Routes, Serve};

/// Says who it is, and what it was told.
struct Named(&'static str);

impl Routes for Named {
    async fn answer(&self, incoming: &mut Incoming<'_>) -> Option<Answer> {
        let said = incoming.header("x-said").unwrap_or("nothing").to_owned();
        let (target, query) = (incoming.path().to_owned(), incoming.query().map(str::to_owned));
        incoming.body().await.ok()?;
        let query = query.unwrap_or_default();
        let words = format!("{} heard {said}, {target}?{query}, to its end", self.0);
        Some(Answer::new(200, "text/plain", words).with("x-name", self.0))
    }
}

fn edge(name: &'static str, gate: &Arc<Gate>, successor: Option<Successor>) -> Connected {
    let caps = Caps {
        body_bytes_max: 65_536,
        drain_bytes_max: 2_097_152,
        body_timeout: Duration::from_secs(2),
        header_timeout: Duration::from_secs(5),
    };
    let serve = Serve::new(Named(name), caps, gate.clone(), successor);
    Arc::new(Connections::new(Arc::new(serve), None, Terms::new(&Edge::default())))
}

type Connected = Arc<Connections<Serve<Named>>>;

/// An edge that leaves, and a successor that takes up what it passes on from `serve` on.
struct Pair {
    before: Connected,
    gate: Arc<Gate>,
    after: Connected,
    listener: Option<UnixListener>,
    _leaving: watch::Sender<bool>,
    leaving: ShutdownWatch,
    _folder: tempfile::TempDir,
}

fn pair() -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("proxy.sock");
    let listener = Some(bind(&socket).unwrap());
    let gate = Arc::new(Gate::default());
    let successor = Successor::new(socket, Duration::from_mins(1)).unwrap();
    let (sender, leaving) = watch::channel(false);
    Pair {
        before: edge("before", &gate, Some(successor)),
        gate,
        after: edge("after", &Arc::default(), None),
        listener,
        _leaving: sender,
        leaving,
        _folder: folder,
    }
}

impl Pair {
    fn serve(&mut self) {
        use pingora::services::Service as _;
        let listener = self.listener.take().unwrap();
        let mut door = BackDoor::new(listener, self.after.clone(), self.leaving.clone());
        let shutdown = self.leaving.clone();
        tokio::spawn(async move { door.start_service(None, shutdown, 1).await });
    }

    fn connect(&self) -> DuplexStream {
        let (wire, far_end) = duplex(64 * 1024);
        let (before, leaving) = (self.before.clone(), self.leaving.clone());
        tokio::spawn(async move { before.process_new(Box::new(far_end), &leaving).await });
        wire
    }
}

const HEAD: &str =
    "POST /a/b?c=d HTTP/1.1\r\nHost: test\r\nX-Said: hello\r\nContent-Length: 4\r\n\r\n";

/// The next answer, whose body ends so.
async fn answer(wire: &mut DuplexStream, end: &str) -> String {
    let mut text = String::new();
    while !text.ends_with(end) {
        let mut bytes = [0; 1024];
        let read = wire.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed after: {text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    text.to_ascii_lowercase()
}

#[tokio::test]
async fn what_arrives_after_the_handover_is_answered_by_the_successor_and_told_to_go_there() {
    let mut pair = pair();
    let mut wire = pair.connect();
    wire.write_all(format!("{HEAD}body").as_bytes()).await.unwrap();
    let first = answer(&mut wire, "to its end").await;
    assert!(first.ends_with("before heard hello, /a/b?c=d, to its end"), "{first}");
    assert!(!first.contains("connection: close"), "{first}");

    pair.gate.close();
    pair.gate.is_empty().await;
    wire.write_all(format!("{HEAD}body").as_bytes()).await.unwrap();
    // It waits for a successor that reads a long book.
    tokio::time::sleep(Duration::from_millis(20)).await;
    pair.serve();
    let second = answer(&mut wire, "to its end").await;
    assert!(second.starts_with("http/1.1 200"), "{second}");
    assert!(second.ends_with("after heard hello, /a/b?c=d, to its end"), "{second}");
    for header in ["connection: close\r\n", "x-name: after\r\n", "content-type: text/plain\r\n"] {
        assert!(second.contains(header), "{header} in {second}");
    }
    let mut rest = Vec::new();
    assert_eq!(wire.read_to_end(&mut rest).await.unwrap(), 0, "and the connection is closed");
}

/// A client that sends its head and thinks for two seconds about the body would have held up everybody
/// else: nobody may take the book while a request is under way.
#[tokio::test]
async fn a_slow_body_holds_nobody_up_and_is_the_successors() {
    let mut pair = pair();
    pair.serve();
    let mut wire = pair.connect();
    wire.write_all(format!("{HEAD}bo").as_bytes()).await.unwrap();
    tokio::task::yield_now().await;
    pair.gate.close();
    timeout(Duration::from_secs(1), pair.gate.is_empty()).await.expect("it is not under way");
    wire.write_all(b"dy").await.unwrap();
    let text = answer(&mut wire, "to its end").await;
    assert!(text.ends_with("after heard hello, /a/b?c=d, to its end"), "{text}");
}

#[tokio::test]
async fn the_gate_is_empty_when_the_last_has_left_and_lets_none_in_once_closed() {
    let gate = Gate::default();
    gate.is_empty().await;
    let first = gate.enter().unwrap();
    let second = gate.enter().unwrap();
    gate.close();
    assert!(gate.enter().is_none());
    let third = gate.hold();
    let is_empty = gate.is_empty();
    tokio::pin!(is_empty);
    for left in [first, second, third] {
        let early = timeout(Duration::from_millis(1), &mut is_empty).await;
        assert!(early.is_err());
        drop(left);
    }
    is_empty.await;
    assert!(gate.enter().is_none());
}

#[test]
fn a_request_of_h2_is_passed_on_in_http_1_without_what_only_its_connection_knows() {
    let (mut head, ()) = Request::get("https://pay.test/v1/x?y=z").body(()).unwrap().into_parts();
    for name in ["te", "connection", "content-length", "expect", "authorization"] {
        head.headers.insert(name, HeaderValue::from_static("x"));
    }
    let request = request(&head, Bytes::new()).unwrap();
    assert_eq!(request.uri(), "/v1/x?y=z");
    let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["authorization", "host"]);
    assert_eq!(request.headers()[HOST], "pay.test");
}
