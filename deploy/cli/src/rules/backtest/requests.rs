//! The requests of a file: a table or requests as `replay` takes them, or decisions as they were recorded, one
//! a line: `{ "request": …, "merchant": …, "decision": …, "fraud": … }`, all but the first optional.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use backstop_contract::validity::{Terms, check};
use backstop_contract::{HashKey, Question, Request, RequestHash, Timestamp, Verdict};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc::Receiver;

use crate::replay::error::ReplayError;
use crate::replay::file::{Batch, Selection, Source};
use crate::replay::row::BODY_BYTES_MAX;
use crate::rules::RulesError;

/// Recorded decisions that are handed on at once.
const BATCH_ROWS: usize = 256;
/// Whose requests those of a table are.
const MERCHANT: &str = "demo";
const RIGHT: &str =
    "give one JSON object a line, { \"request\": …, \"decision\": …, \"fraud\": … }";

/// One request, and what is known of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The request.
    pub question: Question,
    /// Whether it was fraud, where the file says so.
    pub fraud: Option<bool>,
    /// What was decided, where the file says so.
    pub said: Option<Verdict>,
}

/// Some requests, in the order of the file.
#[derive(Debug, Default)]
pub struct Entries {
    /// The requests.
    pub entries: Vec<Entry>,
    /// How much of the file has been read so far, in bytes as it lies on disk.
    pub bytes_read: u64,
}

/// The requests of one file.
pub struct Requests {
    from: From,
    hash: RequestHash,
    bytes: u64,
    labelled: bool,
}

enum From {
    Rows(Receiver<Result<Batch, ReplayError>>),
    Records { path: PathBuf, lines: Box<dyn BufRead + Send>, number: u64 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record<'a> {
    #[serde(borrow)]
    request: &'a RawValue,
    merchant: Option<String>,
    decision: Option<Verdict>,
    fraud: Option<bool>,
}

impl Requests {
    /// Opens a file, gzip or plain. Rows of a table are read up to `until`, at most `limit` of them.
    pub fn open(
        path: &Path,
        until: Option<Timestamp>,
        limit: Option<u64>,
    ) -> Result<Self, RulesError> {
        let hash = HashKey::new(&[0; 32]).hash(&nobody());
        if let Some(lines) = recorded(path)? {
            let bytes = std::fs::metadata(path).map_or(0, |it| it.len());
            let from = From::Records { path: path.to_owned(), lines, number: 0 };
            return Ok(Self { from, hash, bytes, labelled: true });
        }
        let source = Source::open(path)?;
        let (bytes, labelled) = (source.bytes(), source.labelled());
        let rows = source.read_ahead(Selection { from: None, until, limit, timed: false })?;
        Ok(Self { from: From::Rows(rows), hash, bytes, labelled })
    }

    /// The size of the file as it lies on disk.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file may say what was fraud.
    pub const fn labelled(&self) -> bool {
        self.labelled
    }

    /// The next requests; `None` at the end.
    pub fn next(&mut self) -> Result<Option<Entries>, RulesError> {
        match &mut self.from {
            From::Rows(rows) => {
                let Some(batch) = rows.blocking_recv() else { return Ok(None) };
                let batch = batch?;
                let mut entries = Vec::with_capacity(batch.rows.len());
                for row in &batch.rows {
                    // The reader has judged it already, or made it.
                    let Ok(request) = check(&row.body, &terms()) else { continue };
                    let question = question(request, MERCHANT.to_owned(), &self.hash);
                    entries.push(Entry { question, fraud: row.fraud(), said: None });
                }
                Ok(Some(Entries { entries, bytes_read: batch.bytes_read }))
            }
            From::Records { path, lines, number } => {
                let entries = read_records(path, lines, number, &self.hash)?;
                Ok((!entries.is_empty()).then_some(Entries { entries, bytes_read: 0 }))
            }
        }
    }
}

/// The lines of a file of recorded decisions; `None` when it is something else.
fn recorded(path: &Path) -> Result<Option<Box<dyn BufRead + Send>>, RulesError> {
    let failed = |source| RulesError::Read { path: path.to_owned(), source };
    let mut plain = BufReader::new(File::open(path).map_err(failed)?);
    let is_gzip = plain.fill_buf().map_err(failed)?.starts_with(&[0x1f, 0x8b]);
    let mut lines: Box<dyn BufRead + Send> = if is_gzip {
        Box::new(BufReader::new(MultiGzDecoder::new(plain)))
    } else {
        Box::new(plain)
    };
    let head = lines.fill_buf().map_err(failed)?;
    let head = head.trim_ascii_start();
    let first = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let is_record = first.starts_with(b"{") && first.windows(9).any(|part| part == b"\"request\"");
    Ok(is_record.then_some(lines))
}

fn read_records(
    path: &Path,
    lines: &mut Box<dyn BufRead + Send>,
    number: &mut u64,
    hash: &RequestHash,
) -> Result<Vec<Entry>, RulesError> {
    let failed = |source: io::Error| RulesError::Read { path: path.to_owned(), source };
    let mut entries = Vec::with_capacity(BATCH_ROWS);
    let mut line = Vec::new();
    while entries.len() < BATCH_ROWS {
        line.clear();
        let bytes_max = 2 * BODY_BYTES_MAX as u64;
        if lines.by_ref().take(bytes_max).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        *number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |wrong: String, right: &str| ReplayError::Row {
            path: path.to_owned(),
            line: *number,
            wrong,
            right: right.to_owned(),
        };
        let record: Record<'_> =
            serde_json::from_slice(&line).map_err(|error| wrong(error.to_string(), RIGHT))?;
        let request = check(record.request.get().as_bytes(), &terms())
            .map_err(|problem| wrong(problem.detail.clone(), &problem.remedy))?;
        let merchant = record.merchant.unwrap_or_else(|| MERCHANT.to_owned());
        let question = question(request, merchant, hash);
        entries.push(Entry { question, fraud: record.fraud, said: record.decision });
    }
    Ok(entries)
}

/// The file's requests lie in the past, and which policies there are is the rules' to say.
fn terms() -> Terms<'static> {
    Terms { now: Timestamp::default(), test: true, numeric_ids: true, policies: &|_| true }
}

/// A question needs a hash, and no policy sees it.
fn question(request: Request, merchant: String, hash: &RequestHash) -> Question {
    let received_at = request.at.as_ref().map_or(Timestamp::default(), |at| at.timestamp);
    Question {
        merchant,
        test: true,
        numeric_ids: true,
        request,
        hash: *hash,
        received_at,
        traceparent: String::new(),
        body: Bytes::new(),
    }
}

fn nobody() -> Request {
    Request {
        id: String::new(),
        policy: String::new(),
        account: String::new(),
        money: None,
        at: None,
        attributes: backstop_contract::Attributes::default(),
    }
}
