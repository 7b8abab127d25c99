//! The machine of the files: what to write, sync, create and delete, and what to do when the disk will not.
//!
//! It does no I/O: [`Scribe::act`] says what is to be done, and whoever does it comes back with how it went.
//! One write, one sync and one creation are under way at a time; what comes meanwhile is the next write.
//!
//! **When an answer counts.** By [`Fsync::Process`] once its write returned, by [`Fsync::Disk`] once a sync
//! that began after it did. Under either its record stays in memory until it is synced. What a restart found
//! in files may not have been synced by the process that wrote it: it is, before anything else, and counts
//! from then on.
//!
//! **When the disk fails.** After a write or sync that failed nobody knows what the file holds: Linux may
//! drop the pages and report the next sync as good. So neither is tried again, and the file is appended to no
//! more. Answers go on, undurable, kept in memory up to `memory_max`; beyond, core's own are forgotten
//! first, what core is owed last. Every second a *new* segment is tried; once one is there, all that was not
//! synced is written into it, and answers are durable again.
//!
//! **When the book is full,** or the disk has no room for another segment. See [`shelf`]: the oldest goes, and
//! what core is owed in it is carried forward. When such debts alone fill the book, new answers go out undurable,
//! as above.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use backstop_contract::Timestamp;
use bytes::Bytes;
use tokio::time::Instant;

use crate::place::{AdviceId, Key, Position};
use crate::record::{Acknowledged, Answer, Opening, Record, padded};
use crate::settings::{Fsync, Settings};

mod disk;
pub mod queue;
pub mod shelf;

use queue::{Line, Queue, Subject};
use shelf::Shelf;

/// By [`Fsync::Process`], how old an append may be when its sync begins. A sync makes the file system commit
/// its journal, for which the database beside it waits as well: at 5 ms they were two thirds of a sync an
/// answer at 1000 a second.
pub const SYNC_AFTER: Duration = Duration::from_millis(50);
/// From one attempt to begin a segment to the next.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The most that one write takes. Two of the longest records, so that one always fits.
pub const WRITE_BYTES_MAX: usize = 1 << 20;

/// What is to be done to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write these bytes here. The next write is not asked for before this one ended.
    Write {
        /// The segment.
        segment: u32,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Sync what was written to the segment so far.
    Sync {
        /// The segment.
        segment: u32,
    },
    /// Make a segment of this size, write its head, and sync both it and its folder; or leave nothing.
    Create {
        /// The segment.
        segment: u32,
        /// Its size.
        bytes: u64,
        /// What it begins with.
        head: Bytes,
    },
    /// Remove the segment.
    Delete {
        /// The segment.
        segment: u32,
    },
    /// Read these records.
    Read {
        /// Where they are.
        positions: Vec<Position>,
    },
}

/// How an action went.
#[derive(Debug)]
pub enum Done {
    /// [`Action::Write`].
    Wrote(io::Result<()>),
    /// [`Action::Sync`].
    Synced(u32, io::Result<()>),
    /// [`Action::Create`].
    Created(u32, io::Result<()>),
    /// [`Action::Delete`]. One that failed leaves a file that is read again after a restart, no more; and so
    /// may one that the disk had not got round to when the power went.
    Deleted(u32),
    /// [`Action::Read`]: of each position its bytes, or `None` where they can not be read.
    Read(Vec<Option<Bytes>>),
}

/// What became of a record, for whoever keeps the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// It stands here.
    Written(Subject, Position),
    /// Its waiters may be told, and whether it is durable. Once for each answer.
    Told(Key, bool),
    /// It is synced: memory may let go of it.
    Safe(Subject),
    /// The file it stood in is not trusted any more: it is in memory alone.
    Adrift(Subject),
    /// It is nowhere any more.
    Forgotten(Subject),
}

/// Why answers are undurable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub why: String,
}

/// The machine of the files.
#[derive(Debug)]
pub struct Scribe {
    fsync: Fsync,
    queue_max: usize,
    memory_max: usize,
    opening: Opening,
    head_bytes: u64,
    sequence: u64,
    number: u64,
    last_segment: u32,
    shelf: Shelf,
    head: Option<u32>,
    spare: Spare,
    queue: Queue,
    writing: Option<Writing>,
    /// Segments of an earlier process that are not known to be synced.
    found: VecDeque<u32>,
    /// Those of them that could not be.
    doubted: Vec<u32>,
    unsynced: VecDeque<Unsynced>,
    syncing: Option<Syncing>,
    trouble: Option<Trouble>,
    /// Why no segment could be begun, and when the next attempt is.
    setback: Option<(String, Instant)>,
    is_closing: bool,
    carrying: usize,
    notices: Vec<Notice>,
    deletions: Vec<u32>,
}

/// The segment after the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spare {
    None,
    Creating(u32),
    Ready(u32),
}

#[derive(Debug)]
struct Writing {
    segment: u32,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Unsynced {
    segment: u32,
    since: Instant,
    line: Line,
}

#[derive(Clone, Copy, Debug)]
struct Syncing {
    segment: u32,
    /// How many of the unsynced, from the first on, it is for.
    lines: usize,
}

impl Scribe {
    /// A scribe that goes on with what is on the shelf, in segments with numbers after `last_segment`.
    pub fn new(
        settings: &Settings,
        node: [u8; 16],
        epoch: u64,
        mut shelf: Shelf,
        last_segment: u32,
    ) -> Self {
        shelf.begin_anew();
        let found = shelf.segments().map(|(segment, _)| segment).collect();
        let opening = Opening { node, epoch, at: Timestamp::default() };
        let head = Record::Opened(opening).encode(0);
        Self {
            fsync: settings.fsync,
            queue_max: settings.queue_max,
            memory_max: settings.memory_max,
            opening,
            head_bytes: head.map_or(0, |head| padded(head.len()) as u64),
            sequence: 0,
            number: 0,
            last_segment,
            shelf,
            head: None,
            spare: Spare::None,
            queue: Queue::default(),
            writing: None,
            found,
            doubted: Vec::new(),
            unsynced: VecDeque::new(),
            syncing: None,
            trouble: None,
            setback: None,
            is_closing: false,
            carrying: 0,
            notices: Vec::new(),
            deletions: Vec::new(),
        }
    }

    /// Takes an answer. Its record and, for a stand-in, its number; `None` if it is too long to be written.
    pub fn say(&mut self, answer: &Answer<'_>, is_stand_in: bool) -> Option<(Bytes, Subject)> {
        let epoch = self.opening.epoch;
        let advice = is_stand_in.then_some(AdviceId { epoch, number: self.number + 1 });
        let record = Record::Said(Answer { advice, ..answer.clone() }).encode(self.sequence + 1)?;
        let room = self.shelf.segment_bytes().saturating_sub(self.head_bytes);
        if padded(record.len()) as u64 > room {
            return None;
        }
        self.sequence += 1;
        self.number += u64::from(is_stand_in);
        let subject = advice.map_or(Subject::Core(answer.key), |it| Subject::Debt(answer.key, it));
        let waits = self.queue.answers();
        let is_told = self.trouble.is_some() || self.is_closing || waits >= self.queue_max;
        if is_told {
            self.notices.push(Notice::Told(answer.key, false));
        }
        let at = answer.received_at;
        self.queue.push(Line { subject, record: record.clone(), at, is_told });
        self.forget_beyond();
        Some((record, subject))
    }

    /// Writes what core made of advices.
    pub fn settle(&mut self, list: Vec<Acknowledged>) {
        if let Some(record) = Record::Settled(list).encode(self.sequence + 1) {
            self.sequence += 1;
            let (subject, at) = (Subject::Settled, Timestamp::default());
            self.queue.push(Line { subject, record, at, is_told: true });
        }
    }

    /// Copies a record from a segment that goes.
    pub fn carry(&mut self, key: Key, advice: AdviceId, record: Bytes, at: Timestamp) {
        self.carrying += 1;
        let subject = Subject::Carried(key, advice);
        self.queue.push(Line { subject, record, at, is_told: true });
    }

    /// How many of those are not synced yet.
    pub const fn carrying(&self) -> usize {
        self.carrying
    }

    /// What became of records since the last call.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// The segments.
    pub const fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// The segments, for whoever knows what core is owed in them.
    pub const fn shelf_mut(&mut self) -> &mut Shelf {
        &mut self.shelf
    }

    /// The segment that has to go now, if any.
    pub fn to_go(&mut self, now: Timestamp) -> Option<u32> {
        let spares = u64::from(self.spare != Spare::None);
        self.shelf.to_go(now, spares).filter(|it| !self.is_in_use(*it))
    }

    /// Why answers are undurable, if they are.
    pub const fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Whether an earlier process may have left in a segment what is not synced.
    pub fn is_doubted(&self, segment: u32) -> bool {
        self.found.contains(&segment) || self.doubted.contains(&segment)
    }

    /// How many answers are in memory alone.
    pub fn waiting(&self) -> usize {
        let writing = self.writing.as_ref().map_or(0, |it| it.lines.len());
        self.queue.answers() + writing
    }

    /// From now on, what is there is written and synced without delay, and nobody waits for more.
    pub const fn close(&mut self) {
        self.is_closing = true;
    }

    /// Whether all is done that can be done before the end.
    pub fn is_at_rest(&self) -> bool {
        // A segment that came to be later would lie in the way of the next process.
        let is_creating = matches!(self.spare, Spare::Creating(_));
        let is_busy = self.writing.is_some() || self.syncing.is_some() || is_creating;
        let is_unsynced = !self.unsynced.is_empty() || !self.found.is_empty();
        let is_behind = !self.queue.is_empty() || is_unsynced;
        !is_busy && (!is_behind || self.trouble.is_some())
    }

    fn is_in_use(&self, segment: u32) -> bool {
        let is_written = self.writing.as_ref().is_some_and(|it| it.segment == segment);
        let is_unsynced = self.unsynced.iter().any(|it| it.segment == segment);
        is_written || is_unsynced || self.found.contains(&segment)
    }

    fn forget_beyond(&mut self) {
        while self.queue.answers() > self.memory_max {
            let Some(line) = self.queue.forget() else { return };
            self.tell(&line, false);
            self.notices.push(Notice::Forgotten(line.subject));
        }
    }

    fn tell(&mut self, line: &Line, durable: bool) {
        if let (false, Some(key)) = (line.is_told, line.subject.key()) {
            self.notices.push(Notice::Told(key, durable));
        }
    }
}

#[cfg(test)]
mod tests;
