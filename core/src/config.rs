//! What the command line, `backstop.toml` and the rules say, as what core runs on. A `Config` in hand
//! is a valid one.

use std::path::PathBuf;

use backstop_contract::learned::Learning;
use backstop_lua::Rules;
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
        let (settings, broken) = Settings::in_force(layout)?;
        if let Some(broken) = broken {
            tracing::error!(%broken, "backstop.toml is broken: the last good copy is in force");
        }
        let (learning, settings) = (settings.to_commit(), settings.core);
        let database = match database.or_else(|| settings.database.clone()) {
            Some(name) => sqlite_file(&name)?,
            None => layout.database(),
        };
        let good = layout.good_bundle(&format!("core-{stack}"));
        let written = rules.unwrap_or_else(|| layout.rules());
        let rules = Rules::in_force(&written, &good, settings.policy_memory_bytes_max)?;
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
}
