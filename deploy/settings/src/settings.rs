//! `backstop.toml`. The template beside this crate names every setting; [`Settings::default`] holds
//! the same values, and a test keeps the two equal.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

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
    /// For the whole head of a request.
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
    /// A PEM chain to serve; none: the one made in `--dir`.
    #[serde(deserialize_with = "path_or_none")]
    pub certificate: Option<PathBuf>,
    /// Its key; set if and only if `certificate` is.
    #[serde(deserialize_with = "path_or_none")]
    pub certificate_key: Option<PathBuf>,
}

/// `[api]`: one process for each stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
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
    /// The longest wait for the database's write lock.
    #[serde(deserialize_with = "duration::<10, MINUTE, _>")]
    pub busy_timeout: Duration,
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
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(2),
            body_bytes_max: 65_536,
            drain_bytes_max: 2_097_152,
            reserve: Duration::from_millis(10),
            timeout_max: Duration::from_secs(10),
            exchange_time_max: Duration::from_secs(2),
            exchanges_max: 4_096,
            api_connections_max: 512,
            default_time_max: Duration::from_millis(5),
            policy_memory_bytes_max: 8_388_608,
            merchants_reload_every: Duration::from_millis(500),
            why_recent_max: 1_024,
            why_degraded_max: 4_096,
            certificate: None,
            certificate_key: None,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
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
            queue_max: 4_096,
            policy_time_max: Duration::from_millis(5),
            policy_memory_bytes_max: 8_388_608,
            begin_min: Duration::from_millis(2),
            busy_timeout: Duration::from_secs(2),
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
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        Settings::read(&Document::new(Path::new("b.toml"), text)).map_err(|e| e.to_string())
    }

    #[test]
    fn the_template_holds_every_setting_with_its_default() {
        assert_eq!(read(TEMPLATE), Ok(Settings::default()));
        // Debug names every field of the structs; each has to be in the template.
        let fields = format!("{:#?}", Settings::default());
        let mut section = "";
        for line in fields.lines().filter_map(|line| line.trim().split_once(": ")) {
            match line {
                (name, value) if value.ends_with('{') => section = name,
                (name, _) => {
                    let table: toml::Table = TEMPLATE.parse().unwrap();
                    assert!(table[section].get(name).is_some(), "[{section}] {name}");
                }
            }
        }
    }

    #[test]
    fn the_range_behind_each_value_in_the_template_is_the_range_in_force() {
        let mut section = "";
        let mut checked = 0;
        for line in TEMPLATE.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.split(']').next().unwrap();
            }
            let Some((setting, comment)) = line.split_once("# ") else { continue };
            let Some((key, _)) = setting.split_once(" = ") else { continue };
            let range = comment.split_once(':').map(|(range, _)| range);
            let Some(range) = range.filter(|range| range.starts_with(|c| char::is_ascii_digit(&c)))
            else {
                continue;
            };
            let Some((min, max)) = range.split_once(" to ") else { continue };
            let is_duration = max.ends_with(char::is_alphabetic);
            let quote = |text: &str| if is_duration { format!("\"{text}\"") } else { text.into() };
            for (value, is_fine) in
                [(min, true), (max, true), (&*format!("9999999{}", &max), false)]
            {
                let outcome = read(&format!("[{section}]\n{key} = {}\n", quote(value)));
                // Contradictions with another setting's default are another test's.
                let fine = outcome.as_ref().err().is_none_or(|error| error.contains("is over"));
                assert_eq!(fine, is_fine, "[{section}] {key} = {value}: {outcome:?}");
            }
            checked += 1;
        }
        assert!(checked > 30, "{checked}");
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let settings = read("[edge]\nreserve = \"20ms\"\n").unwrap();
        assert_eq!(settings.edge.reserve, Duration::from_millis(20));
        assert_eq!(settings.up, Up::default());
        assert_eq!(read(""), Ok(Settings::default()));
    }

    #[test]
    fn each_mistake_is_named_with_its_line_and_what_would_be_right() {
        for (text, expected) in [
            (
                "[edge]\n\nbody_byte_max = 1\n",
                "b.toml:3: [edge] unknown key `body_byte_max`; did you mean `body_bytes_max`?",
            ),
            ("[eges]\n", "b.toml:1: unknown section `eges`; did you mean `edge`?"),
            (
                "xyzzy = 1\n",
                "b.toml:1: unknown section `xyzzy`; the keys here are api, breaker, core, edge, limits, up",
            ),
            (
                "[edge]\nreserve = 10\n",
                "b.toml:2: [edge] reserve: invalid type: integer `10`, expected a duration from \"1ms\" to \"1s\", such as \"300ms\", \"2s\" or \"15m\"",
            ),
            (
                "[edge]\nreserve = \"1h\"\n",
                "b.toml:2: [edge] reserve: invalid value: string \"1h\", expected a duration from \"1ms\" to \"1s\", such as \"300ms\", \"2s\" or \"15m\"",
            ),
            (
                "[core]\nbatch_max = 0\n",
                "b.toml:2: [core] batch_max: invalid value: integer `0`, expected a whole number from 1 to 1024",
            ),
            (
                "[core]\nbatch_max = \"64\"\n",
                "b.toml:2: [core] batch_max: invalid type: string \"64\", expected a whole number from 1 to 1024",
            ),
            (
                "[edge]\ncertificate = \"c.pem\"\n",
                "b.toml:1: [edge] certificate_key: is empty; set both certificate and certificate_key, or neither",
            ),
            (
                "[api]\ntimeout_max = \"100ms\"\ntimeout_min = \"101ms\"\n",
                "b.toml:3: [api] timeout_min: is over timeout_max",
            ),
            (
                "[up]\nrestart_delay_min = \"6s\"\n",
                "b.toml:2: [up] restart_delay_min: is over restart_delay_max",
            ),
            ("core = 3\n", "b.toml:1: core: invalid type: integer `3`, expected struct Core"),
        ] {
            assert_eq!(read(text).unwrap_err(), expected);
        }
        assert!(read("[edge\n").unwrap_err().starts_with("b.toml:1: "));
        assert!(read("[edge]\n[edge]\n").unwrap_err().starts_with("b.toml:2: "));
    }

    #[test]
    fn a_broken_file_gives_way_to_the_last_good_one() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let write = |text: &str| std::fs::write(layout.settings(), text).unwrap();
        write("[edge\n");
        assert!(Settings::in_force(&layout).is_err(), "nothing good was kept yet");
        write("[core]\nbatch_max = 7\n");
        let (settings, broken) = Settings::in_force(&layout).unwrap();
        assert_eq!((settings.core.batch_max, broken.is_none()), (7, true));
        write("[edge\n");
        let (settings, broken) = Settings::in_force(&layout).unwrap();
        assert_eq!((settings.core.batch_max, broken.is_some()), (7, true));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Settings::load(Path::new("/no/such/backstop.toml")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/backstop.toml: cannot be read"), "{error}");
    }
}
