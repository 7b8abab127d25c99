//! What the command line, `backstop.toml` and the rules say, as what core runs on. A `Config` in hand
//! is a valid one.

use std::path::{Path, PathBuf};

use backstop_contract::learned::Learning;
use backstop_lua::{Bundle, BundleError, Rules};
use backstop_settings::{Core, Layout, Settings};

use crate::error::CoreError;

/// Everything that the core of one stack needs to know.
pub struct Config {
    /// The stack it decides for.
    pub stack: String,
    /// The Unix socket to serve.
    pub socket: PathBuf,
    /// The SQLite file.
    pub database: PathBuf,
    /// `[core]` of `backstop.toml`.
    pub settings: Core,
    /// How it learns what a transaction takes.
    pub learning: Learning,
    /// The rules in force.
    pub rules: Rules,
}

impl Config {
    /// Reads what is in `layout`; `database` and `rules`, where given, go before what it says.
    pub fn read(
        layout: &Layout,
        stack: String,
        database: Option<String>,
        rules: Option<PathBuf>,
    ) -> Result<Self, CoreError> {
        let file = layout.settings();
        let settings = if file.exists() { Settings::load(&file)? } else { Settings::default() };
        let (learning, settings) = (settings.to_commit(), settings.core);
        let database = match database.or_else(|| settings.database.clone()) {
            Some(name) => sqlite_file(&name)?,
            None => layout.database(),
        };
        let good = layout.good_bundle(&format!("core-{stack}"));
        let written = layout.rules();
        let memory_bytes_max = settings.policy_memory_bytes_max;
        let rules = match rules {
            Some(rules) => rules_in_force(&rules, &good, memory_bytes_max)?,
            None if written.exists() => rules_in_force(&written, &good, memory_bytes_max)?,
            // A directory that never had a first run has no rules of its own.
            None => Rules::new(Bundle::shipped(), memory_bytes_max)?,
        };
        let socket = layout.socket("core", &stack);
        Ok(Self { stack, socket, database, settings, learning, rules })
    }
}

/// `sqlite:FILE` or `sqlite://FILE`.
fn sqlite_file(name: &str) -> Result<PathBuf, CoreError> {
    let file = name.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
    match file {
        Some(file) if !file.is_empty() => Ok(PathBuf::from(file)),
        _ => Err(CoreError::DatabaseName(name.split(':').next().unwrap_or_default().to_owned())),
    }
}

/// The rules that authors wrote; when those are broken, the last ones that ran.
fn rules_in_force(
    written: &Path,
    good: &Path,
    memory_bytes_max: usize,
) -> Result<Rules, BundleError> {
    let load = |dir: &Path| Rules::new(Bundle::load(dir)?, memory_bytes_max);
    let broken = match load(written) {
        Ok(rules) => {
            keep(&rules, good);
            return Ok(rules);
        }
        Err(broken) => broken,
    };
    let Ok(rules) = load(good) else { return Err(broken) };
    let version = rules.version();
    tracing::error!(%broken, version, "the rules are broken: the last good ones are in force");
    Ok(rules)
}

/// Keeps the rules for a start at which the authors' ones are broken.
fn keep(rules: &Rules, good: &Path) {
    if Bundle::load(good).is_ok_and(|kept| kept.version() == rules.version()) {
        return;
    }
    if let Err(error) = rules.bundle().write_to(good) {
        tracing::warn!(%error, "the good rules could not be kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_sqlite_file() {
        for (name, file) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:///x/a.db", "/x/a.db"),
            ("sqlite:/x/a.db", "/x/a.db"),
        ] {
            assert_eq!(sqlite_file(name).unwrap(), PathBuf::from(file));
        }
        for wrong in ["", "a.db", "sqlite:", "postgres://user:secret@host/db"] {
            let error = sqlite_file(wrong).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn broken_rules_give_way_to_the_last_good_ones_and_are_refused_without_any() {
        let dir = tempfile::tempdir().unwrap();
        let (written, good) = (dir.path().join("rules"), dir.path().join("good"));
        let load = || rules_in_force(&written, &good, 8 << 20);
        Bundle::shipped().write_to(&written).unwrap();
        let version = load().unwrap().version().to_owned();

        std::fs::write(written.join("policies/payment.lua"), "return {\n  oops oops\n}").unwrap();
        assert_eq!(load().unwrap().version(), version);

        std::fs::remove_dir_all(&good).unwrap();
        let place = load().err().unwrap().place().cloned().unwrap();
        assert!(place.file.ends_with("payment.lua") && place.line == Some(2), "{place}");
    }
}
