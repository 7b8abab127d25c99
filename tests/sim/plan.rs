//! What happens in one run, before it begins: each seed tries another mix of faults, since what is always
//! there hides what only its absence shows.

use backstop_book::Fsync;

use super::dice::Dice;

/// A rule of the protocol that the wiring can leave out, to see that the checker catches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Safety {
    /// Under policy `disk` an answer waits for its sync.
    SyncAwaited,
    /// A decision finds the row of an advice.
    DecideFindsTheRow,
    /// Another node's advice replaces nothing.
    ReleasedStands,
    /// An answer is in the book before it leaves.
    BookBeforeRelease,
    /// A restarted edge ships what its book has not settled.
    ShipAfterRestart,
    /// What a killed edge wrote is synced before it counts.
    SyncAfterRestart,
}

impl Safety {
    pub const ALL: [Self; 6] = [
        Self::SyncAwaited,
        Self::DecideFindsTheRow,
        Self::ReleasedStands,
        Self::BookBeforeRelease,
        Self::ShipAfterRestart,
        Self::SyncAfterRestart,
    ];
}

/// How often each fault strikes. Those of messages and of the disk in a thousand times, the others as the
/// usual time between two of them in microseconds; 0 is never.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub drop: u64,
    pub duplicate: u64,
    /// Held back for up to a second, so that later messages overtake it.
    pub delay: u64,
    pub edge_kill: u64,
    /// Takes with it what the disk was not told to keep.
    pub power_cut: u64,
    pub api_kill: u64,
    pub core_kill: u64,
    pub database_outage: u64,
    pub partition: u64,
    pub disk_full: u64,
    pub disk_slow: u64,
    pub sync_fails: u64,
    /// Another stack serves from now on.
    pub switch: u64,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub without: Option<Safety>,
    /// What happens is written down, to be shown.
    pub is_traced: bool,
    /// With two, an id may be asked at both, and their defaults differ.
    pub edges: usize,
    pub fsync: Fsync,
    pub segment_bytes: u64,
    /// The book holds eight segments, and forgets.
    pub is_small: bool,
    /// Transactions that clients want decided.
    pub demands: u64,
    /// The time in which they come; the faults end with it. In microseconds.
    pub lasts: u64,
    pub faults: Faults,
}

const SECOND: u64 = 1_000_000;

impl Plan {
    pub fn of(seed: u64, without: Option<Safety>) -> Self {
        let mut dice = Dice::of(seed ^ 0x5eed_5eed_5eed_5eed);
        let mut some = |often, value: u64| if dice.permille(often) { value } else { 0 };
        let faults = Faults {
            drop: some(500, 30),
            duplicate: some(500, 30),
            delay: some(500, 50),
            edge_kill: some(500, 2 * SECOND),
            power_cut: some(300, 3 * SECOND),
            api_kill: some(400, 2 * SECOND),
            core_kill: some(500, 2 * SECOND),
            database_outage: some(400, 3 * SECOND),
            partition: some(400, 3 * SECOND),
            disk_full: some(250, 4 * SECOND),
            disk_slow: some(300, 2 * SECOND),
            sync_fails: some(200, 5 * SECOND),
            switch: some(400, 2 * SECOND),
        };
        let is_small = dice.permille(150);
        let edges = if dice.permille(200) { 2 } else { 1 };
        let fsync = if dice.permille(500) { Fsync::Disk } else { Fsync::Process };
        let segment_bytes = *dice.pick(&[1 << 12, 1 << 14, 1 << 16]);
        let demands = dice.between(20, 60);
        let plan = Self {
            seed,
            without,
            is_traced: false,
            edges,
            fsync,
            segment_bytes,
            is_small,
            demands,
            lasts: 6 * SECOND,
            faults,
        };
        plan.fit_for_what_is_missing()
    }

    /// What a rule guards against does happen where it is left out.
    fn fit_for_what_is_missing(mut self) -> Self {
        match self.without {
            Some(Safety::SyncAwaited) => {
                self.fsync = Fsync::Disk;
                self.faults.power_cut = SECOND;
            }
            Some(Safety::ReleasedStands) => self.edges = 2,
            Some(Safety::BookBeforeRelease | Safety::ShipAfterRestart) => {
                self.faults.edge_kill = SECOND;
            }
            Some(Safety::SyncAfterRestart) => {
                self.faults.edge_kill = SECOND;
                self.faults.power_cut = SECOND;
            }
            Some(Safety::DecideFindsTheRow) | None => {}
        }
        self
    }

    /// Whether a book may have to let go of what core knows as well.
    pub const fn may_forget(&self) -> bool {
        self.is_small || self.faults.disk_full > 0
    }

    /// Whether a rule is in force.
    pub fn has(&self, safety: Safety) -> bool {
        self.without != Some(safety)
    }
}
