//! `backstop.toml`. The template beside this crate names every setting; [`Settings::default`] holds
//! the same values, and a test keeps the two equal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::address::{self, Address};
use crate::document::{Document, unknown_key};
use crate::error::SettingsError;
use crate::file::write_atomically;
use crate::layout::Layout;
pub use crate::link::{Breaker, Limits};
use crate::value::{duration, number, path_or_none, text_or_none};

/// The file as it is written on the first run: every setting with its default and its range.
pub const TEMPLATE: &str = include_str!("../backstop.toml");

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Every setting, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The proxy.
    pub edge: Edge,
    /// The api of each stack.
    pub api: Api,
    /// The core of each stack.
    pub core: Core,
    /// How long a tier waits for the next one, as it learns.
    pub limits: Limits,
    /// When a tier leaves the next one alone.
    pub breaker: Breaker,
    /// The supervisor.
    pub up: Up,
}

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
    /// Connections to each api.
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
    #[serde(deserialize_with = "number::<0, 1_000_000_000, _, _>")]
    pub stand_in_approvals_max: u64,
    /// What they may approve a minute for one merchant, in minor units of each currency.
    #[serde(deserialize_with = "number::<0, 9_007_199_254_740_991, _, _>")]
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

/// `[api]`: one process for each stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Threads that serve requests.
    #[serde(deserialize_with = "number::<1, 64, _, _>")]
    pub threads: usize,
    /// Of each budget, kept back to answer here.
    #[serde(deserialize_with = "duration::<1, SECOND, _>")]
    pub reserve: Duration,
    /// The shortest wait for core; never over `timeout_max`.
    #[serde(deserialize_with = "duration::<0, SECOND, _>")]
    pub timeout_min: Duration,
    /// The longest wait for core.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub timeout_max: Duration,
    /// A call that nobody waits for any more is ended after this long.
    #[serde(deserialize_with = "duration::<100, MINUTE, _>")]
    pub call_time_max: Duration,
    /// Calls of core at a time.
    #[serde(deserialize_with = "number::<16, 65_536, _, _>")]
    pub calls_max: usize,
    /// For one run of a policy.
    #[serde(deserialize_with = "duration::<1, SECOND, _>")]
    pub policy_time_max: Duration,
    /// For one run of a policy.
    #[serde(deserialize_with = "number::<MIB, { 256 * MIB }, _, _>")]
    pub policy_memory_bytes_max: usize,
    /// Histories kept to decide without core.
    #[serde(deserialize_with = "number::<1_000, 10_000_000, _, _>")]
    pub history_entries_max: usize,
    /// A longer body is refused.
    #[serde(deserialize_with = "number::<65_536, MIB, _, _>")]
    pub body_bytes_max: usize,
}

/// `[core]`: one process for each stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Core {
    /// Where the books are; none: [`Layout::database`](crate::Layout::database).
    #[serde(deserialize_with = "text_or_none")]
    pub database: Option<String>,
    /// Requests decided in one transaction.
    #[serde(deserialize_with = "number::<1, 1_024, _, _>")]
    pub batch_max: usize,
    /// At least this long from one commit to the next, so that more requests share it.
    #[serde(deserialize_with = "duration::<0, 100, _>")]
    pub commit_interval: Duration,
    /// Advices settled in one transaction, beside the requests in it.
    #[serde(deserialize_with = "number::<1, 1_024, _, _>")]
    pub settle_max: usize,
    /// Requests that wait for their transaction.
    #[serde(deserialize_with = "number::<16, 65_536, _, _>")]
    pub queue_max: usize,
    /// For one run of a policy.
    #[serde(deserialize_with = "duration::<1, SECOND, _>")]
    pub policy_time_max: Duration,
    /// For one run of a policy.
    #[serde(deserialize_with = "number::<MIB, { 256 * MIB }, _, _>")]
    pub policy_memory_bytes_max: usize,
    /// With less time left than this, nothing is begun.
    #[serde(deserialize_with = "duration::<0, SECOND, _>")]
    pub begin_min: Duration,
    /// Writers, each with a connection of its own. SQLite has one.
    #[serde(deserialize_with = "number::<1, 16, _, _>")]
    pub lanes: usize,
    /// How often one set is tried where another writer changes the same rows.
    #[serde(deserialize_with = "number::<1, 100, _, _>")]
    pub conflict_tries_max: u32,
    /// SQLite: the longest wait for the write lock.
    #[serde(deserialize_with = "duration::<10, MINUTE, _>")]
    pub busy_timeout: Duration,
    /// PostgreSQL: the longest that one statement may run.
    #[serde(deserialize_with = "duration::<10, MINUTE, _>")]
    pub statement_timeout: Duration,
    /// PostgreSQL: the longest wait for a row.
    #[serde(deserialize_with = "duration::<10, { 10 * SECOND }, _>")]
    pub lock_timeout: Duration,
}

/// `[up]`: the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Up {
    /// Without core for longer, `up` says so and goes on.
    #[serde(deserialize_with = "duration::<SECOND, { 10 * MINUTE }, _>")]
    pub ready_within: Duration,
    /// What is alive but silent for longer is killed.
    #[serde(deserialize_with = "duration::<{ 5 * SECOND }, DAY, _>")]
    pub hung_after: Duration,
    /// Before the second restart; it doubles from there.
    #[serde(deserialize_with = "duration::<10, MINUTE, _>")]
    pub restart_delay_min: Duration,
    /// The longest delay; never under `restart_delay_min`.
    #[serde(deserialize_with = "duration::<100, { 10 * MINUTE }, _>")]
    pub restart_delay_max: Duration,
    /// After this long up, a restart is a first one again.
    #[serde(deserialize_with = "duration::<SECOND, HOUR, _>")]
    pub healthy_after: Duration,
    /// What has not stopped by then is killed.
    #[serde(deserialize_with = "duration::<SECOND, { 5 * MINUTE }, _>")]
    pub stop_within: Duration,
    /// Of one log file; one older is kept.
    #[serde(deserialize_with = "number::<65_536, GIB, _, _>")]
    pub log_bytes_max: u64,
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

impl Default for Api {
    fn default() -> Self {
        Self {
            threads: 1,
            reserve: Duration::from_millis(10),
            timeout_min: Duration::from_millis(5),
            timeout_max: Duration::from_secs(10),
            call_time_max: Duration::from_secs(2),
            calls_max: 4_096,
            policy_time_max: Duration::from_millis(5),
            policy_memory_bytes_max: 8_388_608,
            history_entries_max: 100_000,
            body_bytes_max: 262_144,
        }
    }
}

impl Default for Core {
    fn default() -> Self {
        Self {
            database: None,
            batch_max: 64,
            commit_interval: Duration::from_millis(5),
            settle_max: 64,
            queue_max: 4_096,
            policy_time_max: Duration::from_millis(5),
            policy_memory_bytes_max: 8_388_608,
            begin_min: Duration::from_millis(2),
            lanes: 1,
            conflict_tries_max: 4,
            busy_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(1),
            lock_timeout: Duration::from_millis(200),
        }
    }
}

impl Default for Up {
    fn default() -> Self {
        Self {
            ready_within: Duration::from_secs(15),
            hung_after: Duration::from_mins(2),
            restart_delay_min: Duration::from_millis(100),
            restart_delay_max: Duration::from_secs(5),
            healthy_after: Duration::from_secs(10),
            stop_within: Duration::from_secs(5),
            log_bytes_max: 16_777_216,
        }
    }
}

impl Settings {
    /// The settings in `file`; what it leaves out has its default.
    pub fn load(file: &Path) -> Result<Self, SettingsError> {
        Self::read(&Document::read(file)?)
    }

    /// The settings of a process that starts in `layout`, which are then kept; when the file is broken,
    /// the last that were good and what is wrong with those of now. A tier that was killed must come
    /// back, whatever is being edited just then.
    pub fn in_force(layout: &Layout) -> Result<(Self, Option<SettingsError>), SettingsError> {
        let (file, good) = (layout.settings(), layout.good_settings());
        if !file.exists() {
            return Ok((Self::default(), None));
        }
        match Self::load(&file) {
            Ok(settings) => {
                keep(&file, &good);
                Ok((settings, None))
            }
            Err(broken) => match Self::load(&good) {
                Ok(settings) => Ok((settings, Some(broken))),
                Err(_none_kept) => Err(broken),
            },
        }
    }

    fn read(document: &Document) -> Result<Self, SettingsError> {
        refuse_unknown_keys(document)?;
        let settings: Self = document.parse()?;
        settings.refuse_contradictions(document)?;
        Ok(settings)
    }

    fn refuse_contradictions(&self, document: &Document) -> Result<(), SettingsError> {
        let pairs = [
            ("certificate", self.edge.certificate.is_some()),
            ("certificate_key", self.edge.certificate_key.is_some()),
        ];
        if let [(_, true), (lacking, false)] | [(lacking, false), (_, true)] = pairs {
            let what = "is empty; set both certificate and certificate_key, or neither";
            return Err(document.wrong_value("edge", lacking, what));
        }
        if self.api.timeout_min > self.api.timeout_max {
            return Err(document.wrong_value("api", "timeout_min", "is over timeout_max"));
        }
        if self.breaker.open_min > self.breaker.open_max {
            return Err(document.wrong_value("breaker", "open_min", "is over open_max"));
        }
        if self.up.restart_delay_min > self.up.restart_delay_max {
            let what = "is over restart_delay_max";
            return Err(document.wrong_value("up", "restart_delay_min", what));
        }
        Ok(())
    }
}

/// Keeps a copy for a start at which the file is broken. Best effort: the file itself is good now.
fn keep(file: &Path, good: &Path) {
    let Ok(text) = std::fs::read(file) else { return };
    if std::fs::read(good).is_ok_and(|kept| kept == text) {
        return;
    }
    let folder = good.parent().map_or(Ok(()), std::fs::create_dir_all);
    let _best_effort = folder.and_then(|()| write_atomically(good, &text, 0o600));
}

/// The template names every key there is; whatever it does not name is a mistake.
fn refuse_unknown_keys(document: &Document) -> Result<(), SettingsError> {
    let template = Document::new(Path::new("the template"), TEMPLATE);
    let known = template.table()?;
    for (section, value) in &document.table()? {
        let keys = known.get(section.get_ref().as_ref()).and_then(|keys| keys.get_ref().as_table());
        let Some(keys) = keys else {
            let what = unknown_key(section.get_ref(), &known).replacen("key", "section", 1);
            return Err(document.wrong(&section.span(), what));
        };
        // A section that is no table is refused when it is parsed.
        for key in value.get_ref().as_table().into_iter().flat_map(|table| table.keys()) {
            if !keys.contains_key(key.get_ref().as_ref()) {
                let what = unknown_key(key.get_ref(), keys);
                return Err(document.wrong(&key.span(), format!("[{}] {what}", section.get_ref())));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
