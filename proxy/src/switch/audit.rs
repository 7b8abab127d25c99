//! Appending to the audit log. Its lines, and whether they are a chain, are known to
//! [`backstop_settings::audit`], which needs no edge.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use backstop_settings::audit::{
    Broken, Chain, GENESIS, GROWING, Line, Record, files, full_name, tail,
};

/// For its owner alone: it names people and their reasons.
const MODE: u32 = 0o600;

/// How much is kept of the log.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of one file.
    pub bytes_max: u64,
    /// Full files beside the growing one.
    pub files_max: usize,
    /// The last lines that are read at the start.
    pub latest_max: usize,
}

/// The log, open to append to.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    bounds: Bounds,
    file: File,
    bytes: u64,
    /// The sequence of the first line in the growing file; none while it is empty.
    first: Option<u64>,
    head: (u64, String),
}

/// What was found in the log at the start.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// The last lines, oldest first.
    pub latest: Vec<Line>,
    /// Bytes of a line that a crash left unfinished, which were cut off.
    pub torn_bytes: usize,
    /// The first line of the growing file that does not fit; it stays where it is.
    pub broken: Option<Broken>,
}

impl Log {
    /// Opens the log in `folder`, and cuts off the line that a crash left unfinished.
    pub fn open(folder: &Path, bounds: Bounds) -> io::Result<(Self, Found)> {
        fs::create_dir_all(folder)?;
        let path = folder.join(GROWING);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            bytes => bytes?,
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let (kept, torn) = bytes.split_at(whole);
        let mut file = open(&path)?;
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let found = Found {
            latest: tail(folder, std::cmp::max(bounds.latest_max, 1))?,
            torn_bytes: torn.len(),
            broken: Chain::default().follow(&path, kept, true).err(),
        };
        let text = String::from_utf8_lossy(kept);
        let first = text.lines().find_map(|line| Line::read(line).ok()).map(|line| line.sequence);
        let head = match found.latest.last() {
            Some(line) => (line.sequence, line.hash.clone()),
            None => (0, GENESIS.to_owned()),
        };
        let bytes = whole as u64;
        Ok((Self { folder: folder.to_owned(), bounds, file, bytes, first, head }, found))
    }

    /// Appends a line. Durable when it returns; where it fails, nothing of it stays.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        let line = Line::after((self.head.0, &self.head.1), record.clone());
        let text = line.to_text();
        let length = text.len() as u64;
        if self.bytes > 0 && self.bytes + length > self.bounds.bytes_max {
            self.begin_next()?;
        }
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // A part of a line would be taken for a crash, and the next one would not fit.
            self.file.set_len(self.bytes)?;
            self.file.seek(SeekFrom::Start(self.bytes))?;
            return Err(error);
        }
        self.bytes += length;
        self.first.get_or_insert(line.sequence);
        self.head = (line.sequence, line.hash);
        Ok(())
    }

    /// Names the full file after its first line, and begins the next one; the oldest are let go.
    fn begin_next(&mut self) -> io::Result<()> {
        let growing = self.folder.join(GROWING);
        let full = self.folder.join(full_name(self.first.unwrap_or(self.head.0)));
        match fs::rename(&growing, full) {
            // An earlier try got this far, and no further.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.file = open(&growing)?;
        (self.bytes, self.first) = (0, None);
        // The new name is durable only once its directory is.
        File::open(&self.folder)?.sync_all()?;
        let mut full = files(&self.folder)?;
        full.retain(|file| *file != growing);
        let surplus = full.len().saturating_sub(self.bounds.files_max);
        for file in full.iter().take(surplus) {
            fs::remove_file(file)?;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::Timestamp;
    use backstop_settings::audit::verify;

    const BOUNDS: Bounds = Bounds { bytes_max: 65_536, files_max: 3, latest_max: 5 };

    fn record(n: u64) -> Record {
        Record {
            at: Timestamp::from_millis(1_700_000_000_000),
            who: "maria".into(),
            what: "switch".into(),
            generation: n,
            from: "prod".into(),
            to: "old-prod".into(),
            reason: format!("reason {n}"),
            numbers: serde_json::Map::new(),
        }
    }

    fn append(folder: &Path, bounds: Bounds, records: std::ops::Range<u64>) -> Found {
        let (mut log, found) = Log::open(folder, bounds).unwrap();
        for n in records {
            log.append(&record(n)).unwrap();
        }
        found
    }

    #[test]
    fn a_log_that_is_opened_again_goes_on_with_its_chain() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..4 {
            let found = append(dir.path(), BOUNDS, n * 3..n * 3 + 3);
            assert_eq!((found.torn_bytes, found.broken), (0, None));
        }
        let verified = verify(dir.path()).unwrap();
        assert_eq!((verified.first, verified.last), (1, 12));
        let (_, found) = Log::open(dir.path(), BOUNDS).unwrap();
        let latest: Vec<_> = found.latest.iter().map(|line| line.sequence).collect();
        assert_eq!(latest, [8, 9, 10, 11, 12]);
    }

    #[test]
    fn a_crash_at_any_byte_of_a_line_costs_that_line_alone() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), BOUNDS, 0..2);
        let path = dir.path().join(GROWING);
        let two = fs::read(&path).unwrap();
        append(dir.path(), BOUNDS, 2..3);
        let three = fs::read(&path).unwrap();
        for length in two.len()..three.len() {
            fs::write(&path, &three[..length]).unwrap();
            let found = append(dir.path(), BOUNDS, 2..3);
            assert_eq!((found.torn_bytes, found.broken), (length - two.len(), None));
            assert_eq!(verify(dir.path()).unwrap().last, 3, "{length}");
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_next_begins_with_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let bounds = Bounds { bytes_max: 1_000, ..BOUNDS };
        append(dir.path(), bounds, 0..8);
        let count = files(dir.path()).unwrap().len();
        assert!((2..=4).contains(&count), "{count} files");
        for file in files(dir.path()).unwrap() {
            assert!(fs::metadata(&file).unwrap().len() <= 1_000, "{}", file.display());
        }
        append(dir.path(), bounds, 8..100);
        assert_eq!(files(dir.path()).unwrap().len(), 4, "three full ones and the growing one");
        let verified = verify(dir.path()).unwrap();
        assert_eq!(verified.last, 100);
        assert!(verified.first > 80, "the oldest were let go");
    }

    #[test]
    fn a_line_that_was_tampered_with_stays_and_is_named_and_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        append(dir.path(), BOUNDS, 0..3);
        let path = dir.path().join(GROWING);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace("reason 1", "reason 9")).unwrap();
        let found = append(dir.path(), BOUNDS, 3..5);
        assert_eq!(found.broken.unwrap().line, 2);
        let error = verify(dir.path()).unwrap_err().to_string();
        assert!(error.contains("audit.log:2: line 2 was changed"), "{error}");
        assert_eq!(tail(dir.path(), 9).unwrap().last().unwrap().sequence, 5);
    }
}
