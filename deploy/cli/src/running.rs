//! What `up` tells the other commands: `run.json` and the status of its processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use backstop_settings::{Layout, STACKS};
use serde::{Deserialize, Serialize};

use crate::exchange::Place;

/// `run.json`: how to reach the running system. Absent when nothing runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The process id of `up`.
    pub pid: u32,
    /// Where merchants reach the edge by TLS, as `HOST:PORT`.
    pub listen: String,
    /// Where operators reach it.
    pub admin: SocketAddr,
    /// Where a balancer that ends TLS reaches it.
    pub listen_plain: Option<String>,
    /// The directory, absolute.
    pub dir: PathBuf,
    /// What kind of database both stacks share: `sqlite` or `postgres`.
    #[serde(default)]
    pub database: String,
}

impl Running {
    /// What `run.json` says; `None` when nothing runs, or nothing that can be read.
    pub fn load(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(layout.run_json()).ok()?).ok()
    }
}

/// What runs, as `status --json` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The stack that serves.
    pub active: String,
    /// Every process that `up` keeps.
    pub processes: Vec<Process>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its name without the stack: `proxy`, `api` or `core`.
    pub tier: String,
    /// Its stack; the proxy has none.
    pub stack: Option<String>,
    /// Its process id; `None` while it waits to restart.
    pub pid: Option<u32>,
    /// Where it listens: `HOST:PORT` or the path of a Unix socket.
    pub address: String,
    /// How it is.
    pub state: State,
    /// How often `up` had to start it again.
    pub restarts: u64,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Alive, and has not answered yet.
    Starting,
    /// Alive and answering.
    Up,
    /// Alive and silent.
    Hung,
    /// Dead, and about to be started again.
    Restarting,
    /// Dead, for good.
    Stopped,
}

impl State {
    /// The word in JSON and in the table.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Up => "up",
            Self::Hung => "hung",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

impl Status {
    /// The last that `up` knew; `None` when there was no `up`.
    pub fn last_known(layout: &Layout) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(layout.processes()).ok()?).ok()
    }

    /// Nothing runs.
    pub fn stopped(layout: &Layout, listen: &str) -> Self {
        let process = |tier: &str, stack: Option<&str>, address: String| Process {
            tier: tier.to_owned(),
            stack: stack.map(str::to_owned),
            pid: None,
            address,
            state: State::Stopped,
            restarts: 0,
        };
        let mut processes = vec![process("proxy", None, listen.to_owned())];
        for tier in ["core", "api"] {
            for stack in STACKS {
                let socket = layout.socket(tier, stack).display().to_string();
                processes.push(process(tier, Some(stack), socket));
            }
        }
        Self { active: STACKS.first().copied().unwrap_or_default().to_owned(), processes }
    }
}

impl Process {
    /// Its name in logs, such as `core-prod` or `proxy`.
    pub fn name(&self) -> String {
        match &self.stack {
            Some(stack) => format!("{}-{stack}", self.tier),
            None => self.tier.clone(),
        }
    }

    /// Whether it is the tier that nobody answers for.
    pub fn is_edge(&self) -> bool {
        self.tier == "proxy"
    }

    /// What it runs, in the folder of a release.
    pub fn program(&self, folder: &Path) -> PathBuf {
        folder.join(format!("backstop-{}", self.tier))
    }

    /// Whether its process id is that of a Backstop process that lives. Ids are used again, so the
    /// program is looked at too.
    pub fn is_alive(&self) -> bool {
        let program = self.pid.and_then(|pid| std::fs::read_link(format!("/proc/{pid}/exe")).ok());
        let expected = format!("backstop-{}", self.tier);
        // A program that was replaced by a newer one reads `backstop-core (deleted)`.
        program.and_then(|program| Some(program.file_name()?.to_str()?.starts_with(&expected)))
            == Some(true)
    }

    /// Where it says whether it lives, and the path to ask for there.
    pub fn health(&self, layout: &Layout, admin: SocketAddr) -> (Place, &'static str) {
        match &self.stack {
            Some(stack) => (Place::Socket(layout.socket(&self.tier, stack)), "/metrics"),
            None => (Place::Address(admin), "/healthz"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_reads_as_documented() {
        let mut status = Status::stopped(&Layout::new(".backstop"), "127.0.0.1:8443");
        let process = status.processes.first_mut().unwrap();
        (process.pid, process.state) = (Some(123), State::Up);
        let json = serde_json::to_string(&status).unwrap();
        let expected = concat!(
            r#"{"active":"prod","processes":["#,
            r#"{"tier":"proxy","stack":null,"pid":123,"address":"127.0.0.1:8443","state":"up","restarts":0},"#,
            r#"{"tier":"core","stack":"prod","pid":null,"address":".backstop/run/core-prod.sock","state":"stopped","restarts":0},"#,
            r#"{"tier":"core","stack":"old-prod","pid":null,"address":".backstop/run/core-old-prod.sock","state":"stopped","restarts":0},"#,
            r#"{"tier":"api","stack":"prod","pid":null,"address":".backstop/run/api-prod.sock","state":"stopped","restarts":0},"#,
            r#"{"tier":"api","stack":"old-prod","pid":null,"address":".backstop/run/api-old-prod.sock","state":"stopped","restarts":0}]}"#,
        );
        assert_eq!(json, expected);
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }

    #[test]
    fn a_state_is_the_same_word_everywhere() {
        for state in [State::Starting, State::Up, State::Hung, State::Restarting, State::Stopped] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
