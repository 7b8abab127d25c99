//! A disk that does what disks do: it is slow or full, fails to sync, and after a power cut holds what was
//! synced and of the rest whatever it had got round to.

use std::collections::BTreeMap;
use std::io;

use backstop_book::place::Position;
use backstop_book::scribe::{Action, Done};
use bytes::Bytes;

use super::dice::Dice;

/// What a disk writes at a time: all of it, or nothing.
const SECTOR: usize = 512;
/// A write, and a sync, usually, in microseconds.
const WRITE: u64 = 10;
const SYNC: u64 = 800;
const SLOW: u64 = 250;

/// The files of one book.
#[derive(Default)]
pub struct Disk {
    segments: BTreeMap<u32, File>,
    /// Whose removal the disk may not have got round to.
    removed: Vec<(u32, File)>,
    under_way: BTreeMap<u64, UnderWay>,
    operations: u64,
    pub is_full: bool,
    pub is_slow: bool,
    pub syncs_fail: bool,
    /// The last of the segments that are never synced, though it is asked for.
    pub unsynced_until: u32,
}

/// What was begun and has not ended.
struct UnderWay {
    action: Action,
    /// It takes as long as it takes, though the disk may be well again before it ends.
    is_slow: bool,
}

/// What programs see, and what would be left without power.
#[derive(Clone, Default)]
struct File {
    seen: Vec<u8>,
    /// As the system last believed to have kept it.
    clean: Vec<u8>,
    kept: Vec<u8>,
}

impl File {
    fn holding(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), clean: bytes.clone(), kept: bytes }
    }
}

/// What a power cut leaves of what was not synced.
#[derive(Clone, Copy)]
enum Luck {
    None,
    All,
    /// The first of it, as far as it got.
    Prefix,
    /// Here and there a sector.
    Some,
}

impl Disk {
    /// Begins an action: its name, and how long it takes.
    pub fn begin(&mut self, action: Action, dice: &mut Dice) -> (u64, u64) {
        let usual = match &action {
            Action::Write { .. } | Action::Read { .. } => WRITE,
            Action::Sync { .. } | Action::Create { .. } | Action::Delete { .. } => SYNC,
        };
        let takes = dice.wait(if self.is_slow { usual * SLOW } else { usual });
        self.operations += 1;
        self.under_way.insert(self.operations, UnderWay { action, is_slow: self.is_slow });
        (self.operations, takes)
    }

    /// Ends it.
    pub fn end(&mut self, operation: u64, dice: &mut Dice) -> Option<Done> {
        let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
        Some(match self.under_way.remove(&operation)?.action {
            Action::Write { segment, offset, bytes } => {
                if self.is_full && dice.permille(500) {
                    // Some of it may be there all the same.
                    let some = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
                    self.write(segment, offset, &bytes[..some]);
                    return Some(Done::Wrote(full()));
                }
                self.write(segment, offset, &bytes);
                Done::Wrote(Ok(()))
            }
            Action::Sync { segment } => Done::Synced(segment, self.sync(segment)),
            Action::Create { segment, .. } if self.is_full => Done::Created(segment, full()),
            Action::Create { segment, bytes, head } => {
                let mut seen = head.to_vec();
                seen.resize(usize::try_from(bytes).unwrap(), 0);
                self.segments.insert(segment, File::holding(seen));
                Done::Created(segment, Ok(()))
            }
            Action::Delete { segment } => {
                self.remove(segment);
                Done::Deleted(segment)
            }
            Action::Read { positions } => {
                Done::Read(positions.iter().map(|position| self.read(*position)).collect())
            }
        })
    }

    fn write(&mut self, segment: u32, offset: u64, bytes: &[u8]) {
        let offset = usize::try_from(offset).unwrap();
        let file = self.segments.get_mut(&segment).expect("it writes to what it created");
        file.seen[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Keeps what is seen of a segment.
    fn sync(&mut self, segment: u32) -> io::Result<()> {
        if segment <= self.unsynced_until {
            return Ok(());
        }
        let file = self.segments.get_mut(&segment).expect("it syncs what it created");
        if !self.syncs_fail {
            let sectors = file.seen.chunks(SECTOR).zip(file.clean.chunks(SECTOR));
            for (kept, (seen, clean)) in file.kept.chunks_mut(SECTOR).zip(sectors) {
                if seen != clean {
                    kept.copy_from_slice(seen);
                }
            }
        }
        // What a sync failed to keep counts as kept all the same: the next sync is good, and loses it.
        file.clean.clone_from(&file.seen);
        if self.syncs_fail { Err(io::Error::other("the disk is failing")) } else { Ok(()) }
    }

    /// The bytes there, if they are.
    pub fn read(&self, position: Position) -> Option<Bytes> {
        let file = self.segments.get(&position.segment)?;
        let from = usize::try_from(position.offset).unwrap();
        let bytes = file.seen.get(from..from + usize::try_from(position.length).unwrap())?;
        Some(Bytes::copy_from_slice(bytes))
    }

    /// The process dies. What the system was told to write, it may yet write, or not.
    pub fn kill(&mut self, dice: &mut Dice) {
        for (_, UnderWay { action, .. }) in std::mem::take(&mut self.under_way) {
            match action {
                Action::Write { segment, offset, bytes } => {
                    let some = usize::try_from(dice.below(bytes.len() as u64 + 1)).unwrap();
                    self.write(segment, offset, &bytes[..some]);
                }
                Action::Create { segment, bytes, head } if dice.permille(500) => {
                    let mut seen = if dice.permille(500) { head.to_vec() } else { Vec::new() };
                    seen.resize(usize::try_from(bytes).unwrap(), 0);
                    self.segments.insert(segment, File::holding(seen));
                }
                Action::Delete { segment } if dice.permille(500) => self.remove(segment),
                _ => {}
            }
        }
    }

    /// The power goes.
    pub fn lose_power(&mut self, dice: &mut Dice) {
        self.kill(dice);
        for (segment, file) in std::mem::take(&mut self.removed) {
            if dice.permille(500) {
                self.segments.entry(segment).or_insert(file);
            }
        }
        let luck = *dice.pick(&[Luck::None, Luck::All, Luck::Prefix, Luck::Some]);
        for file in self.segments.values_mut() {
            let sectors = file.seen.len().div_ceil(SECTOR) as u64;
            let reached = dice.below(sectors + 1);
            for (sector, kept) in file.kept.chunks_mut(SECTOR).enumerate() {
                let seen = &file.seen[sector * SECTOR..][..kept.len()];
                let is_kept = match luck {
                    Luck::None => false,
                    Luck::All => true,
                    Luck::Prefix => (sector as u64) < reached,
                    Luck::Some => seen != kept && dice.permille(500),
                };
                if is_kept {
                    kept.copy_from_slice(seen);
                }
            }
            *file = File::holding(std::mem::take(&mut file.kept));
        }
    }

    /// Whether what is written now may not be synced soon: one sync is under way at a time, and the next
    /// waits for it.
    pub fn is_unwell(&self) -> bool {
        let is_late = self.under_way.values().any(|it| it.is_slow);
        self.is_full || self.is_slow || self.syncs_fail || is_late
    }

    /// A restart removes a segment; without power, it may be back.
    pub fn remove(&mut self, segment: u32) {
        let removed = self.segments.remove(&segment).map(|file| (segment, file));
        self.removed.extend(removed);
    }

    /// It cuts a tail, which syncs nothing.
    pub fn cut(&mut self, segment: u32, size: usize) {
        if let Some(file) = self.segments.get_mut(&segment) {
            for bytes in [&mut file.seen, &mut file.clean, &mut file.kept] {
                bytes.truncate(size);
            }
        }
    }

    /// It puts another file in the place of a segment, for good.
    pub fn replace(&mut self, segment: u32, bytes: Vec<u8>) {
        self.segments.insert(segment, File::holding(bytes));
    }

    /// The segments and their bytes, as a restart finds them.
    pub fn segments(&self) -> impl Iterator<Item = (u32, &[u8])> {
        self.segments.iter().map(|(segment, file)| (*segment, file.seen.as_slice()))
    }
}
