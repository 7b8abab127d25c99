//! One core asked on its socket, and why it did not tell.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

use backstop_contract::wire::{RecallReply, RecallRequest};
use tokio::time::timeout;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Code, Response, Status};
use tonic_prost::ProstCodec;

/// How long one core may take to tell: it reads beside its writers, and may have to wait for a place.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

const METHOD: &str = "/backstop.core.v1.Core/Recall";

/// Why one core did not tell.
#[derive(Debug, thiserror::Error)]
pub enum Untold {
    /// Nobody listens.
    #[error("does not run")]
    Gone,
    /// Somebody may listen, and not to us: the directory may be another user's.
    #[error("cannot be reached on its socket: {0}")]
    Unreachable(String),
    /// It is silent.
    #[error("did not answer within {ANSWER_TIME_MAX:?}")]
    Silent,
    /// It said why.
    #[error("says {0:?}, {1}")]
    Refused(Code, String),
}

impl From<Status> for Untold {
    fn from(status: Status) -> Self {
        Self::Refused(status.code(), status.message().to_owned())
    }
}

impl From<tonic::transport::Error> for Untold {
    fn from(error: tonic::transport::Error) -> Self {
        match cause(&error) {
            Some(cause) if is_nobody(cause.kind()) => Self::Gone,
            Some(cause) => Self::Unreachable(cause.to_string()),
            None => Self::Unreachable(error.to_string()),
        }
    }
}

/// What core tells on this socket.
pub async fn ask(socket: &Path, message: RecallRequest) -> Result<RecallReply, Untold> {
    timeout(ANSWER_TIME_MAX, call(socket, message)).await.unwrap_or(Err(Untold::Silent))
}

async fn call(socket: &Path, message: RecallRequest) -> Result<RecallReply, Untold> {
    let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?;
    let mut grpc = Grpc::new(endpoint.connect().await?);
    grpc.ready().await?;
    let mut request = tonic::Request::new(message);
    request.set_timeout(ANSWER_TIME_MAX);
    let codec = ProstCodec::<RecallRequest, RecallReply>::default();
    let told = grpc.unary(request, PathAndQuery::from_static(METHOD), codec).await;
    Ok(told.map(Response::into_inner)?)
}

/// No socket, or one that a process left behind.
fn is_nobody(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused)
}

/// What the kernel said, behind what the layers above made of it.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        next = error.source();
    }
    None
}
