//! What the book says of itself.

use std::path::PathBuf;
use std::time::Duration;

use backstop_contract::Timestamp;

/// How the book fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// New answers are written down. False: they go out with `durable: false`, and `why` says why.
    pub trusted: bool,
    /// Since when it is not trusted.
    pub since: Option<Timestamp>,
    /// Why it is not trusted; else empty.
    pub why: String,
    /// Answers in its files.
    pub entries: u64,
    /// Ids whose answer it knows, in files and in memory.
    pub keys: u64,
    /// Of its files on disk.
    pub bytes: u64,
    /// Stand-ins that core has yet to settle.
    pub unsettled: u64,
    /// Stand-ins that core refused, and those that can not be read any more.
    pub set_aside: u64,
    /// Answers that are in memory alone now.
    pub undurable: u64,
    /// Answers that went out before they were written down, since the start.
    pub undurable_total: u64,
    /// Stand-ins whose record was lost before core heard of them, since the start.
    pub forgotten_debts_total: u64,
    /// Other answers let go of while the disk took none, since the start.
    pub forgotten_total: u64,
    /// How far back it remembers what core also knows.
    pub horizon: Duration,
    /// Damaged files that were set aside and lie in the folder.
    pub corrupt_files: u64,
    /// How many there are of each tier and state, for metrics.
    pub counts: Vec<Count>,
}

/// How many answers of one tier are in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// `core`, `api`, `edge`, `client` or `newer`.
    pub decided_by: &'static str,
    /// `final`, `unsettled`, `settled` or `set_aside`.
    pub state: &'static str,
    /// How many.
    pub entries: u64,
}

/// What was found in the folder when the book was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// The name of this node, for life.
    pub node: String,
    /// Of the numbers of advices from now on.
    pub epoch: u64,
    /// Files that were read.
    pub segments: u64,
    /// Answers in them.
    pub entries: u64,
    /// Stand-ins among them that core has yet to settle.
    pub unsettled: u64,
    /// Stand-ins among them that core refused.
    pub set_aside: u64,
    /// Bytes of torn tails that were cut: appends that the process did not live to finish.
    pub cut_bytes: u64,
    /// Damaged files, set aside now; what was readable in them was kept.
    pub corrupt: Vec<PathBuf>,
    /// Bytes in them that can not be read.
    pub lost_bytes: u64,
}
