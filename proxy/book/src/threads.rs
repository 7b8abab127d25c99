//! The book's threads. They do what the machine says, and nothing of their own.
//!
//! One writes. Whatever came while it wrote is its next write, so a burst costs one wake and one call. A
//! sync may take long, and making or removing a file too: each has a thread beside it, so that neither
//! stands before an append.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::bookkeeper::Bookkeeper;
use crate::error::BookError;
use crate::folder::Folder;
use crate::now::Now;
use crate::scribe::{Action, Done};
use crate::slot::Slot;

/// How often the writer looks whether a segment is too old.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What handles and threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    desk: Mutex<Desk>,
    work: Condvar,
    pub(crate) folder: Folder,
    /// There may be something to ship.
    pub(crate) ship: Notify,
    /// An action ended: the book may be at rest.
    pub(crate) rest: Notify,
    pub(crate) corrupt_files: u64,
    pub(crate) node: String,
}

#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) keeper: Bookkeeper<Arc<Slot>>,
    writer_sleeps: bool,
    has_stopped: bool,
}

/// The threads; dropped, it ends them, and waits for what they are doing.
#[derive(Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
    handles: Vec<JoinHandle<()>>,
}

impl Shared {
    pub(crate) fn new(
        keeper: Bookkeeper<Arc<Slot>>,
        folder: Folder,
        corrupt_files: u64,
        node: String,
    ) -> Self {
        Self {
            desk: Mutex::new(Desk { keeper, writer_sleeps: false, has_stopped: false }),
            work: Condvar::new(),
            folder,
            ship: Notify::new(),
            rest: Notify::new(),
            corrupt_files,
            node,
        }
    }

    /// The machine, for as long as nobody waits for anything.
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the machine back after it took something new: wakes the writer, and whom it names.
    pub(crate) fn hand_back(&self, mut desk: MutexGuard<'_, Desk>) {
        let told = desk.keeper.take_told();
        let is_owed = !told.is_empty() && !desk.keeper.shipping().is_empty();
        let wakes = std::mem::take(&mut desk.writer_sleeps);
        drop(desk);
        if wakes {
            self.work.notify_one();
        }
        for (slot, durable) in told {
            slot.told(durable);
        }
        if is_owed {
            self.ship.notify_waiters();
        }
    }

    /// Does one thing after the other until the writer is gone.
    fn serve(&self, actions: &Receiver<Action>) {
        for action in actions {
            let done = self.folder.perform(action);
            self.take(done);
        }
    }

    fn take(&self, done: Done) {
        let mut desk = self.desk();
        desk.keeper.done(done, Now::read());
        self.hand_back(desk);
        self.rest.notify_waiters();
    }

    fn write(&self, syncs: &Sender<Action>, files: &Sender<Action>) {
        while let Some(actions) = self.next_actions() {
            for action in actions {
                match action {
                    Action::Write { .. } => self.take(self.folder.perform(action)),
                    // The threads live as long as their senders do.
                    Action::Sync { .. } => drop(syncs.send(action)),
                    _ => drop(files.send(action)),
                }
            }
        }
    }

    /// Waits for something to do; `None` at the end.
    fn next_actions(&self) -> Option<Vec<Action>> {
        let mut desk = self.desk();
        while !desk.has_stopped {
            let now = Now::read();
            let actions = desk.keeper.act(now);
            if !actions.is_empty() {
                self.hand_back(desk);
                return Some(actions);
            }
            let due = desk.keeper.next_due(now.instant);
            let wait = due.map_or(LOOK_EVERY, |due| due.saturating_duration_since(Instant::now()));
            // Nothing is ever due that could not be done, but a machine that erred must not spin.
            let wait = wait.clamp(Duration::from_micros(50), LOOK_EVERY);
            desk = self.sleep(desk, wait);
        }
        None
    }

    fn sleep<'a>(&self, mut desk: MutexGuard<'a, Desk>, wait: Duration) -> MutexGuard<'a, Desk> {
        desk.writer_sleeps = true;
        let woken = self.work.wait_timeout(desk, wait);
        let (mut desk, _) = woken.unwrap_or_else(PoisonError::into_inner);
        desk.writer_sleeps = false;
        desk
    }
}

impl Threads {
    /// Starts them.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self, BookError> {
        let (syncs, to_sync) = channel();
        let (files, to_do) = channel();
        let mut threads = Self { shared: shared.clone(), handles: Vec::new() };
        let one = shared.clone();
        threads.spawn("book-writer", move || one.write(&syncs, &files))?;
        let one = shared.clone();
        threads.spawn("book-sync", move || one.serve(&to_sync))?;
        let one = shared.clone();
        threads.spawn("book-files", move || one.serve(&to_do))?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), BookError> {
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(run);
        self.handles.push(spawned.map_err(BookError::Thread)?);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        desk.has_stopped = true;
        // Whoever still holds a turn is not left waiting for a thread that is gone.
        desk.keeper.close();
        self.shared.hand_back(desk);
        for handle in self.handles.drain(..) {
            // A thread that panicked has nothing more to say.
            let _ = handle.join();
        }
    }
}
