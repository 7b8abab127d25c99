//! What the scribe does with the disk, one step at a time, and what it makes of how that went.

use std::io;

use bytes::Bytes;
use tokio::time::Instant;

use super::queue::{Line, Subject};
use super::shelf::Purpose;
use super::{
    Action, Notice, RETRY_AFTER, SYNC_AFTER, Scribe, Spare, Syncing, Trouble, Unsynced,
    WRITE_BYTES_MAX, Writing,
};
use crate::now::Now;
use crate::place::Position;
use crate::record::{Opening, Record, padded};
use crate::settings::Fsync;

/// Why nothing is written while nothing is wrong with the disk.
const FULL: &str = "what core is owed fills the book";

impl Scribe {
    /// What is to be done now.
    pub fn act(&mut self, now: Now) -> Vec<Action> {
        let mut actions: Vec<_> =
            self.deletions.drain(..).map(|segment| Action::Delete { segment }).collect();
        actions.extend(self.begin_write(now));
        actions.extend(self.begin_creation(now));
        actions.extend(self.begin_sync(now.instant));
        actions
    }

    /// When there is something to do, if nothing happens before.
    pub fn next_due(&self) -> Option<Instant> {
        let sync = self.unsynced.front().filter(|_| self.syncing.is_none());
        let sync = sync.map(|it| it.since + SYNC_AFTER);
        let retry = self.setback.as_ref().map(|(_, at)| *at);
        let retry = retry.filter(|_| self.may_create());
        sync.into_iter().chain(retry).min()
    }

    /// A write ended.
    pub fn wrote(&mut self, result: io::Result<()>, now: Now) {
        let Some(Writing { segment, lines }) = self.writing.take() else { return };
        let is_sound = self.head == Some(segment);
        match result {
            Ok(()) if is_sound => self.placed(segment, lines, now.instant),
            // A sync of the same file failed meanwhile.
            Ok(()) => self.back_to_the_queue(lines),
            Err(error) => {
                self.back_to_the_queue(lines);
                self.distrust(segment, &format!("a write failed: {error}"), now);
            }
        }
        self.settle_down();
    }

    /// A sync ended.
    pub fn synced(&mut self, segment: u32, result: io::Result<()>, now: Now) {
        let Some(syncing) = self.syncing.take() else { return };
        if self.found.pop_front_if(|found| *found == segment).is_some() {
            if let Err(error) = result {
                tracing::error!(%error, segment, "a power cut may yet take what is in a segment");
                self.doubted.push(segment);
            }
            return;
        }
        match result {
            Ok(()) => {
                for Unsynced { line, .. } in self.unsynced.drain(..syncing.lines) {
                    if let (false, Some(key)) = (line.is_told, line.subject.key()) {
                        self.notices.push(Notice::Told(key, true));
                    }
                    if matches!(line.subject, Subject::Carried(..)) {
                        self.carrying = self.carrying.saturating_sub(1);
                    }
                    self.notices.push(Notice::Safe(line.subject));
                }
            }
            // A write to the same file failed meanwhile: it is distrusted already.
            Err(_) if syncing.lines == 0 => {}
            Err(error) => self.distrust(segment, &format!("a sync failed: {error}"), now),
        }
        self.settle_down();
    }

    /// The creation of a segment ended.
    pub fn created(&mut self, segment: u32, result: io::Result<()>, now: Now) {
        match result {
            Ok(()) => {
                let (used, size) = (self.head_bytes, self.shelf.segment_bytes());
                self.shelf.add(segment, used, size, now.wall);
                self.spare = Spare::Ready(segment);
                self.setback = None;
            }
            Err(error) => {
                self.spare = Spare::None;
                if error.kind() == io::ErrorKind::StorageFull {
                    self.shelf.press();
                }
                let why = format!("no segment could be begun: {error}");
                self.setback = Some((why, now.instant + RETRY_AFTER));
            }
        }
    }

    fn begin_write(&mut self, now: Now) -> Option<Action> {
        if self.writing.is_some() {
            return None;
        }
        let next = self.queue.next()?;
        let (length, is_answer) = (next.record.len(), next.subject.is_answer());
        let is_full = self.shelf.is_full();
        if is_answer && is_full {
            self.get_into_trouble(FULL, now);
            return None;
        }
        let segment = self.segment_with_room(length, now)?;
        let offset = self.shelf.used(segment);
        let (mut bytes, mut lines) = (Vec::new(), Vec::new());
        while let Some(next) = self.queue.next() {
            let end = bytes.len() + padded(next.record.len());
            let fits = self.shelf.has_room(segment, end) && end <= WRITE_BYTES_MAX;
            if !fits || (is_full && next.subject.is_answer()) {
                break;
            }
            bytes.extend_from_slice(&next.record);
            bytes.resize(end, 0);
            lines.extend(self.queue.pop());
        }
        self.writing = Some(Writing { segment, lines });
        Some(Action::Write { segment, offset, bytes })
    }

    /// The segment that the next record goes to, if there is one for it.
    fn segment_with_room(&mut self, length: usize, now: Now) -> Option<u32> {
        if let Some(head) = self.head.filter(|head| self.shelf.has_room(*head, length)) {
            return Some(head);
        }
        if let Spare::Ready(spare) = self.spare {
            if let Some(full) = self.head {
                self.shelf.close(full);
            }
            (self.head, self.spare) = (Some(spare), Spare::None);
            return Some(spare);
        }
        if let Some((why, _)) = self.setback.clone() {
            self.get_into_trouble(&why, now);
        }
        None
    }

    fn begin_creation(&mut self, now: Now) -> Option<Action> {
        let is_too_soon = self.setback.as_ref().is_some_and(|(_, at)| *at > now.instant);
        if is_too_soon || !self.may_create() {
            return None;
        }
        self.last_segment += 1;
        let segment = self.last_segment;
        let head = Record::Opened(Opening { at: now.wall, ..self.opening }).encode(0)?;
        self.spare = Spare::Creating(segment);
        let mut padded_head = head.to_vec();
        padded_head.resize(padded(head.len()), 0);
        let bytes = self.shelf.segment_bytes();
        Some(Action::Create { segment, bytes, head: Bytes::from(padded_head) })
    }

    fn may_create(&self) -> bool {
        let is_wanted = !self.is_closing || !self.queue.is_empty();
        let purpose = match self.head {
            None => Purpose::Recovery,
            Some(_) if self.queue.notes() > 0 => Purpose::Room,
            Some(_) => Purpose::Answers,
        };
        self.spare == Spare::None && is_wanted && self.shelf.may_add(purpose)
    }

    fn begin_sync(&mut self, now: Instant) -> Option<Action> {
        if self.syncing.is_some() {
            return None;
        }
        if let Some(segment) = self.found.front().copied() {
            self.syncing = Some(Syncing { segment, lines: 0 });
            return Some(Action::Sync { segment });
        }
        let first = self.unsynced.front()?;
        let is_awaited = self.fsync == Fsync::Disk || self.is_closing || self.carrying > 0;
        if !is_awaited && now < first.since + SYNC_AFTER {
            return None;
        }
        let segment = first.segment;
        let lines = self.unsynced.iter().take_while(|it| it.segment == segment).count();
        self.syncing = Some(Syncing { segment, lines });
        Some(Action::Sync { segment })
    }

    /// These lines stand in the segment.
    fn placed(&mut self, segment: u32, lines: Vec<Line>, now: Instant) {
        let mut at = self.shelf.used(segment);
        for mut line in lines {
            let length = line.record.len();
            let offset = u32::try_from(at).unwrap_or(u32::MAX);
            let position =
                Position { segment, offset, length: u32::try_from(length).unwrap_or_default() };
            at += padded(length) as u64;
            if line.subject.key().is_some() {
                self.shelf.enter(segment, line.at);
            }
            self.notices.push(Notice::Written(line.subject, position));
            if self.fsync == Fsync::Process {
                self.tell(&line, true);
                line.is_told = true;
            }
            self.unsynced.push_back(Unsynced { segment, since: now, line });
        }
        self.shelf.advance(segment, at);
        self.let_go_beyond();
    }

    /// A disk that takes writes and does not sync them would fill the memory: the oldest are let go of.
    fn let_go_beyond(&mut self) {
        while self.unsynced.len() > self.memory_max {
            let Some(Unsynced { line, .. }) = self.unsynced.pop_front() else { return };
            if let Some(syncing) = &mut self.syncing {
                syncing.lines = syncing.lines.saturating_sub(1);
            }
            if matches!(line.subject, Subject::Carried(..)) {
                self.carrying = self.carrying.saturating_sub(1);
            }
            self.tell(&line, false);
            self.notices.push(Notice::Safe(line.subject));
        }
    }

    /// Nobody knows what the segment holds beyond its last sync: nothing is appended to it any more.
    fn distrust(&mut self, segment: u32, why: &str, now: Now) {
        self.shelf.close(segment);
        if self.head == Some(segment) {
            self.head = None;
        }
        if let Some(syncing) = self.syncing.as_mut().filter(|it| it.segment == segment) {
            syncing.lines = 0;
        }
        let (adrift, rest): (Vec<_>, Vec<_>) =
            self.unsynced.drain(..).partition(|it| it.segment == segment);
        self.unsynced = rest.into();
        for Unsynced { line, .. } in &adrift {
            if line.subject.key().is_some() {
                self.shelf.leave(segment);
            }
            self.notices.push(Notice::Adrift(line.subject));
        }
        self.back_to_the_queue(adrift.into_iter().map(|it| it.line).collect());
        // What was written and not synced stays: the process may end before it stands elsewhere.
        if self.shelf.used(segment) == self.head_bytes {
            self.give_up(segment);
        }
        // What is begun next has proved that the disk takes a write and a sync.
        if let Spare::Ready(spare) = self.spare {
            self.spare = Spare::None;
            self.give_up(spare);
        }
        self.setback = Some((why.to_owned(), now.instant + RETRY_AFTER));
        self.get_into_trouble(why, now);
    }

    /// Nothing is in the segment that is worth the room.
    fn give_up(&mut self, segment: u32) {
        self.shelf.remove(segment);
        self.deletions.push(segment);
    }

    fn back_to_the_queue(&mut self, lines: Vec<Line>) {
        self.queue.push_back_in(lines.into_iter());
        self.forget_beyond();
        if self.trouble.is_some() {
            self.tell_all_undurable();
        }
    }

    fn get_into_trouble(&mut self, why: &str, now: Now) {
        if self.trouble.is_none() {
            tracing::error!(why, "answers go out undurable from now on");
            self.trouble = Some(Trouble { since: now.wall, why: why.to_owned() });
        }
        self.tell_all_undurable();
    }

    fn tell_all_undurable(&mut self) {
        for line in self.queue.lines().filter(|it| !it.is_told) {
            line.is_told = true;
            self.notices.extend(line.subject.key().map(|key| Notice::Told(key, false)));
        }
    }

    /// Ends the trouble once all that it kept in memory is in a file.
    fn settle_down(&mut self) {
        let is_behind = !self.queue.is_empty() || self.writing.is_some();
        let is_unsynced = self.fsync == Fsync::Disk && !self.unsynced.is_empty();
        if self.head.is_none() || is_behind || is_unsynced || self.shelf.is_full() {
            return;
        }
        if let Some(Trouble { since, why }) = self.trouble.take() {
            tracing::warn!(%since, why, "answers are durable again");
        }
    }
}
