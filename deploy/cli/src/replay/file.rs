//! Reading the file ahead of the replay, on a thread of its own, a bounded way ahead: a day or five
//! months of transactions cost the same memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use backstop_contract::Timestamp;
use csv::StringRecord;
use flate2::bufread::MultiGzDecoder;
use tokio::sync::mpsc;

use super::error::ReplayError;
use super::row::{Columns, Line, Row};

/// Rows that cross to the replay at once.
const BATCH_ROWS: usize = 256;
/// Batches read ahead of the replay.
const BATCHES_AHEAD_MAX: usize = 16;
/// The first two bytes of gzip (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Which rows of the file are replayed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// From this point of the file's time on.
    pub from: Option<Timestamp>,
    /// Up to this point of the file's time, itself not included.
    pub until: Option<Timestamp>,
    /// At most so many requests.
    pub limit: Option<u64>,
}

/// Some rows, and what else was read on the way to them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The requests, in the order of the file.
    pub rows: Vec<Row>,
    /// Cancellations that were left out.
    pub cancels: u64,
    /// Corrections that were left out.
    pub adjusts: u64,
    /// How much of the file has been read so far, in bytes as it lies on disk.
    pub bytes_read: u64,
}

/// A file opened for replay; its header has been understood.
pub struct Source {
    path: PathBuf,
    columns: Columns,
    reader: csv::Reader<Box<dyn Read + Send>>,
    bytes_read: Arc<AtomicU64>,
    bytes: u64,
}

impl Source {
    /// Opens a file, gzip or plain, whatever its name says.
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let read = |source| ReplayError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut plain = BufReader::new(Counted { file, bytes_read: Arc::clone(&bytes_read) });
        let compressed = plain.fill_buf().map_err(read)?.starts_with(&GZIP);
        let text: Box<dyn Read + Send> =
            if compressed { Box::new(MultiGzDecoder::new(plain)) } else { Box::new(plain) };
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(|error| unreadable(path, error))?;
        let columns = Columns::find(header).map_err(|fault| ReplayError::Row {
            path: path.to_owned(),
            line: 1,
            wrong: fault.wrong,
            right: fault.right.to_owned(),
        })?;
        Ok(Self { path: path.to_owned(), columns, reader, bytes_read, bytes })
    }

    /// Whether the file says what was fraud.
    pub const fn labelled(&self) -> bool {
        self.columns.labelled()
    }

    /// The size of the file as it lies on disk.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads on a thread of its own until the file or the selection ends, or nobody listens. What is
    /// wrong with the file is the last thing that comes.
    pub fn read_ahead(
        mut self,
        selection: Selection,
    ) -> Result<mpsc::Receiver<Result<Batch, ReplayError>>, ReplayError> {
        let (batches, receiver) = mpsc::channel(BATCHES_AHEAD_MAX);
        std::thread::Builder::new()
            .name("read-ahead".to_owned())
            .spawn(move || {
                let mut batch = Batch::default();
                let end = self.read_all(selection, &mut batch, &batches);
                // The rows before a bad one are good. Nobody listens once the replay has ended.
                let _ = batches.blocking_send(Ok(batch));
                if let Err(error) = end {
                    let _ = batches.blocking_send(Err(error));
                }
            })
            .map_err(ReplayError::Run)?;
        Ok(receiver)
    }

    fn read_all(
        &mut self,
        selection: Selection,
        batch: &mut Batch,
        batches: &mpsc::Sender<Result<Batch, ReplayError>>,
    ) -> Result<(), ReplayError> {
        let mut record = StringRecord::new();
        let mut left = selection.limit.unwrap_or(u64::MAX);
        let mut last = Timestamp::default();
        while left > 0 && self.next(&mut record)? {
            let row = match self.line(&record)? {
                Line::Cancel => {
                    batch.cancels += 1;
                    continue;
                }
                Line::Adjust => {
                    batch.adjusts += 1;
                    continue;
                }
                Line::Request(row) => row,
            };
            self.check_order(&record, last, row.at)?;
            last = row.at;
            if selection.until.is_some_and(|until| row.at >= until) {
                break;
            }
            if selection.from.is_some_and(|from| row.at < from) {
                continue;
            }
            left -= 1;
            batch.rows.push(row);
            if batch.rows.len() == BATCH_ROWS {
                batch.bytes_read = self.bytes_read.load(Ordering::Relaxed);
                if batches.blocking_send(Ok(std::mem::take(batch))).is_err() {
                    return Ok(());
                }
            }
        }
        batch.bytes_read = self.bytes_read.load(Ordering::Relaxed);
        Ok(())
    }

    fn next(&mut self, record: &mut StringRecord) -> Result<bool, ReplayError> {
        self.reader.read_record(record).map_err(|error| unreadable(&self.path, error))
    }

    fn line(&self, record: &StringRecord) -> Result<Line, ReplayError> {
        self.columns
            .read(record)
            .map_err(|fault| self.wrong(record, fault.wrong, fault.right.to_owned()))
    }

    /// Requests are due, and labels sent, by the file's time: it may not run backwards.
    fn check_order(
        &self,
        record: &StringRecord,
        last: Timestamp,
        at: Timestamp,
    ) -> Result<(), ReplayError> {
        if at >= last {
            return Ok(());
        }
        let wrong = format!("ts is {at}, earlier than {last} before it");
        Err(self.wrong(record, wrong, "sort the file by ts".to_owned()))
    }

    fn wrong(&self, record: &StringRecord, wrong: String, right: String) -> ReplayError {
        let line = record.position().map_or(0, csv::Position::line);
        ReplayError::Row { path: self.path.clone(), line, wrong, right }
    }
}

fn unreadable(path: &Path, error: csv::Error) -> ReplayError {
    let path = path.to_owned();
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        csv::ErrorKind::Io(source) => ReplayError::Read { path, source },
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => ReplayError::Row {
            path,
            line,
            wrong: format!("there are {len} fields"),
            right: format!("give {expected_len}, as the first line has"),
        },
        csv::ErrorKind::Utf8 { .. } => ReplayError::Row {
            path,
            line,
            wrong: "this is not UTF-8".to_owned(),
            right: "save the file as UTF-8".to_owned(),
        },
        kind => ReplayError::Read { path, source: io::Error::other(format!("{kind:?}")) },
    }
}

/// A file that says how far it has been read.
struct Counted {
    file: File,
    bytes_read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const HEADER: &str = "txn_id,ts,customer_id,terminal_id,amount,is_fraud,fraud_scenario\n";

    /// A file of transactions, one a minute.
    fn text(rows: u64) -> String {
        (0..rows).fold(HEADER.to_owned(), |text, row| {
            let (hour, minute) = (row / 60, row % 60);
            text + &format!("{row},2018-04-01T{hour:02}:{minute:02}:00Z,1,2,3.00,0,0\n")
        })
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    /// The ids that come out, and the error at the end.
    fn ids(bytes: &[u8], selection: Selection) -> (Vec<String>, Option<ReplayError>) {
        let file = written(bytes);
        let source = match Source::open(file.path()) {
            Ok(source) => source,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut batches = source.read_ahead(selection).unwrap();
        let mut ids = Vec::new();
        while let Some(batch) = batches.blocking_recv() {
            match batch {
                Ok(batch) => ids.extend(batch.rows.into_iter().map(|row| row.id)),
                Err(error) => return (ids, Some(error)),
            }
        }
        (ids, None)
    }

    #[test]
    fn gzip_and_plain_read_the_same() {
        let text = text(600);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        let gzip = gzip.finish().unwrap();
        let (plain, error) = ids(text.as_bytes(), Selection::default());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(plain.len(), 600);
        assert_eq!(ids(&gzip, Selection::default()).0, plain);
    }

    #[test]
    fn a_selection_takes_from_up_to_and_no_more_than_its_limit() {
        let at = |text: &str| Timestamp::parse(text);
        let (from, until) = (at("2018-04-01T00:02:00Z"), at("2018-04-01T00:05:00Z"));
        let taken = |selection| ids(text(9).as_bytes(), selection).0.join(" ");
        let all = Selection::default();
        assert_eq!(taken(Selection { from, until, ..all }), "txn-2 txn-3 txn-4");
        assert_eq!(taken(Selection { from, limit: Some(1), ..all }), "txn-2");
        assert_eq!(taken(Selection { limit: Some(0), ..all }), "");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_after_what_was_right() {
        let row = "1,2018-04-01T00:01:00Z,1,2,3.00,0,0\n";
        let cases = [
            (format!("{HEADER}{row}2,2018-04-01T00:02:00Z,1,2,3.00,0\n"), "line 3", "give 7"),
            (format!("{HEADER}{row}2,2018-04-01T00:02:00Z,1,2,x,0,0\n"), "line 3", "57.16"),
            (format!("{HEADER}{row}2,2018-04-01T00:00:59Z,1,2,3.00,0,0\n"), "line 3", "sort"),
        ];
        for (text, line, right) in cases {
            let (before, error) = ids(text.as_bytes(), Selection::default());
            let said = error.unwrap().to_string();
            assert!(said.contains(line) && said.contains(right), "{said}");
            assert_eq!(before, ["txn-1"], "{said}");
        }
        let said = ids(b"a,b\n1,2\n", Selection::default()).1.unwrap().to_string();
        assert!(said.contains("line 1") && said.contains("txn_id"), "{said}");
        let said = ids(&[0x1f, 0x8b, 1, 2, 3], Selection::default()).1.unwrap().to_string();
        assert!(said.contains("cannot read"), "{said}");
    }
}
