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
use super::row::{BODY_BYTES_MAX, Columns, Fault, Line, Row, read_body};

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
    /// At most so many requests; what cancels one of them comes on top.
    pub limit: Option<u64>,
    /// Whether every row must say when it happened.
    pub timed: bool,
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

/// A file opened for replay; its header, if it has one, has been understood.
pub struct Source {
    path: PathBuf,
    rows: Rows,
    bytes_read: Arc<AtomicU64>,
    bytes: u64,
}

type Text = BufReader<Box<dyn Read + Send>>;

/// The two shapes of a file.
enum Rows {
    /// A table, whose header says of what.
    Table { columns: Columns, reader: csv::Reader<Text>, record: StringRecord },
    /// One request a line, as it is sent.
    Bodies { reader: Text, line: Vec<u8>, number: u64 },
}

impl Source {
    /// Opens a file, gzip or plain, a table or requests, whatever its name says.
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let read = |source| ReplayError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(read)?;
        let bytes = file.metadata().map_err(read)?.len();
        let bytes_read = Arc::new(AtomicU64::new(0));
        let mut plain = BufReader::new(Counted { file, bytes_read: Arc::clone(&bytes_read) });
        let compressed = plain.fill_buf().map_err(read)?.starts_with(&GZIP);
        let mut text: Text = BufReader::new(if compressed {
            Box::new(MultiGzDecoder::new(plain))
        } else {
            Box::new(plain)
        });
        let first = text.fill_buf().map_err(read)?.iter().find(|byte| !byte.is_ascii_whitespace());
        let rows = if first == Some(&b'{') {
            Rows::Bodies { reader: text, line: Vec::new(), number: 0 }
        } else {
            Rows::table(path, text)?
        };
        Ok(Self { path: path.to_owned(), rows, bytes_read, bytes })
    }

    /// Whether the file says what was fraud.
    pub const fn labelled(&self) -> bool {
        matches!(&self.rows, Rows::Table { columns, .. } if columns.labelled())
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
        let mut left = selection.limit.unwrap_or(u64::MAX);
        let mut last = Timestamp::default();
        while left > 0
            && let Some(line) = self.rows.next(&self.path, selection.timed)?
        {
            let row = match line {
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
            if let Some(at) = row.at {
                self.check_order(last, at)?;
                last = at;
            }
            if selection.until.is_some_and(|until| row.at.is_some_and(|at| at >= until)) {
                break;
            }
            if selection.from.is_some_and(|from| row.at.is_some_and(|at| at < from)) {
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

    /// Requests are due, and what is known of them sent, by the file's time: it may not run backwards.
    fn check_order(&self, last: Timestamp, at: Timestamp) -> Result<(), ReplayError> {
        if at >= last {
            return Ok(());
        }
        let wrong = format!("its time is {at}, earlier than {last} before it");
        let right = "sort the file by time".to_owned();
        Err(wrong_row(&self.path, self.rows.number(), Fault { wrong, right }))
    }
}

impl Rows {
    fn table(path: &Path, text: Text) -> Result<Self, ReplayError> {
        let mut reader = csv::Reader::from_reader(text);
        let header = reader.headers().map_err(|error| unreadable(path, error))?;
        let columns = Columns::find(header).map_err(|fault| wrong_row(path, 1, fault))?;
        Ok(Self::Table { columns, reader, record: StringRecord::new() })
    }

    /// The next line; `None` at the end. `timed`: it must say when it happened.
    fn next(&mut self, path: &Path, timed: bool) -> Result<Option<Line>, ReplayError> {
        let line = match self {
            Self::Table { columns, reader, record } => {
                let more = reader.read_record(record).map_err(|error| unreadable(path, error))?;
                if !more {
                    return Ok(None);
                }
                columns.read(record)
            }
            Self::Bodies { reader, line, number } => {
                let read = next_body(reader, line, number);
                if !read.map_err(|source| ReplayError::Read { path: path.to_owned(), source })? {
                    return Ok(None);
                }
                read_body(line.trim_ascii(), timed).map(Line::Request)
            }
        };
        line.map(Some).map_err(|fault| wrong_row(path, self.number(), fault))
    }

    /// The number of the line that was read last, from 1.
    fn number(&self) -> u64 {
        match self {
            Self::Table { record, .. } => record.position().map_or(0, csv::Position::line),
            Self::Bodies { number, .. } => *number,
        }
    }
}

/// Reads the next line that is not blank; of one that is too long, only enough to show it.
fn next_body(reader: &mut Text, line: &mut Vec<u8>, number: &mut u64) -> io::Result<bool> {
    let bytes_max = BODY_BYTES_MAX as u64 + 2; // and its end of line
    loop {
        line.clear();
        if reader.take(bytes_max).read_until(b'\n', line)? == 0 {
            return Ok(false);
        }
        *number += 1;
        if !line.trim_ascii().is_empty() {
            return Ok(true);
        }
    }
}

fn wrong_row(path: &Path, line: u64, Fault { wrong, right }: Fault) -> ReplayError {
    ReplayError::Row { path: path.to_owned(), line, wrong, right }
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
    fn requests_are_told_from_a_table_by_how_they_begin_and_need_a_time_only_where_it_matters() {
        let body = |id: &str| format!(r#"{{"id":"{id}","policy":"claim","account":"a"}}"#);
        let text = format!("\n{}\r\n\n  {}\n{}", body("one"), body("two"), body("three"));
        let (all, error) = ids(text.as_bytes(), Selection::default());
        assert!(error.is_none(), "{error:?}");
        assert_eq!(all, ["one", "two", "three"]);
        let timed = Selection { timed: true, ..Selection::default() };
        let said = ids(text.as_bytes(), timed).1.unwrap().to_string();
        assert!(said.contains("line 2") && said.contains("--rate"), "{said}");

        let (before, error) =
            ids(format!("{}\n{{\n", body("one")).as_bytes(), Selection::default());
        let said = error.unwrap().to_string();
        assert!(said.contains("line 2") && said.contains("one JSON object"), "{said}");
        assert_eq!(before, ["one"]);
        let long = format!("{}\n{{\"id\":\"{}", body("one"), "x".repeat(3 * BODY_BYTES_MAX));
        let said = ids(long.as_bytes(), Selection::default()).1.unwrap().to_string();
        assert!(said.contains("line 2") && said.contains("65536 bytes"), "{said}");
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
        let said = ids(b"", Selection::default()).1.unwrap().to_string();
        assert!(said.contains("is empty") && said.contains("as JSON"), "{said}");
        let said = ids(b"a,b\n1,2\n", Selection::default()).1.unwrap().to_string();
        assert!(said.contains("line 1") && said.contains("txn_id"), "{said}");
        let said = ids(&[0x1f, 0x8b, 1, 2, 3], Selection::default()).1.unwrap().to_string();
        assert!(said.contains("cannot read"), "{said}");
    }
}
