//! What an operator may set, as the book uses it.

use std::time::Duration;

/// When an answer counts as written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Once the system has it: it survives the end of the process, and some 50 ms later that of the
    /// machine; while the disk hangs in a sync, only once that has ended.
    Process,
    /// Once the disk has it: it survives a loss of power. Answers that come together share one sync.
    Disk,
}

/// The bounds of the book. A field holds as far as it makes sense beside the others: a segment is never
/// over an eighth of the book, whatever is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// When an answer counts as written down.
    pub fsync: Fsync,
    /// Of all segments on disk; beyond, the oldest that core knows are forgotten.
    pub bytes_max: u64,
    /// Answers that the book can repeat; 60 bytes of memory each.
    pub keys_max: usize,
    /// What core knows is forgotten after this long.
    pub age_max: Duration,
    /// Of one file.
    pub segment_bytes: u64,
    /// Answers that wait to be written down; the next are released as they are, undurable.
    pub queue_max: usize,
    /// Answers kept in memory while the disk takes none.
    pub memory_max: usize,
    /// Advices in one message to core.
    pub batch_max: usize,
    /// Such messages under way.
    pub in_flight_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fsync: Fsync::Process,
            bytes_max: 1 << 30,
            keys_max: 4_000_000,
            age_max: Duration::from_hours(720),
            segment_bytes: 1 << 26,
            queue_max: 8_192,
            memory_max: 100_000,
            batch_max: 64,
            in_flight_max: 2,
        }
    }
}
