//! The way to the edge, as a merchant's own software would take it: HTTPS, keep-alive, the
//! directory's certificate authority trusted and nothing else.
//!
//! A load generator shares the machine with what it measures, so a call costs as little as it can:
//! addresses, names and headers are made once, and a body is a handle to bytes made before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::header;
use backstop_contract::reconciliation::ANSWER_BYTES_MAX;
use backstop_settings::Layout;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest a connection may take to open, TLS included.
const OPEN_TIME_MAX: Duration = Duration::from_secs(5);

/// What keeps a command from talking to the edge.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No addresses: nothing runs in this directory.
    #[error("nothing runs here: cannot read {}; start it with `backstop up`", .path.display())]
    Addresses {
        /// `run.json`.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file of addresses does not say where the edge listens.
    #[error("{} names no address to talk to; expected \"listen\":\"127.0.0.1:8443\"", .0.display())]
    Listen(PathBuf),
    /// The key could not be read.
    #[error("cannot read the key {}", .path.display())]
    Key {
        /// The file of the key.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The key cannot be sent in a header.
    #[error("{} holds no key: one line of letters, digits and dashes was expected", .0.display())]
    KeyShape(PathBuf),
    /// The certificate authority could not be read.
    #[error("{} is no certificate to trust: {why}", .path.display())]
    Trust {
        /// `ca.pem`.
        path: PathBuf,
        /// What the parser says.
        why: String,
    },
    /// The connection could not be opened.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// Where to.
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The connection was not open in time.
    #[error("no connection to {0} within {OPEN_TIME_MAX:?}")]
    ConnectTimedOut(SocketAddr),
    /// The other side does not speak HTTP.
    #[error("no HTTP at {address}: {source}")]
    Handshake {
        /// Where to.
        address: SocketAddr,
        #[source]
        source: hyper::Error,
    },
}

/// Which merchant asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// That of `merchant.key`.
    Live,
    /// That of `test-merchant.key`: it may send the past, and force a tier.
    Test,
    /// That of the key in this file.
    File(PathBuf),
}

impl Key {
    fn path(self, layout: &Layout) -> PathBuf {
        match self {
            Self::Live => layout.merchant_key(),
            Self::Test => layout.test_merchant_key(),
            Self::File(path) => path,
        }
    }
}

/// One thing to send: ready-made, cheap to send again.
#[derive(Clone, Debug)]
pub struct Call {
    /// What to do there.
    pub method: Method,
    /// Where to.
    pub path: Uri,
    /// The body.
    pub body: Bytes,
    /// What the body is, where it is not JSON.
    pub media: Option<HeaderValue>,
    /// A budget shorter than the merchant's own.
    pub budget: Option<HeaderValue>,
}

impl Call {
    /// Asks for a decision on the request in `body`.
    pub fn decision(body: Bytes) -> Self {
        Self::post(Uri::from_static("/v1/decisions"), body)
    }

    /// Sends a JSON body.
    pub fn post(path: Uri, body: Bytes) -> Self {
        Self { method: Method::POST, path, body, media: None, budget: None }
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

/// Why no answer came back.
#[derive(Debug)]
pub enum Broken {
    /// The connection had gone before anything was written: sending it again repeats nothing.
    NeverSent,
    /// It went wrong later; the request may or may not have arrived.
    Midway,
}

/// Opens connections to one edge with one key.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: TlsConnector,
    headers: HeaderMap,
}

impl Client {
    /// A client of the system that runs in this directory.
    pub fn new(layout: &Layout, key: Key) -> Result<Self, ClientError> {
        let address = listen_address(&layout.run_json())?;
        let key_path = key.path(layout);
        let text = std::fs::read_to_string(&key_path)
            .map_err(|source| ClientError::Key { path: key_path.clone(), source })?;
        let headers =
            headers(address, text.trim()).ok_or_else(|| ClientError::KeyShape(key_path))?;
        let tls = trusting(&layout.ca())?;
        let name = ServerName::IpAddress(address.ip().into());
        Ok(Self { shared: Arc::new(Shared { address, name, tls, headers }) })
    }

    /// Opens one connection.
    pub async fn open(&self) -> Result<Connection, ClientError> {
        let address = self.shared.address;
        timeout(OPEN_TIME_MAX, self.open_slowly())
            .await
            .unwrap_or(Err(ClientError::ConnectTimedOut(address)))
    }

    async fn open_slowly(&self) -> Result<Connection, ClientError> {
        let address = self.shared.address;
        let connect = |source| ClientError::Connect { address, source };
        let plain = TcpStream::connect(address).await.map_err(connect)?;
        // Without it a small request waits for the acknowledgement of the one before.
        plain.set_nodelay(true).map_err(connect)?;
        let name = self.shared.name.clone();
        let stream = self.shared.tls.connect(name, plain).await.map_err(connect)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| ClientError::Handshake { address, source })?;
        // Its error reaches whoever waits for an answer on this connection.
        let driver = tokio::spawn(async move { drop(driver.await) });
        Ok(Connection { sender, driver, client: self.clone() })
    }
}

/// One open connection; it carries one call at a time. Dropped, it is closed at once.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    client: Client,
}

impl Connection {
    /// Whether the other side has not hung up, as far as is known here.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends one call, and waits for the whole answer, however long it takes.
    pub async fn exchange(&mut self, call: &Call) -> Result<Answer, Broken> {
        if self.sender.ready().await.is_err() {
            return Err(Broken::NeverSent);
        }
        match self.sender.try_send_request(self.request(call)).await {
            Ok(response) => read_whole(response).await,
            // One that is given back has never left this process.
            Err(mut refused) => match refused.take_message() {
                Some(_unsent) => Err(Broken::NeverSent),
                None => Err(Broken::Midway),
            },
        }
    }

    fn request(&self, call: &Call) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = call.path.clone();
        let mut headers = self.client.shared.headers.clone();
        if let Some(media) = &call.media {
            headers.insert(CONTENT_TYPE, media.clone());
        }
        if let Some(budget) = &call.budget {
            headers.insert(header::BUDGET, budget.clone());
        }
        *request.headers_mut() = headers;
        request
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

async fn read_whole(response: Response<Incoming>) -> Result<Answer, Broken> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX)
        .collect()
        .await
        .map_err(|_cut_short| Broken::Midway)?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// Where the edge listens. An address that means "everywhere" is reached on loopback.
fn listen_address(run_json: &Path) -> Result<SocketAddr, ClientError> {
    /// The one field that a client needs.
    #[derive(Deserialize)]
    struct Addresses {
        listen: SocketAddr,
    }
    let text = std::fs::read(run_json)
        .map_err(|source| ClientError::Addresses { path: run_json.to_owned(), source })?;
    let addresses: Addresses = serde_json::from_slice(&text)
        .map_err(|_other_shape| ClientError::Listen(run_json.to_owned()))?;
    let mut address = addresses.listen;
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Ok(address)
}

/// The headers of every call; `None` when the key is no header value.
fn headers(address: SocketAddr, key: &str) -> Option<HeaderMap> {
    if key.is_empty() {
        return None;
    }
    let mut bearer = HeaderValue::try_from(format!("Bearer {key}")).ok()?;
    bearer.set_sensitive(true);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(HOST, HeaderValue::try_from(address.to_string()).ok()?);
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Some(headers)
}

/// TLS that trusts the authorities in this file, and nothing else.
fn trusting(path: &Path) -> Result<TlsConnector, ClientError> {
    let refused = |why: String| ClientError::Trust { path: path.to_owned(), why };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(path).map_err(|error| refused(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| refused(error.to_string()))?;
        roots.add(certificate).map_err(|error| refused(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(refused("there is none in it".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
pub mod tests;
