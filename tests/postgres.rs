//! PostgreSQL past every tier: what its tables say, and what may befall the server.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;

/// The books of a system, on a server.
pub struct Books<'a> {
    pub cluster: &'a Cluster,
    /// The URL of the database.
    pub database: String,
}

impl<'a> Books<'a> {
    /// Empty ones.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, database: cluster.database() }
    }

    /// The rows of a query, as text.
    pub fn rows<const COLUMNS: usize>(&self, query: &str) -> Vec<[String; COLUMNS]> {
        let output = self.cluster.psql(&self.database).args(["-c", query]).output().unwrap();
        assert!(output.status.success(), "{query}: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        let row = |line: &str| {
            let columns: Vec<_> = line.split('\t').map(str::to_owned).collect();
            columns.try_into().unwrap_or_else(|_| panic!("{COLUMNS} columns: {line}"))
        };
        text.lines().map(row).collect()
    }

    /// The one number that a query counts.
    pub fn count(&self, query: &str) -> usize {
        let [[count]]: [[String; 1]; 1] = self.rows(query).try_into().unwrap();
        count.parse().unwrap_or_else(|_| panic!("{query}: {count}"))
    }

    /// Begins a session that locks what this statement names.
    pub fn lock(&self, statement: &str) -> Locks {
        let mut psql = self.cluster.psql(&self.database);
        let mut session = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = session.stdin.as_mut().unwrap();
        writeln!(stdin, "BEGIN;\n{statement};\n\\echo locked").unwrap();
        let mut said = BufReader::new(session.stdout.take().unwrap()).lines();
        let is_locked = said.any(|line| line.unwrap() == "locked");
        assert!(is_locked, "no locks by {statement}");
        Locks { session }
    }
}

/// A session that holds locks and commits nothing. It ends when this is dropped.
pub struct Locks {
    session: Child,
}

impl Drop for Locks {
    fn drop(&mut self) {
        // A psql that can read no more ends, and takes its transaction back.
        drop(self.session.stdin.take());
        let _it_has_ended = self.session.wait();
    }
}

/// A server that is alive, listens, and does nothing. It goes on when this is dropped.
pub struct Frozen {
    processes: Vec<Pid>,
}

impl Frozen {
    /// Stops all processes of the server, the one that would start others first.
    pub fn stop(cluster: &Cluster) -> Self {
        let server = Pid::from_raw(cluster.pid().cast_signed());
        kill(server, Signal::SIGSTOP).unwrap();
        let mut frozen = Self { processes: vec![server] };
        for child in children(server) {
            // A session may have ended since.
            let _gone = kill(child, Signal::SIGSTOP);
            frozen.processes.push(child);
        }
        frozen
    }

    /// Whether each of them is still stopped.
    pub fn is_whole(&self) -> bool {
        let is_stopped = |process: &Pid| {
            let stat = std::fs::read_to_string(format!("/proc/{process}/stat"));
            // The name, in brackets before the state, may hold anything.
            stat.is_ok_and(|stat| stat.rsplit(')').next().unwrap().starts_with(" T"))
        };
        self.processes.iter().all(is_stopped)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for process in &self.processes {
            let _gone = kill(*process, Signal::SIGCONT);
        }
    }
}

fn children(parent: Pid) -> Vec<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
    let children = children.expect("the system tells the children of a process");
    children.split_whitespace().map(|pid| Pid::from_raw(pid.parse().unwrap())).collect()
}
