//! What a child writes goes into its log, which is size-capped: the current file and one older.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// A longer line is broken; under the smallest `log_bytes_max`.
const LINE_BYTES_MAX: u64 = 16_384;

/// How a process says why it cannot run, before it ends.
const LAST_WORDS: &str = "error: ";

/// A log that never grows over its maximum.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    bytes_max: u64,
    open: Option<(File, u64)>,
}

impl LogFile {
    /// Appends to what is at `path`.
    pub const fn new(path: PathBuf, bytes_max: u64) -> Self {
        Self { path, bytes_max, open: None }
    }

    /// Appends a line. A full file becomes the older one, and the older one before it goes.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        let (mut file, written) = match self.open.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if written > 0 && written + length > self.bytes_max {
            std::fs::rename(&self.path, older(&self.path))?;
            let mut fresh = open(&self.path)?;
            fresh.0.write_all(line)?;
            self.open = Some((fresh.0, fresh.1 + length));
            return Ok(());
        }
        file.write_all(line)?;
        self.open = Some((file, written + length));
        Ok(())
    }
}

/// Where a full log goes.
pub fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let written = file.metadata()?.len();
    Ok((file, written))
}

/// Copies what a child writes until it ends, on a thread of its own; then gives its last words, the
/// last line that says why it could not run.
pub fn copy(
    from: impl Read + Send + 'static,
    log: Arc<Mutex<LogFile>>,
) -> oneshot::Receiver<Option<String>> {
    let (ended, last_words) = oneshot::channel();
    let copy = move || {
        let mut from = BufReader::new(from);
        let mut words = None;
        let mut line = Vec::new();
        while let Ok(1..) = (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            // A full disk loses the line; the child must never wait for its log.
            let _ = log.lock().unwrap_or_else(PoisonError::into_inner).append(&line);
            let text = String::from_utf8_lossy(&line);
            if let Some(said) = text.trim_end().strip_prefix(LAST_WORDS) {
                words = Some(said.to_owned());
            }
            line.clear();
        }
        // Nobody may be waiting any more.
        let _ = ended.send(words);
    };
    // Without a thread the pipe closes, and the child's lines go nowhere; it runs all the same.
    let _ = std::thread::Builder::new().name("log".into()).spawn(copy);
    last_words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |file| file.len())
    }

    #[test]
    fn a_log_and_its_older_one_never_grow_over_the_maximum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core-prod.log");
        let mut log = LogFile::new(path.clone(), 100);
        for number in 0..1_000 {
            log.append(format!("line {number}\n").as_bytes()).unwrap();
            assert!(size(&path) <= 100 && size(&older(&path)) <= 100, "{number}");
        }
        let both = std::fs::read_to_string(older(&path)).unwrap()
            + &std::fs::read_to_string(&path).unwrap();
        // What is kept is the end, without a gap.
        let expected: Vec<String> =
            (1_000 - both.lines().count()..1_000).map(|n| format!("line {n}")).collect();
        assert_eq!(both.lines().collect::<Vec<_>>(), expected);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_log_of_an_earlier_run_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.log");
        std::fs::write(&path, [b'x'; 99]).unwrap();
        LogFile::new(path.clone(), 100).append(b"yy").unwrap();
        assert_eq!((size(&path), size(&older(&path))), (2, 99));
    }

    #[tokio::test]
    async fn the_last_words_of_a_child_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core-prod.log");
        let log = Arc::new(Mutex::new(LogFile::new(path.clone(), 1_000_000)));
        let said = "starting\nerror: no such database\nbye\n";
        let words = copy(said.as_bytes(), log).await.unwrap();
        assert_eq!(words.as_deref(), Some("no such database"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), said);
    }
}
