//! One kept-alive connection of a merchant's, which may end at any moment.

use std::net::SocketAddr;

use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Whether it says that it is an earlier answer.
    pub is_replayed: bool,
    pub body: Bytes,
}

/// A connection that is opened where there is none.
pub struct Wire {
    address: SocketAddr,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Wire {
    pub const fn to(address: SocketAddr) -> Self {
        Self { address, open: None }
    }

    /// Asks for a decision. `Err`: the connection has ended, and what became of the request, nobody
    /// here can know.
    pub async fn ask(&mut self, key: &str, body: Bytes) -> Result<Reply, String> {
        let request = Request::post("/v1/decisions")
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"))
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        // Put back only when it came through whole: whoever walks away leaves none behind.
        let mut open = match self.open.take().filter(|open| !open.is_closed()) {
            Some(open) => open,
            None => connect(self.address).await?,
        };
        let reply = exchange(&mut open, request).await.map_err(|error| format!("{error:?}"))?;
        self.open = Some(open);
        Ok(reply)
    }
}

async fn exchange(
    open: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> hyper::Result<Reply> {
    open.ready().await?;
    let response = open.send_request(request).await?;
    let status = response.status().as_u16();
    let is_replayed = response.headers().contains_key("idempotency-replayed");
    let body = response.into_body().collect().await?.to_bytes();
    Ok(Reply { status, is_replayed, body })
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let opened = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = opened.map_err(|error| error.to_string())?;
    // How it ends, its sender tells.
    tokio::spawn(connection);
    Ok(sender)
}
