//! The time, as the machines are told it.

use backstop_contract::Timestamp;
use tokio::time::Instant;

/// One moment on both clocks: the one that never steps, for waits, and the one on the wall, for ages.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For waits.
    pub instant: Instant,
    /// For ages, which outlive the process.
    pub wall: Timestamp,
}

impl Now {
    /// Both clocks, read now.
    pub fn read() -> Self {
        Self { instant: Instant::now(), wall: Timestamp::now() }
    }
}
