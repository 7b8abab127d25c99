//! What the command line, `backstop.toml` and the rules say, as what core runs on. A `Config` in hand
//! is a valid one.

use std::path::PathBuf;
use std::time::Duration;

use backstop_contract::learned::Learning;
use backstop_lua::in_force::Source;
use backstop_lua::{InForce, Scope};
use backstop_settings::{Core, Layout, Settings, drain_time};

use crate::error::CoreError;

/// Where the books are.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// The URL of a PostgreSQL database. It may hold a password, so that it is never printed.
    Postgres(String),
}

/// Everything that the core of one stack needs to know.
pub struct Config {
    /// The stack it decides for.
    pub stack: String,
    /// The Unix socket to serve.
    pub socket: PathBuf,
    /// Where the books are.
    pub database: Database,
    /// `[core]` of `backstop.toml`.
    pub settings: Core,
    /// How it learns what a transaction takes.
    pub learning: Learning,
    /// The rules in force, as they are published.
    pub rules: InForce,
    /// What is under way at a stop has this long to end.
    pub drain_time: Duration,
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
            Some(name) => Database::parse(&name)?,
            None => Database::Sqlite(layout.database()),
        };
        let (scope, process) = (Scope::of_stack(&stack), format!("core-{stack}"));
        let memory_bytes_max = settings.policy_memory_bytes_max;
        let rules = Source::new(layout, (scope, &process), rules, memory_bytes_max);
        let rules = InForce::open(rules)?;
        let socket = layout.socket("core", &stack);
        let drain_time = drain_time(layout);
        Ok(Self { stack, socket, database, settings, learning, rules, drain_time })
    }
}

impl Database {
    /// `sqlite:FILE`, `sqlite://FILE`, or what PostgreSQL's own tools take.
    fn parse(name: &str) -> Result<Self, CoreError> {
        let kind = name.split(':').next().unwrap_or_default();
        let file = name.strip_prefix("sqlite:").map(|rest| rest.strip_prefix("//").unwrap_or(rest));
        match (kind, file) {
            ("sqlite", Some(file)) if !file.is_empty() => Ok(Self::Sqlite(PathBuf::from(file))),
            ("postgres" | "postgresql", _) if name.len() > kind.len() => {
                Ok(Self::Postgres(name.to_owned()))
            }
            _ => Err(CoreError::DatabaseName(kind.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_a_sqlite_file_or_a_url_of_postgresql() {
        for (name, file) in [
            ("sqlite:a.db", "a.db"),
            ("sqlite:///x/a.db", "/x/a.db"),
            ("sqlite:/x/a.db", "/x/a.db"),
        ] {
            assert!(Database::parse(name).unwrap() == Database::Sqlite(PathBuf::from(file)));
        }
        for url in ["postgres://user:secret@host/db", "postgresql:///db?host=/run/postgresql"] {
            assert!(Database::parse(url).unwrap() == Database::Postgres(url.to_owned()));
        }
        for wrong in ["", "a.db", "sqlite:", "sqlite", "mysql://user:secret@host/db", "postgres"] {
            let error = Database::parse(wrong).err().map(|error| error.to_string()).unwrap();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
