//! All that the switch writes: the choice, its copy, and the audit log. Everything here may wait for a
//! disk, so it is called where no request waits with it.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Map;
use tokio::time::Instant;

use backstop_contract::Timestamp;
use backstop_settings::audit::Record;
use backstop_settings::{Layout, settings};

use crate::switch::audit::{Bounds, Log};
use crate::switch::choice::Choice;
use crate::switch::state::{Found, Store};

/// Lines that wait for a disk. Beyond, the oldest are lost, which the log then says.
const WAITING_MAX: usize = 1_024;
/// The longest wait for a predecessor to end its last order.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often the lock is tried meanwhile.
const LOCK_RETRY_AFTER: Duration = Duration::from_millis(1);
/// Who writes what nobody ordered.
pub const NOBODY: &str = "automatic";

/// The files of the switch in one directory. One edge writes them at a time.
#[derive(Debug)]
pub struct Papers {
    store: Store,
    folder: PathBuf,
    bounds: Bounds,
    log: Option<Log>,
    waiting: VecDeque<Record>,
    lost: usize,
    /// Held as long as this edge may write.
    lock: Option<File>,
}

/// What was in the files at the start.
#[derive(Debug)]
pub struct Opened {
    /// The choice to begin with.
    pub choice: Choice,
    /// The last lines of the log, oldest first.
    pub latest: Vec<Record>,
}

impl Papers {
    /// Reads what is there, and says in the log what is not as it should be. Nothing that a disk does
    /// keeps the edge from starting.
    pub fn open(layout: &Layout, settings: &settings::Switch, at: Timestamp) -> (Self, Opened) {
        let bounds = Bounds {
            bytes_max: settings.audit_bytes_max,
            files_max: settings.audit_files_max,
            latest_max: settings.history_max,
        };
        let folder = layout.switch();
        let lock = lock(&folder)
            .inspect_err(|error| {
                let folder = folder.display();
                tracing::error!(%error, "{folder} can not be written: no order will be obeyed");
            })
            .ok();
        let (store, waiting) = (Store::new(layout), VecDeque::new());
        let mut papers = Self { store, folder, bounds, log: None, waiting, lost: 0, lock };
        let opened = papers.read(at);
        (papers, opened)
    }

    fn read(&mut self, at: Timestamp) -> Opened {
        let (mut choice, trouble) = match self.store.read() {
            Found::Kept(choice) => (choice, None),
            Found::Nothing => (Choice::default(), None),
            Found::Copy(choice, why) => (choice, Some(format!("{why}: its last copy is in force"))),
            Found::Lost(why) => {
                (Choice::default(), Some(format!("{why}, nor its copy: prod serves")))
            }
        };
        let (mut latest, mut notes) = self.open_log();
        let logged = latest.iter().map(|it| it.generation).max().unwrap_or_default();
        if choice.generation > logged && self.log.is_some() {
            let Choice { generation, who, reason, .. } = &choice;
            let what = format!(
                "Choice {generation} of {who} was in force before a line could say so: {reason}"
            );
            notes.push(("found", what));
        }
        // A generation is never given twice, whatever was lost.
        choice.generation = std::cmp::max(choice.generation, logged);
        if let Some(trouble) = trouble {
            tracing::error!("which stack serves can not be read: {trouble}");
            notes.push(("restored", format!("Which stack serves could not be read: {trouble}.")));
            if let Err(error) = self.write(&choice) {
                tracing::error!(%error, "nor can it be written anew");
            }
        }
        for (what, reason) in notes {
            tracing::warn!("audit log: {reason}");
            let note = note(what, &choice, at, reason);
            latest.push(note.clone());
            self.waiting.push_back(note);
        }
        self.flush();
        Opened { choice, latest }
    }

    /// Opens the log: its last lines, and what is to be said of it.
    fn open_log(&mut self) -> (Vec<Record>, Vec<(&'static str, String)>) {
        let mut notes = Vec::new();
        let (log, found) = match Log::open(&self.folder, self.bounds) {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "the audit log can not be opened: its lines wait");
                return (Vec::new(), notes);
            }
        };
        self.log = Some(log);
        if found.torn_bytes > 0 {
            let bytes = found.torn_bytes;
            let what =
                format!("{bytes} bytes of a line that a crash left unfinished were cut off.");
            notes.push(("cut", what));
        }
        if let Some(broken) = found.broken {
            notes.push(("broken", format!("This log was tampered with, or damaged: {broken}.")));
        }
        (found.latest.into_iter().map(|line| line.record).collect(), notes)
    }

    /// Writes the choice that is to hold. Durable when it returns; where it fails, the old one stays.
    pub fn write(&self, choice: &Choice) -> io::Result<()> {
        self.write_if_mine(|| self.store.write(choice))
    }

    /// Does a write that only the one edge of this directory may do.
    pub fn write_if_mine(&self, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.lock.is_none() {
            return Err(io::Error::other("another edge writes here"));
        }
        write()
    }

    /// Keeps a copy of the choice that holds.
    pub fn keep(&self, choice: &Choice) {
        if self.lock.is_some()
            && let Err(error) = self.store.keep(choice)
        {
            tracing::warn!(%error, "the copy of the choice can not be written");
        }
    }

    /// Appends a line to the log, now or when the disk takes it.
    pub fn note(&mut self, record: Record) {
        self.waiting.push_back(record);
        if self.waiting.len() > WAITING_MAX {
            self.waiting.pop_front();
            self.lost += 1;
        }
        self.flush();
    }

    /// Writes the lines that wait.
    pub fn flush(&mut self) {
        if self.lock.is_none() {
            return;
        }
        while let Some(record) = self.waiting.front() {
            let record = if self.lost > 0 {
                let Record { generation, from, to, .. } = record.clone();
                let reason = format!("{} lines were lost while the disk took none.", self.lost);
                let (who, what) = (NOBODY.to_owned(), "lost".to_owned());
                Record {
                    at: record.at,
                    who,
                    what,
                    generation,
                    from,
                    to,
                    reason,
                    numbers: Map::new(),
                }
            } else {
                record.clone()
            };
            if let Err(error) = self.append(&record) {
                tracing::warn!(%error, "the audit log can not be written: its lines wait");
                return;
            }
            if std::mem::take(&mut self.lost) == 0 {
                self.waiting.pop_front();
            }
        }
    }

    /// Whether lines wait for the disk.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Writes nothing any more: a successor may.
    pub fn close(&mut self) {
        self.flush();
        self.lock = None;
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let log = match &mut self.log {
            Some(log) => log,
            none => none.insert(Log::open(&self.folder, self.bounds)?.0),
        };
        log.append(record)
    }
}

/// A line about something that nobody ordered, and that changes nothing.
pub fn note(what: &str, choice: &Choice, at: Timestamp, reason: String) -> Record {
    let active = choice.course.active.to_string();
    Record {
        at,
        who: NOBODY.to_owned(),
        what: what.to_owned(),
        generation: choice.generation,
        from: active.clone(),
        to: active,
        reason,
        numbers: Map::new(),
    }
}

/// The lock of the one edge that may write here.
fn lock(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let path = folder.join("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCK_WAIT_MAX => {
                std::thread::sleep(LOCK_RETRY_AFTER);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_contract::Stack;
    use backstop_contract::order::What;
    use backstop_settings::audit::{tail, verify};

    use crate::switch::choice::{Hand, Kind};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn switched(choice: &Choice, to: Stack) -> Choice {
        let (who, reason) = ("maria".to_owned(), "a reason".to_owned());
        choice
            .ordered(&What::Switch(to), None, Hand { kind: Kind::Switch, at: NOW, who, reason })
            .unwrap()
    }

    fn record(choice: &Choice) -> Record {
        Record { what: "switch".into(), ..note("switch", choice, NOW, choice.reason.clone()) }
    }

    fn open(layout: &Layout) -> (Papers, Opened) {
        Papers::open(layout, &settings::Switch::default(), NOW)
    }

    #[test]
    fn a_choice_that_was_written_before_its_line_gets_one_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let (mut papers, opened) = open(&layout);
        let first = switched(&opened.choice, Stack::OldProd);
        papers.write(&first).unwrap();
        papers.note(record(&first));
        let second = switched(&first, Stack::Prod);
        papers.write(&second).unwrap();
        drop(papers); // killed in between
        let (_papers, opened) = open(&layout);
        assert_eq!(opened.choice, second);
        let words: Vec<_> =
            opened.latest.iter().map(|it| (it.what.as_str(), it.generation)).collect();
        assert_eq!(words, [("switch", 1), ("found", 2)]);
        assert_eq!(verify(&layout.switch()).unwrap().last, 2);
    }

    #[test]
    fn a_choice_that_can_not_be_read_gives_way_to_the_copy_and_no_generation_is_given_twice() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let (mut papers, opened) = open(&layout);
        let first = switched(&opened.choice, Stack::OldProd);
        papers.write(&first).unwrap();
        papers.keep(&first);
        papers.note(record(&first));
        let second = switched(&first, Stack::Prod);
        papers.write(&second).unwrap();
        papers.note(record(&second));
        drop(papers);
        fs::write(layout.choice(), "{").unwrap();
        let (papers, opened) = open(&layout);
        assert_eq!((opened.choice.course, opened.choice.generation), (first.course, 2));
        let last = opened.latest.last().unwrap();
        assert!(last.what == "restored" && last.reason.contains("its last copy"), "{last:?}");
        drop(papers);
        let (_papers, opened) = open(&layout);
        assert_eq!(opened.latest.last().unwrap(), last, "it was put right");
        verify(&layout.switch()).unwrap();
    }

    #[test]
    fn lines_wait_while_the_disk_takes_none() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let (mut papers, opened) = open(&layout);
        // The log can not be opened: something else has its name.
        papers.log = None;
        let growing = layout.switch().join(backstop_settings::audit::GROWING);
        fs::remove_file(&growing).unwrap();
        fs::create_dir(&growing).unwrap();
        for _ in 0..WAITING_MAX + 5 {
            papers.note(record(&opened.choice));
        }
        assert!(papers.is_behind());
        fs::remove_dir(&growing).unwrap();
        papers.flush();
        assert!(!papers.is_behind());
        let lines = tail(&layout.switch(), usize::MAX).unwrap();
        assert_eq!(lines.len(), WAITING_MAX + 1);
        assert_eq!(lines[0].record.reason, "5 lines were lost while the disk took none.");
        verify(&layout.switch()).unwrap();
    }

    #[test]
    fn two_edges_never_write_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let (mut papers, opened) = open(&layout);
        let first = switched(&opened.choice, Stack::OldProd);
        papers.write(&first).unwrap();
        let successor = std::thread::spawn({
            let layout = layout.clone();
            move || open(&layout)
        });
        papers.note(record(&first));
        papers.close();
        let (_successor, opened) = successor.join().unwrap();
        assert_eq!(opened.choice, first);
        assert!(papers.write(&first).is_err(), "the one that gave up");
        papers.note(record(&first));
        assert_eq!(verify(&layout.switch()).unwrap().last, 1);
    }
}
