//! `backstop reconcile`: what a merchant was told and what the books say of it, side by side.

mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backstop_contract::reconciliation::{
    Comparison, Form, Media, Span, Statement, UPLOAD_BYTES_MAX,
};
use backstop_contract::{Problem, Timestamp};
use bytes::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode, Uri};
use tokio::time::timeout;

use crate::client::{Answer, Call, Client, ClientError, Key};

/// How long the edge may take to answer; it asks core.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);

const UPLOAD_HELP: &str = "\
Compare with what this file says that the merchant saw: CSV with a header line, or NDJSON.
Its columns are id and decision, and where you like amount and currency, decided_by (client where
the merchant's own client had to decide alone) and at";

/// Something is off: there are corrections, conflicts, differences, or answers that never arrived.
const OFF: u8 = 1;
/// Nothing could be compared.
const REFUSED: u8 = 2;

/// Prints totals and the first lines. Exits with 0 when nothing is off, with 1 when something is, and with
/// 2 when there is no telling.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// From this moment on: RFC 3339, or a date such as 2026-11-22 [default: 24 hours before --to]
    #[arg(long, value_name = "TIME", conflicts_with = "upload")]
    from: Option<String>,
    /// Up to this moment, which is not included [default: now]
    #[arg(long, value_name = "TIME", conflicts_with = "upload")]
    to: Option<String>,
    /// Compare with what this file says that the merchant saw
    #[arg(long, value_name = "FILE", long_help = UPLOAD_HELP)]
    upload: Option<PathBuf>,
    /// Ask with the key in this file [default: merchant.key in the directory]
    #[arg(long, value_name = "FILE")]
    merchant_key: Option<PathBuf>,
    /// Print everything as CSV
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print everything as JSON
    #[arg(long)]
    json: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum ReconcileError {
    /// There is no way to the edge.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The connection broke.
    #[error("the connection broke before the answer came")]
    Exchange,
    /// The edge is silent.
    #[error("the edge did not answer within {ANSWER_TIME_MAX:?}; ask for a shorter span")]
    Silent,
    /// The edge, or the same rule here, says what is wrong.
    #[error("{}; {}", .0.detail, .0.remedy)]
    Told(Box<Problem>),
    /// The edge says something else.
    #[error("the edge answered {0}, and nothing that can be read")]
    Unreadable(StatusCode),
    /// The upload could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    /// The upload is too large to be taken.
    #[error("{}: it has over {UPLOAD_BYTES_MAX} bytes; split it, rows are independent", .0.display())]
    TooLarge(PathBuf),
}

impl From<Problem> for ReconcileError {
    fn from(problem: Problem) -> Self {
        Self::Told(Box::new(problem))
    }
}

/// What came back.
enum Told {
    Statement(Statement),
    Comparison(Comparison),
}

/// Asks, and prints what comes back.
pub async fn run(args: Args) -> ExitCode {
    match ask(&args).await {
        Ok(told) => {
            // Nobody is left to tell of a closed pipe.
            let _closed = std::io::stdout().write_all(&told.shown(args.form()));
            if told.is_off() { ExitCode::from(OFF) } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(REFUSED)
        }
    }
}

async fn ask(args: &Args) -> Result<Told, ReconcileError> {
    let call = match &args.upload {
        Some(file) => comparison(file)?,
        None => statement(args.from.as_deref(), args.to.as_deref())?,
    };
    let key = args.merchant_key.clone().map_or(Key::Live, Key::File);
    let client = Client::new(&args.dir.layout(), key)?;
    let mut connection = client.open().await?;
    let answer = timeout(ANSWER_TIME_MAX, connection.exchange(&call)).await;
    let answer = answer.map_err(|_elapsed| ReconcileError::Silent)?;
    let answer = answer.map_err(|_broken| ReconcileError::Exchange)?;
    if args.upload.is_some() {
        understand(&answer).map(Told::Comparison)
    } else {
        understand(&answer).map(Told::Statement)
    }
}

fn statement(from: Option<&str>, to: Option<&str>) -> Result<Call, ReconcileError> {
    let span = Span::parse(from, to, Timestamp::now())?;
    let path = Uri::try_from(format!("/v1/reconciliation?{}", span.to_query()));
    // Times are written in digits and punctuation that a query may hold.
    let path = path.unwrap_or_default();
    Ok(Call { method: Method::GET, ..Call::post(path, Bytes::new()) })
}

fn comparison(file: &Path) -> Result<Call, ReconcileError> {
    let failed = |source| ReconcileError::File { path: file.to_owned(), source };
    let size = std::fs::metadata(file).map_err(failed)?.len();
    if size > UPLOAD_BYTES_MAX as u64 {
        return Err(ReconcileError::TooLarge(file.to_owned()));
    }
    let body = Bytes::from(std::fs::read(file).map_err(failed)?);
    // An object a line, or the names of columns: the first character tells.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let media = if first == Some(&b'{') { Media::Ndjson } else { Media::Csv };
    let media = Some(HeaderValue::from_static(media.as_str()));
    Ok(Call { media, ..Call::post(Uri::from_static("/v1/reconciliation"), body) })
}

fn understand<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, ReconcileError> {
    if answer.status == StatusCode::OK {
        let read = serde_json::from_slice(&answer.body);
        return read.map_err(|_other_shape| ReconcileError::Unreadable(answer.status));
    }
    match serde_json::from_slice::<Problem>(&answer.body) {
        Ok(problem) => Err(problem.into()),
        Err(_other_shape) => Err(ReconcileError::Unreadable(answer.status)),
    }
}

impl Args {
    /// The form that is asked for; none: a table for people.
    fn form(&self) -> Option<Form> {
        match (self.json, self.csv) {
            (true, _) => Some(Form::Json),
            (false, true) => Some(Form::Csv),
            (false, false) => None,
        }
    }
}

impl Told {
    fn is_off(&self) -> bool {
        match self {
            Self::Statement(statement) => statement.is_off(),
            Self::Comparison(comparison) => comparison.is_off(),
        }
    }

    fn shown(&self, form: Option<Form>) -> Vec<u8> {
        let line = |mut json: Vec<u8>| {
            json.push(b'\n');
            json
        };
        match (self, form) {
            (Self::Statement(it), None) => table::statement(it).into_bytes(),
            (Self::Statement(it), Some(Form::Json)) => line(it.to_json()),
            (Self::Statement(it), Some(Form::Csv)) => it.to_csv(),
            (Self::Comparison(it), None) => table::comparison(it).into_bytes(),
            (Self::Comparison(it), Some(Form::Json)) => line(it.to_json()),
            (Self::Comparison(it), Some(Form::Csv)) => it.to_csv(),
        }
    }
}

#[cfg(test)]
mod tests;
