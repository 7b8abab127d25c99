//! One HTTP/1 exchange with a process of the running system, on its Unix socket or its port.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Where a process listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port.
    Address(SocketAddr),
}

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody listens there.
    #[error("it does not listen: {0}")]
    Connect(std::io::Error),
    /// It broke off.
    #[error("it broke off: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
    /// It is silent.
    #[error("it did not answer within {0:?}")]
    Silent(Duration),
    /// The question could not be put.
    #[error("the request could not be written: {0}")]
    Request(hyper::http::Error),
}

/// Asks for `path` and gives the status of the answer, within `time_max`.
pub async fn get(
    place: &Place,
    path: &str,
    time_max: Duration,
) -> Result<StatusCode, ExchangeError> {
    let request = Request::get(path).header("host", "localhost").body(Bytes::new());
    let request = request.map_err(ExchangeError::Request)?;
    exchange(place, request, time_max).await.map(|(status, _body)| status)
}

/// Sends a request and gives the whole answer, within `time_max`.
pub async fn exchange(
    place: &Place,
    request: Request<Bytes>,
    time_max: Duration,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let whole = async {
        match place {
            Place::Socket(path) => {
                on(UnixStream::connect(path).await.map_err(ExchangeError::Connect)?, request).await
            }
            Place::Address(address) => {
                on(TcpStream::connect(address).await.map_err(ExchangeError::Connect)?, request)
                    .await
            }
        }
    };
    tokio::time::timeout(time_max, whole)
        .await
        .unwrap_or_else(|_elapsed| Err(ExchangeError::Silent(time_max)))
}

async fn on<S>(stream: S, request: Request<Bytes>) -> Result<(StatusCode, Bytes), ExchangeError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| ExchangeError::Broken(error.into());
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let answer = async move {
        let answer = sender.send_request(request.map(Full::new)).await.map_err(broken)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, body.map_err(ExchangeError::Broken)?.to_bytes()))
    };
    // The connection lives within this future, so nothing of it outlasts the time limit.
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        _ended = connection => answer.await,
    }
}
