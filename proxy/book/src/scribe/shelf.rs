//! The segments as the scribe counts them, and which has to go.
//!
//! A segment goes whole, the oldest first: past `bytes_max`, `keys_max` or `age_max`. What core is still
//! owed in it is carried forward first. Debts may hold a good half of the book; with more of them, carrying
//! would copy more than it frees, so the book is full until some are settled.

use std::collections::BTreeMap;

use backstop_contract::Timestamp;

use crate::place::Position;
use crate::record::padded;
use crate::settings::Settings;

/// Segments at most, since each that was left by a restart may be nearly empty.
const SEGMENTS_MAX: usize = 1_024;
/// The smallest segment.
const SEGMENT_BYTES_MIN: u64 = 1 << 12;

/// The segments on disk.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    segments: BTreeMap<u32, Volume>,
    bounds: Bounds,
    totals: Volume,
    is_full: bool,
    is_pressed: bool,
    /// What was found at the start, as far as it is still there: it may be more than the book may take now.
    found: u64,
}

/// What is in a segment; or in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// Where the next record goes.
    pub used: u64,
    /// On disk.
    pub size: u64,
    /// Answers in it.
    pub entries: u64,
    /// Those that core is owed, or refused.
    pub debts: u64,
    /// Their bytes.
    pub debt_bytes: u64,
    /// When the request of the youngest answer came.
    pub newest: Timestamp,
    /// When that of the oldest did, or when the segment was begun.
    pub oldest: Timestamp,
    /// Nothing may be appended to it any more.
    pub is_closed: bool,
}

/// What another segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// More answers.
    Answers,
    /// What makes room: acknowledgements, and debts that are carried forward.
    Room,
    /// Going on after the disk failed. Until there is one, nothing can make room either; so the book may be
    /// over its bound by two, and no more, however often the disk fails.
    Recovery,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    segment_bytes: u64,
    bytes_max: u64,
    debt_bytes_max: u64,
    keys_max: u64,
    age_max_millis: i64,
}

impl Shelf {
    /// An empty shelf.
    pub fn new(settings: &Settings) -> Self {
        let eighth = std::cmp::max(settings.bytes_max / 8, SEGMENT_BYTES_MIN);
        let segment_bytes = settings.segment_bytes.clamp(SEGMENT_BYTES_MIN, eighth);
        let segment_bytes = std::cmp::min(segment_bytes, 1 << 30);
        let bytes_max = std::cmp::max(settings.bytes_max, segment_bytes * 8);
        let bounds = Bounds {
            segment_bytes,
            bytes_max,
            // Of what is left beside the head, the spare, and room for two more.
            debt_bytes_max: (bytes_max - 4 * segment_bytes) / 4 * 3,
            keys_max: settings.keys_max as u64,
            age_max_millis: i64::try_from(settings.age_max.as_millis()).unwrap_or(i64::MAX),
        };
        Self { bounds, ..Self::default() }
    }

    /// From here on segments are begun.
    pub const fn begin_anew(&mut self) {
        self.found = self.totals.size;
    }

    /// The size of a segment.
    pub const fn segment_bytes(&self) -> u64 {
        self.bounds.segment_bytes
    }

    /// All of them together.
    pub const fn totals(&self) -> &Volume {
        &self.totals
    }

    /// How full they are, by number.
    pub fn segments(&self) -> impl Iterator<Item = (u32, &Volume)> {
        self.segments.iter().map(|(segment, volume)| (*segment, volume))
    }

    /// The number of the youngest; 0 where there is none.
    pub fn last(&self) -> u32 {
        self.segments.last_key_value().map_or(0, |(segment, _)| *segment)
    }

    /// A segment came to be, with a head of `used` bytes.
    pub fn add(&mut self, segment: u32, used: u64, size: u64, at: Timestamp) {
        let volume = Volume { used, size, newest: at, oldest: at, ..Volume::default() };
        self.totals.size += size;
        self.segments.insert(segment, volume);
    }

    /// It was begun then, or the first answer that is found in it came then.
    pub fn begin(&mut self, segment: u32, at: Timestamp) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            (volume.oldest, volume.newest) = (at, at);
        }
    }

    /// It takes this much on disk.
    pub fn resize(&mut self, segment: u32, size: u64) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            self.totals.size = self.totals.size - volume.size + size;
            volume.size = size;
        }
    }

    /// The disk has no room for another segment, whatever the book may take: the oldest has to go.
    pub const fn press(&mut self) {
        self.is_pressed = true;
    }

    /// A segment is no more.
    pub fn remove(&mut self, segment: u32) {
        self.is_pressed = false;
        if let Some(gone) = self.segments.remove(&segment) {
            self.totals.size -= gone.size;
            self.totals.entries -= gone.entries;
            self.totals.debts -= gone.debts;
            self.totals.debt_bytes -= gone.debt_bytes;
            self.found = std::cmp::min(self.found, self.totals.size);
        }
    }

    /// Nothing is appended to it any more.
    pub fn close(&mut self, segment: u32) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            volume.is_closed = true;
        }
    }

    /// Whether a record of this length has its place in the segment.
    pub fn has_room(&self, segment: u32, length: usize) -> bool {
        let Some(volume) = self.segments.get(&segment) else { return false };
        let fits = volume.used + padded(length) as u64 <= volume.size;
        // So that one can go when there are too many keys, they are spread over several.
        fits && !volume.is_closed && volume.entries <= self.bounds.keys_max / 8
    }

    /// Where the next record in the segment goes.
    pub fn used(&self, segment: u32) -> u64 {
        self.segments.get(&segment).map_or(0, |it| it.used)
    }

    /// What the segment holds, if it is there.
    pub fn volume(&self, segment: u32) -> Option<&Volume> {
        self.segments.get(&segment)
    }

    /// The segment is written up to here.
    pub fn advance(&mut self, segment: u32, used: u64) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            volume.used = used;
        }
    }

    /// An answer stands in the segment, to a request of this time.
    pub fn enter(&mut self, segment: u32, at: Timestamp) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            volume.entries += 1;
            volume.newest = std::cmp::max(volume.newest, at);
            volume.oldest = std::cmp::min(volume.oldest, at);
            self.totals.entries += 1;
        }
    }

    /// An answer that stood in the segment is not to be relied on there.
    pub fn leave(&mut self, segment: u32) {
        if let Some(volume) = self.segments.get_mut(&segment) {
            volume.entries = volume.entries.saturating_sub(1);
            self.totals.entries = self.totals.entries.saturating_sub(1);
        }
    }

    /// Core is owed what stands here.
    pub fn owe(&mut self, position: Position) {
        if let Some(volume) = self.segments.get_mut(&position.segment) {
            for volume in [volume, &mut self.totals] {
                volume.debts += 1;
                volume.debt_bytes += padded(position.length as usize) as u64;
            }
        }
    }

    /// Core is not owed what stands here any more, or it stands elsewhere.
    pub fn clear(&mut self, position: Position) {
        if let Some(volume) = self.segments.get_mut(&position.segment) {
            for volume in [volume, &mut self.totals] {
                let bytes = padded(position.length as usize) as u64;
                volume.debts = volume.debts.saturating_sub(1);
                volume.debt_bytes = volume.debt_bytes.saturating_sub(bytes);
            }
        }
    }

    /// Whether there may be one more segment for this purpose.
    pub fn may_add(&self, purpose: Purpose) -> bool {
        let Bounds { segment_bytes, bytes_max, .. } = self.bounds;
        let bytes = self.totals.size + segment_bytes;
        let two = 2 * segment_bytes;
        match purpose {
            Purpose::Answers => bytes + segment_bytes <= bytes_max,
            Purpose::Room => bytes <= std::cmp::max(bytes_max, self.found + two),
            Purpose::Recovery => bytes <= std::cmp::max(bytes_max, self.found) + two,
        }
    }

    /// Whether debts alone fill the book. Once so, until an eighth of them is settled.
    pub fn is_full(&mut self) -> bool {
        let Bounds { debt_bytes_max, keys_max, .. } = self.bounds;
        let eighths = if self.is_full { 7 } else { 8 };
        self.is_full = self.totals.debt_bytes > debt_bytes_max / 8 * eighths
            || self.totals.debts > keys_max / 16 * eighths;
        self.is_full
    }

    /// The oldest segment, if it has to go and can.
    pub fn to_go(&mut self, now: Timestamp, spares: u64) -> Option<u32> {
        let is_full = self.is_full();
        let (segment, oldest) = self.segments.first_key_value()?;
        if !oldest.is_closed || (is_full && oldest.debts > 0) {
            return None;
        }
        let Bounds { segment_bytes, bytes_max, keys_max, age_max_millis, .. } = self.bounds;
        // Room for the next one and for what settles debts, before either is asked for.
        let wanted = self.totals.size + (3 - std::cmp::min(spares, 1)) * segment_bytes;
        let is_old = oldest.newest.as_millis().saturating_add(age_max_millis) < now.as_millis();
        let must = wanted > bytes_max
            || self.totals.entries > keys_max - keys_max / 8
            || self.segments.len() > SEGMENTS_MAX
            || self.is_pressed
            || is_old;
        must.then_some(*segment)
    }

    /// When the oldest answer came that is still known.
    pub fn oldest(&self) -> Option<Timestamp> {
        let (_, volume) = self.segments.iter().find(|(_, volume)| volume.entries > 0)?;
        Some(volume.oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn shelf(closed: u32) -> Shelf {
        let mut shelf = Shelf::new(&Settings {
            bytes_max: 8 << 12,
            segment_bytes: 1 << 12,
            keys_max: 80,
            age_max: Duration::from_secs(10),
            ..Settings::default()
        });
        for segment in 1..=closed + 1 {
            shelf.add(segment, 64, 1 << 12, Timestamp::from_millis(0));
            if segment <= closed {
                shelf.close(segment);
            }
        }
        shelf
    }

    const fn at(segment: u32, length: u32) -> Position {
        Position { segment, offset: 64, length }
    }

    #[test]
    fn the_oldest_goes_when_the_next_would_not_fit() {
        let now = Timestamp::from_millis(0);
        // Closed ones and the head; then a spare, the next one, and one kept back for what settles debts.
        assert_eq!(shelf(4).to_go(now, 0), None, "4 + 1 + 3 = 8");
        assert_eq!(shelf(5).to_go(now, 0), Some(1));
        assert_eq!(shelf(5).to_go(now, 1), None);
        for (purpose, most) in [(Purpose::Answers, 5), (Purpose::Room, 6), (Purpose::Recovery, 8)] {
            let may = [most, most + 1].map(|closed| shelf(closed).may_add(purpose));
            assert_eq!(may, [true, false], "{purpose:?}");
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_keys_or_it_is_too_old() {
        let mut shelf = shelf(1);
        let now = Timestamp::from_millis(0);
        for _ in 0..70 {
            shelf.enter(1, now);
        }
        assert_eq!(shelf.to_go(now, 1), None);
        shelf.enter(1, now);
        assert_eq!(shelf.to_go(now, 1), Some(1));
        let mut shelf = super::tests::shelf(1);
        shelf.enter(1, Timestamp::from_millis(5));
        assert_eq!(shelf.to_go(Timestamp::from_millis(10_005), 1), None);
        assert_eq!(shelf.to_go(Timestamp::from_millis(10_006), 1), Some(1));
    }

    #[test]
    fn the_oldest_goes_when_the_disk_has_no_room_for_another() {
        let (mut shelf, now) = (shelf(2), Timestamp::from_millis(0));
        assert_eq!(shelf.to_go(now, 0), None);
        shelf.press();
        assert_eq!(shelf.to_go(now, 0), Some(1));
        shelf.remove(1);
        assert_eq!(shelf.to_go(now, 0), None, "one at a time");
    }

    #[test]
    fn keys_are_spread_so_that_one_segment_can_go() {
        let mut shelf = shelf(0);
        for _ in 0..11 {
            assert!(shelf.has_room(1, 8));
            shelf.enter(1, Timestamp::from_millis(0));
        }
        assert!(!shelf.has_room(1, 8));
    }

    #[test]
    fn debts_that_fill_the_book_keep_it_until_an_eighth_is_settled() {
        let mut shelf = shelf(5);
        // (8 - 4) segments, three quarters of them: 12,288 bytes.
        for _ in 0..12 {
            shelf.owe(at(2, 1_024));
        }
        assert!(!shelf.is_full());
        shelf.owe(at(2, 8));
        assert!(shelf.is_full());
        assert_eq!(shelf.to_go(Timestamp::from_millis(0), 0), Some(1), "nothing in it is owed");
        shelf.owe(at(1, 8));
        assert_eq!(shelf.to_go(Timestamp::from_millis(0), 0), None);
        shelf.clear(at(2, 1_024));
        assert!(shelf.is_full(), "not yet an eighth");
        shelf.clear(at(2, 1_024));
        assert!(!shelf.is_full());
    }
}
