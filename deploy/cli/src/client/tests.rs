//! The client against a server behind TLS, and what it says when a file is not as it must be.

use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::http::request::Parts;
use hyper::service::service_fn;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// What a server makes of a request; without an answer it hangs up.
type Answers = fn(&Parts, &[u8]) -> Option<(StatusCode, String)>;

/// A server behind TLS, and the directory that leads to it.
pub struct Server {
    /// With the addresses, the certificate authority and both keys.
    pub dir: tempfile::TempDir,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Echoes key, budget and body; a body of `hang up` ends the connection instead.
    async fn start() -> Self {
        Self::with(echo).await
    }

    /// Answers so.
    pub async fn with(answers: Answers) -> Self {
        let authority_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, authority_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let run = format!(r#"{{"pid":1,"listen":"{}"}}"#, listener.local_addr().unwrap());
        std::fs::write(layout.run_json(), run).unwrap();
        std::fs::write(layout.ca(), authority.pem()).unwrap();
        std::fs::write(layout.merchant_key(), "secret-0\n").unwrap();
        std::fs::write(layout.test_merchant_key(), "secret-1\n").unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let tls = TlsAcceptor::from(Arc::new(config));
        tokio::spawn(serve(listener, tls, connections.clone(), answers));
        Self { dir, connections }
    }

    fn client(&self) -> Client {
        Client::new(&Layout::new(self.dir.path()), Key::Test).unwrap()
    }
}

async fn serve(
    listener: TcpListener,
    tls: TlsAcceptor,
    connections: Arc<AtomicUsize>,
    answers: Answers,
) {
    while let Ok((stream, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::Relaxed);
        let tls = tls.clone();
        tokio::spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(move |request: Request<Incoming>| async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (status, body) =
                    answers(&head, &body).ok_or_else(|| std::io::Error::other("as asked"))?;
                let mut response = Response::new(Full::new(Bytes::from(body)));
                *response.status_mut() = status;
                Ok::<_, std::io::Error>(response)
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn echo(head: &Parts, body: &[u8]) -> Option<(StatusCode, String)> {
    let text = |name: &str| {
        let value = head.headers.get(name);
        value.map_or("-", |value| value.to_str().unwrap()).to_owned()
    };
    let shown = format!("{} {} {}", head.uri, text("authorization"), text(header::BUDGET));
    (body != b"hang up")
        .then(|| (StatusCode::OK, format!("{shown} {}", String::from_utf8_lossy(body))))
}

#[tokio::test]
async fn calls_share_one_connection_and_carry_key_and_budget() {
    let server = Server::start().await;
    let mut connection = server.client().open().await.unwrap();
    let budget = Some(HeaderValue::from_static("250"));
    for (body, budget, expected) in [
        ("one", None, "/v1/decisions Bearer secret-1 - one"),
        ("two", budget, "/v1/decisions Bearer secret-1 250 two"),
    ] {
        let call = Call { budget, ..Call::decision(Bytes::from_static(body.as_bytes())) };
        let answer = connection.exchange(&call).await.unwrap();
        assert_eq!((answer.status, answer.body), (StatusCode::OK, Bytes::from(expected)));
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_midway_says_so_and_sends_no_more() {
    let server = Server::start().await;
    let mut connection = server.client().open().await.unwrap();
    let call = Call::decision(Bytes::from_static(b"hang up"));
    assert!(matches!(connection.exchange(&call).await, Err(Broken::Midway)));
    assert!(!connection.is_open());
    assert!(matches!(connection.exchange(&call).await, Err(Broken::NeverSent)));
}

#[tokio::test]
async fn another_authority_is_not_trusted() {
    let (server, other) = (Server::start().await, Server::start().await);
    let layout = Layout::new(server.dir.path());
    std::fs::copy(Layout::new(other.dir.path()).ca(), layout.ca()).unwrap();
    assert!(matches!(server.client().open().await, Err(ClientError::Connect { .. })));
}

#[test]
fn what_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let said = || Client::new(&layout, Key::Test).err().map(|error| error.to_string()).unwrap();
    assert!(said().contains("run.json") && said().contains("backstop up"), "{}", said());
    std::fs::write(layout.run_json(), r#"{"listen":"somewhere"}"#).unwrap();
    assert!(said().contains("127.0.0.1:8443"), "{}", said());
    std::fs::write(layout.run_json(), r#"{"listen":"0.0.0.0:1"}"#).unwrap();
    assert!(said().contains("test-merchant.key"), "{}", said());
    std::fs::write(layout.test_merchant_key(), "two\nlines").unwrap();
    assert!(said().contains("holds no key"), "{}", said());
    std::fs::write(layout.test_merchant_key(), "secret-1").unwrap();
    std::fs::write(layout.ca(), "nothing").unwrap();
    assert!(said().contains("ca.pem"), "{}", said());
}
