//! The edge, asked as an operator asks: on its admin listener, with the token of this directory.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use backstop_contract::Problem;
use backstop_settings::Layout;
use bytes::Bytes;
use hyper::http::request::Builder;
use hyper::{Request, StatusCode};

use crate::exchange::{ExchangeError, Place, exchange};
use crate::running::Running;

/// How long the edge may take to tell. It may have to ask an api first.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
/// It checks what it is to do, and writes it to its disk.
const ORDER_TIME_MAX: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// There is no edge to ask.
    #[error("nothing runs in {}; start it with `backstop up`", .0.display())]
    NotRunning(PathBuf),
    /// It would not listen without its token.
    #[error("{}: cannot be read: {source}", file.display())]
    Token {
        /// The file of the token.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It did not answer.
    #[error("the edge cannot be asked: {0}")]
    Edge(#[from] ExchangeError),
    /// The path is none.
    #[error("the edge cannot be asked: {0}")]
    Request(#[from] hyper::http::Error),
    /// It said why not.
    #[error("{}; {}", .0.detail, .0.remedy)]
    Told(Box<Problem>),
    /// What it said is no answer to this.
    #[error("the edge answered something else: {0}")]
    Unreadable(#[from] serde_json::Error),
}

/// What the edge of this directory says at `path`.
pub async fn ask(layout: &Layout, path: &str) -> Result<Bytes, OperatorError> {
    put(layout, Request::get(path), Bytes::new(), ANSWER_TIME_MAX).await
}

/// What the edge of this directory says to an order that is sent to `path`.
pub async fn tell(layout: &Layout, path: &str, order: Bytes) -> Result<Bytes, OperatorError> {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .header("content-length", order.len());
    put(layout, request, order, ORDER_TIME_MAX).await
}

/// Prints what was said, or why nothing was.
pub fn show(said: Result<String, OperatorError>) -> ExitCode {
    match said {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn put(
    layout: &Layout,
    request: Builder,
    body: Bytes,
    time_max: Duration,
) -> Result<Bytes, OperatorError> {
    let nobody = || OperatorError::NotRunning(layout.root().to_owned());
    let running = Running::load(layout).ok_or_else(nobody)?;
    let file = layout.admin_token();
    let token = std::fs::read_to_string(&file)
        .map_err(|source| OperatorError::Token { file: file.clone(), source })?;
    let request = request
        .header("host", "localhost")
        .header("authorization", format!("Bearer {}", token.trim()))
        .body(body)?;
    let (status, body) = exchange(&Place::Address(running.admin), request, time_max).await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(OperatorError::Told(Box::new(serde_json::from_slice(&body)?)))
}
