//! `[edge]` of `backstop.toml`: the proxy, its book, and what it ships of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{DAY, GIB, HOUR, MIB, MINUTE, SECOND};
use crate::address::{self, Address};
use crate::value::{duration, number, path_or_none};

/// The most that `stand_in_approvals_max` may be, here and of one merchant.
pub const STAND_IN_APPROVALS_MAX: u64 = 1_000_000_000;
/// The most that `stand_in_amount_max` may be, here and of one merchant: 2^53 - 1.
pub const STAND_IN_AMOUNT_MAX: u64 = 9_007_199_254_740_991;

/// `[edge]`: the proxy, which merchants talk to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// Threads that serve requests.
    #[serde(deserialize_with = "number::<1, 64, _, _>")]
    pub threads: usize,
    /// Open connections of merchants.
    #[serde(deserialize_with = "number::<16, 1_000_000, _, _>")]
    pub connections_max: usize,
    /// A connection without a request is closed after this long.
    #[serde(deserialize_with = "duration::<SECOND, HOUR, _>")]
    pub idle_timeout: Duration,
    /// For the TLS handshake of a new connection.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub handshake_timeout: Duration,
    /// For the whole head of a request, from its first byte.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub header_timeout: Duration,
    /// For the whole body of a request; its budget starts after it.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub body_timeout: Duration,
    /// A longer body is refused.
    #[serde(deserialize_with = "number::<1_024, 65_536, _, _>")]
    pub body_bytes_max: usize,
    /// Read of a refused body, so that its sender sees the answer.
    #[serde(deserialize_with = "number::<65_536, { 64 * MIB }, _, _>")]
    pub drain_bytes_max: usize,
    /// Of each budget, kept back to answer here.
    #[serde(deserialize_with = "duration::<1, SECOND, _>")]
    pub reserve: Duration,
    /// The longest wait for the api, whatever the budget.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub timeout_max: Duration,
    /// An exchange that nobody waits for any more is ended after this long.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub exchange_time_max: Duration,
    /// Exchanges with the api at a time.
    #[serde(deserialize_with = "number::<16, 65_536, _, _>")]
    pub exchanges_max: usize,
    /// Idle connections to each api that exchanges keep open, and as many again that probes do.
    #[serde(deserialize_with = "number::<1, 65_536, _, _>")]
    pub api_connections_max: usize,
    /// The apis of prod; none: the one in `--dir`.
    #[serde(deserialize_with = "address::list")]
    pub prod_apis: Vec<Address>,
    /// The apis of old-prod; none: the one in `--dir`.
    #[serde(deserialize_with = "address::list")]
    pub old_prod_apis: Vec<Address>,
    /// For one run of a default.
    #[serde(deserialize_with = "duration::<1, SECOND, _>")]
    pub default_time_max: Duration,
    /// For one run of a default.
    #[serde(deserialize_with = "number::<MIB, { 256 * MIB }, _, _>")]
    pub policy_memory_bytes_max: usize,
    /// How often `merchants.toml` is looked at.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub merchants_reload_every: Duration,
    /// Decisions by core whose budget ledger is kept for `backstop why`.
    #[serde(deserialize_with = "number::<1, 1_000_000, _, _>")]
    pub why_recent_max: usize,
    /// Stand-ins and late decisions whose budget ledger is kept.
    #[serde(deserialize_with = "number::<1, 1_000_000, _, _>")]
    pub why_degraded_max: usize,
    /// When an answer counts as written down.
    pub book_fsync: Fsync,
    /// Of the book on disk.
    #[serde(deserialize_with = "number::<{ 4 * MIB }, { 64 * GIB }, _, _>")]
    pub book_bytes_max: u64,
    /// Answers that the book can repeat.
    #[serde(deserialize_with = "number::<1_000, 100_000_000, _, _>")]
    pub book_keys_max: usize,
    /// What core knows is forgotten after this long.
    #[serde(deserialize_with = "duration::<MINUTE, { 400 * DAY }, _>")]
    pub book_age_max: Duration,
    /// Of one file of the book.
    #[serde(deserialize_with = "number::<MIB, GIB, _, _>")]
    pub book_segment_bytes: u64,
    /// Answers that wait to be written down.
    #[serde(deserialize_with = "number::<16, 65_536, _, _>")]
    pub book_queue_max: usize,
    /// Answers kept in memory while the disk takes none.
    #[serde(deserialize_with = "number::<1_000, 10_000_000, _, _>")]
    pub book_memory_max: usize,
    /// Advices in one message to the api.
    #[serde(deserialize_with = "number::<1, 256, _, _>")]
    pub advices_batch_max: usize,
    /// Messages with advices under way.
    #[serde(deserialize_with = "number::<1, 16, _, _>")]
    pub advices_in_flight_max: usize,
    /// Approvals a minute that stand-ins may give for one merchant.
    #[serde(deserialize_with = "number::<0, STAND_IN_APPROVALS_MAX, _, _>")]
    pub stand_in_approvals_max: u64,
    /// What they may approve a minute for one merchant, in minor units of each currency.
    #[serde(deserialize_with = "number::<0, STAND_IN_AMOUNT_MAX, _, _>")]
    pub stand_in_amount_max: u64,
    /// A PEM chain to serve; none: the one made in `--dir`.
    #[serde(deserialize_with = "path_or_none")]
    pub certificate: Option<PathBuf>,
    /// Its key; set if and only if `certificate` is.
    #[serde(deserialize_with = "path_or_none")]
    pub certificate_key: Option<PathBuf>,
}

/// When an answer counts as written down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// The system has it: it survives the end of the process, and a power cut after a few milliseconds.
    #[default]
    Process,
    /// The disk has it.
    Disk,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            threads: 2,
            connections_max: 10_000,
            idle_timeout: Duration::from_mins(1),
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(2),
            body_bytes_max: 65_536,
            drain_bytes_max: 2_097_152,
            reserve: Duration::from_millis(10),
            timeout_max: Duration::from_secs(10),
            exchange_time_max: Duration::from_secs(2),
            exchanges_max: 4_096,
            api_connections_max: 512,
            prod_apis: Vec::new(),
            old_prod_apis: Vec::new(),
            default_time_max: Duration::from_millis(5),
            policy_memory_bytes_max: 8_388_608,
            merchants_reload_every: Duration::from_millis(500),
            why_recent_max: 1_024,
            why_degraded_max: 4_096,
            book_fsync: Fsync::Process,
            book_bytes_max: GIB,
            book_keys_max: 4_000_000,
            book_age_max: Duration::from_hours(30 * 24),
            book_segment_bytes: 64 * MIB,
            book_queue_max: 8_192,
            book_memory_max: 100_000,
            advices_batch_max: 64,
            advices_in_flight_max: 2,
            stand_in_approvals_max: 1_000_000,
            stand_in_amount_max: 1_000_000_000_000,
            certificate: None,
            certificate_key: None,
        }
    }
}
