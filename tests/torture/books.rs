//! Core's books, past every tier: what its tables say, in PostgreSQL or in SQLite's file.

use std::path::PathBuf;
use std::process::Command;

use crate::postgres;

/// Where they lie.
pub enum Books {
    Server(postgres::Books<'static>),
    File(PathBuf),
}

impl Books {
    /// Does what nobody but core should.
    pub fn alter(&self, statement: &str) {
        match self {
            Self::Server(server) => drop(server.rows::<0>(statement)),
            Self::File(file) => {
                let mut sqlite = Command::new("sqlite3");
                sqlite.args(["-batch", "-cmd", ".timeout 10000"]).arg(file).arg(statement);
                assert!(sqlite.status().unwrap().success(), "{statement}");
            }
        }
    }

    /// The rows of a query that both databases understand, as text.
    pub fn rows<const COLUMNS: usize>(&self, query: &str) -> Vec<[String; COLUMNS]> {
        let file = match self {
            Self::Server(server) => return server.rows(query),
            Self::File(file) => file,
        };
        let mut sqlite = Command::new("sqlite3");
        sqlite.args(["-readonly", "-batch", "-tabs", "-cmd", ".timeout 10000"]);
        let output = sqlite.arg(file).arg(query).output().unwrap_or_else(|why| {
            panic!("sqlite3: {why}; install it, on Debian with: sudo apt-get install sqlite3")
        });
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        let row = |line: &str| {
            let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
            columns.try_into().unwrap_or_else(|_| panic!("{COLUMNS} columns: {line}"))
        };
        String::from_utf8(output.stdout).unwrap().lines().map(row).collect()
    }

    /// The one number that a query counts.
    pub fn count(&self, query: &str) -> usize {
        let [[count]]: [[String; 1]; 1] = self.rows(query).try_into().unwrap();
        count.parse().unwrap_or_else(|_| panic!("{query}: {count}"))
    }

    /// How this database writes bytes as text.
    pub fn hex(&self, column: &str) -> String {
        match self {
            Self::Server(_) => format!("encode({column}, 'hex')"),
            Self::File(_) => format!("lower(hex({column}))"),
        }
    }
}
