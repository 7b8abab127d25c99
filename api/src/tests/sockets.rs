//! Over real sockets, in real time: what no memory stream can show.

use std::net::SocketAddr;

use backstop_settings::Token;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::config::Network;

/// Sends one request to the api's own socket.
async fn ask(layout: &Layout, request: http::Request<Body>) -> (u16, Value) {
    let stream = UnixStream::connect(layout.socket("api", "prod")).await.unwrap();
    send(TokioIo::new(stream), request).await
}

/// Sends one request; the status, and the body if it is JSON.
async fn send<S>(stream: TokioIo<S>, request: http::Request<Body>) -> (u16, Value)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = to_bytes(Body::new(body), usize::MAX).await.unwrap();
    (head.status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn decide(layout: &Layout, id: &str) -> (Value, Value) {
    let mut question = question(&request(id, "payment"));
    // Here time is real, and core may take its time on a busy machine: it is about who answers.
    question.headers_mut().insert(header::BUDGET, "5000".parse().unwrap());
    let (status, json) = ask(layout, question).await;
    assert_eq!(status, 200, "{json}");
    (json["decided_by"].clone(), json["cause"].clone())
}

#[tokio::test]
async fn a_core_comes_goes_and_comes_back_and_every_request_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let api = crate::start(config(layout.clone())).unwrap();
    let (core, alone) = ((json!("core"), Value::Null), (json!("api"), json!("unavailable")));
    let socket = layout.socket("core", "prod");

    assert_eq!(decide(&layout, "before").await, alone, "no socket at all");
    let first = FalseCore::new();
    first.listen(&socket);
    assert_eq!(decide(&layout, "first").await, core);
    first.set(Manner::Dies);
    assert_eq!(decide(&layout, "dying").await, alone, "it hung up in the call");
    assert_eq!(decide(&layout, "dead").await, alone, "it takes no connection");
    std::fs::remove_file(&socket).unwrap();
    let second = FalseCore::new();
    second.listen(&socket);
    assert_eq!(decide(&layout, "second").await, core, "it is connected to anew");

    api.stop().await;
    let refused = UnixStream::connect(layout.socket("api", "prod")).await;
    assert!(refused.is_err(), "stopped, it takes no more");
}

#[tokio::test]
async fn on_an_address_only_who_shows_the_token_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    let token = Token::new("bsh_0123456789abcdef").unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let network = Some(Network { listen, token: token.clone() });
    let api = crate::start(Config { network, ..config(layout.clone()) }).unwrap();
    let address = api.address().unwrap();
    let ask = |mut request: http::Request<Body>, shown: Option<&str>| {
        let shown = shown.map(|shown| shown.parse().unwrap());
        shown.map(|shown| request.headers_mut().insert("authorization", shown));
        async move {
            let stream = TcpStream::connect(address).await.unwrap();
            send(TokioIo::new(stream), request).await
        }
    };
    let decide = || question(&request("txn-1", "payment"));
    let health = || http::Request::get("/healthz").body(Body::empty()).unwrap();
    for wrong in [None, Some("Bearer bsh_0123456789abcdee"), Some("bsh_0123456789abcdef")] {
        assert_eq!(ask(decide(), wrong).await.0, 401, "{wrong:?}");
        assert_eq!(ask(health(), wrong).await.0, 401, "{wrong:?}");
    }
    let bearer = token.bearer();
    let (status, answer) = ask(decide(), Some(bearer.expose())).await;
    assert_eq!((status, &answer["decided_by"]), (200, &json!("api")), "{answer}");
    assert_eq!(ask(health(), Some(bearer.expose())).await.0, 200);

    // Whoever may open the socket needs no token.
    let stream = UnixStream::connect(layout.socket("api", "prod")).await.unwrap();
    assert_eq!(send(TokioIo::new(stream), health()).await.0, 200);

    api.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "stopped, it takes no more");
}

#[tokio::test]
async fn a_stale_socket_makes_room_and_nobody_else_may_enter() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    // Never stopped: its socket stays behind, as after SIGKILL.
    drop(crate::start(config(layout.clone())).unwrap());
    assert!(layout.socket("api", "prod").exists());
    let api = crate::start(config(layout.clone())).unwrap();
    let health = http::Request::get("/healthz").body(Body::empty()).unwrap();
    assert_eq!(ask(&layout, health).await.0, 200);
    let mode = std::fs::metadata(layout.run()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    api.stop().await;
}
