//! `backstop.toml`. The template beside this crate names every setting; [`Settings::default`] holds
//! the same values, and a test keeps the two equal.

mod edge;
mod fidelity;
mod rules;
mod stacks;
mod switch;

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use toml::de::DeTable;

use crate::document::{Document, unknown_key};
use crate::error::SettingsError;
use crate::file::write_atomically;
use crate::layout::Layout;
pub use crate::link::{Breaker, Limits};
use crate::value::{duration, number, text_or_none};

pub use edge::{Edge, Fsync, STAND_IN_AMOUNT_MAX, STAND_IN_APPROVALS_MAX};
pub use fidelity::Fidelity;
pub use rules::Rules;
pub use stacks::{Stack, Stacks};
pub use switch::{Mode, Switch};

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
    /// How often fallbacks agree with core.
    pub fidelity: Fidelity,
    /// How rules are published.
    pub rules: Rules,
    /// The release of each stack.
    pub stacks: Stacks,
    /// Which stack serves.
    pub switch: Switch,
    /// The supervisor.
    pub up: Up,
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
    /// Writers. Each has two connections on PostgreSQL, one of which reads for the next set. SQLite has one
    /// writer.
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

    /// The memory that a bundle has to do with wherever it decides: the least that a tier gives a policy.
    pub fn policy_memory_bytes_min(&self) -> usize {
        let of_stack =
            std::cmp::min(self.core.policy_memory_bytes_max, self.api.policy_memory_bytes_max);
        std::cmp::min(of_stack, self.edge.policy_memory_bytes_max)
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
        let Self { api, breaker, switch, up, .. } = self;
        let (burn_window, fresh_for) = (switch.burn_window, switch.fresh_for);
        let (rate_min, delay_min) = (switch.mirror_rate_min, up.restart_delay_min);
        for (section, key, is_over, limit) in [
            ("api", "timeout_min", api.timeout_min > api.timeout_max, "timeout_max"),
            ("breaker", "open_min", breaker.open_min > breaker.open_max, "open_max"),
            ("switch", "window", switch.window > switch.window_long, "window_long"),
            ("switch", "window_long", switch.window_long > burn_window, "burn_window"),
            ("switch", "burn_recent", switch.burn_recent > burn_window, "burn_window"),
            ("switch", "probe_every", switch.probe_every > fresh_for, "fresh_for"),
            ("switch", "probe_time_max", switch.probe_time_max > fresh_for, "fresh_for"),
            ("switch", "mirror_rate_min", rate_min > switch.mirror_rate_max, "mirror_rate_max"),
            ("up", "restart_delay_min", delay_min > up.restart_delay_max, "restart_delay_max"),
        ] {
            if is_over {
                return Err(document.wrong_value(section, key, &format!("is over {limit}")));
            }
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
    refuse_unknown(document, "", &document.table()?, &template.table()?)
}

fn refuse_unknown(
    document: &Document,
    section: &str,
    written: &DeTable<'_>,
    known: &DeTable<'_>,
) -> Result<(), SettingsError> {
    for (key, value) in written {
        let name = key.get_ref();
        let Some(known_value) = known.get(name.as_ref()) else {
            let what = match section {
                "" => unknown_key(name, known).replacen("key", "section", 1),
                section => format!("[{section}] {}", unknown_key(name, known)),
            };
            return Err(document.wrong(&key.span(), what));
        };
        // A section that is no table is refused when it is parsed.
        let tables = (value.get_ref().as_table(), known_value.get_ref().as_table());
        if let (Some(written), Some(known)) = tables {
            let section =
                if section.is_empty() { name.to_string() } else { format!("{section}.{name}") };
            refuse_unknown(document, &section, written, known)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
