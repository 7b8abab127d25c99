//! Every tier on a database of its own, which can be started again on what it left.

use std::collections::BTreeMap;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::blows::Process;
use super::books::Books;
use crate::claims::audit::{admin_token, put_stock};
use crate::cluster::Cluster;
use crate::postgres;
use crate::system::{System, Wire, binary, until};

/// The merchant whose key lies in the directory.
pub const MERCHANT: &str = "demo";

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Postgres,
    Sqlite,
}

/// `backstop up`, and its books.
pub struct Ground {
    pub system: System,
    pub books: Books,
    dir: TempDir,
}

impl Ground {
    /// Starts on an empty directory.
    pub fn open(store: Store, variables: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Or the edge would leave the stack that is struck.
        std::fs::write(dir.path().join("backstop.toml"), "[switch]\nmode = \"off\"\n").unwrap();
        let books = match store {
            Store::Postgres => Books::Server(postgres::Books::new(Cluster::shared())),
            Store::Sqlite => Books::File(dir.path().join("backstop.db")),
        };
        let system = start(&dir, &books, variables);
        Self { system, books, dir }
    }

    /// Ends every process, and starts them again.
    pub fn again(self, variables: &[(&str, &str)]) -> Self {
        let Self { system, books, dir } = self;
        assert!(system.stop().success(), "it stops as it should");
        let system = start(&dir, &books, variables);
        Self { system, books, dir }
    }

    /// Fills the shelves.
    pub fn stock_up(&self, stock: &BTreeMap<String, i64>) {
        let (token, mut wire) = (admin_token(&self.system), Wire::connect(self.system.admin));
        for (key, remaining) in stock {
            let body = json!({ "remaining": remaining });
            until("core takes the stock", || {
                let set = put_stock(&mut wire, &format!("/admin/stock/{key}"), &token, &body);
                (set.status == 200).then_some(())
            });
        }
    }

    /// Sends a signal to a process, if it runs.
    pub fn send(&self, (tier, stack): Process, signal: Signal) -> Option<i32> {
        let pid = self.system.process(tier, stack)["pid"].as_i64()?;
        let pid = i32::try_from(pid).unwrap();
        kill(Pid::from_raw(pid), signal).ok().map(|()| pid)
    }

    /// How often each process was started again.
    pub fn restarts(&self) -> BTreeMap<(String, String), u64> {
        let status = self.system.status();
        let word = |process: &Value, name: &str| process[name].as_str().unwrap_or("").to_owned();
        let restarts = |process: &Value| {
            let name = (word(process, "tier"), word(process, "stack"));
            (name, process["restarts"].as_u64().unwrap())
        };
        status["processes"].as_array().unwrap().iter().map(restarts).collect()
    }

    /// Waits until core decides again.
    pub fn recover(&self) {
        // Of another merchant, whose books nobody compares.
        self.system.until_core_is_well(&self.system.key(true));
    }
}

fn start(dir: &TempDir, books: &Books, variables: &[(&str, &str)]) -> System {
    let flags: &[&str] = match books {
        Books::Server(server) => &["--database", &server.database],
        Books::File(_) => &[],
    };
    let system = System::starting_with(dir.path(), flags, variables);
    let line = system.line();
    assert!(line.starts_with("ready "), "{line}: {}", system.logs());
    system
}

/// Whether the binaries end at the points that `FAILPOINTS` names: one that was built without them does
/// not even know their names.
pub fn has_failpoints() -> bool {
    [("backstop-proxy", "book.after_append"), ("backstop-core", "core.before_commit")].iter().all(
        |(name, point)| {
            let mut grep = Command::new("grep");
            grep.args(["-q", "-a", "-F", point]).arg(binary(name));
            grep.status().unwrap().success()
        },
    )
}
