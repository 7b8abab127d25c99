//! What a fault is played on: every tier, or an edge alone, with a merchant whose budget is 250 ms.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use backstop_settings::merchants::PROBE_MERCHANT;
use tempfile::TempDir;
use tokio::time::Instant;

use super::clock;
use super::load::{Door, EVERYBODY, honest_payment};
use super::tally::BUDGET;
use super::tls;
use crate::cluster::Cluster;
use crate::postgres::Books;
use crate::system::{System, Wire, backstop, binary, free_address, fresh_id, payment, until};

/// Which processes run, and by which rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `backstop up`.
    Tiers,
    /// `backstop up --database postgres://…`, where everybody in the load has a history already.
    PostgresTiers,
    /// `backstop up`, where the wall clock of every process can be stepped.
    SteppedTiers,
    /// `backstop up` with rules that break.
    BrokenTiers,
    /// The proxy alone: its api's socket is free for another.
    Edge,
    /// The proxy alone with rules that break.
    BrokenEdge,
}

impl Stage {
    /// Whether one fault may follow another here. An edge alone has nothing that would recover, and
    /// its breaker would remember the last one.
    pub const fn is_shared(self) -> bool {
        matches!(self, Self::Tiers | Self::PostgresTiers | Self::BrokenTiers)
    }
}

/// The processes of a stage. They end with it.
pub struct Ground {
    pub stage: Stage,
    running: Running,
    /// The merchant's key.
    pub key: String,
    books: Option<Books<'static>>,
    dir: TempDir,
}

enum Running {
    Tiers(System),
    Edge(Alone),
}

/// What the environment of a stage's processes needs.
fn variables(stage: Stage, dir: &Path) -> Vec<(&'static str, String)> {
    match (stage, clock::library()) {
        (Stage::SteppedTiers, Some(library)) => clock::variables(&library, dir),
        _ => Vec::new(),
    }
}

impl Ground {
    pub fn new(stage: Stage) -> Self {
        let dir = tempfile::tempdir().unwrap();
        // Or the edge would leave the stack that is broken.
        std::fs::write(dir.path().join("backstop.toml"), "[switch]\nmode = \"off\"\n").unwrap();
        let rules = dir.path().join("broken");
        let books = (stage == Stage::PostgresTiers).then(|| Books::new(Cluster::shared()));
        let mut flags = Vec::new();
        if let Some(books) = &books {
            flags.extend(["--database", &books.database]);
        }
        if matches!(stage, Stage::BrokenTiers | Stage::BrokenEdge) {
            super::bombs::write_to(&rules);
            flags.extend(["--rules", rules.to_str().unwrap()]);
        }
        let (running, key) = match stage {
            Stage::Tiers | Stage::PostgresTiers | Stage::SteppedTiers | Stage::BrokenTiers => {
                let variables = variables(stage, dir.path());
                let variables: Vec<_> =
                    variables.iter().map(|(name, it)| (*name, it.as_str())).collect();
                let system = System::starting_with(dir.path(), &flags, &variables);
                assert_eq!(system.line(), format!("ready https://{}", system.listen));
                (Running::Tiers(system), add_merchant(dir.path()))
            }
            Stage::Edge | Stage::BrokenEdge => {
                make(dir.path());
                let key = add_merchant(dir.path());
                (Running::Edge(Alone::start(dir.path(), &flags)), key)
            }
        };
        let ground = Self { stage, running, key, books, dir };
        until("the merchant is known", || {
            let answer = Wire::connect(ground.plain()).decide(&ground.key, &payment(&fresh_id()));
            (answer.status == 200).then_some(())
        });
        ground.recovered();
        if ground.books.is_some() {
            ground.meet_everybody();
        }
        ground
    }

    /// Asks once for each customer and terminal of the load.
    fn meet_everybody(&self) {
        let mut wire = Wire::connect(self.plain());
        for number in 0..EVERYBODY {
            let body = honest_payment(&fresh_id(), "payment", number);
            assert_eq!(wire.post("/v1/decisions", &self.key, body.as_bytes()).status, 200);
        }
    }

    /// The tiers; only the stages that have them may ask.
    pub fn system(&self) -> &System {
        match &self.running {
            Running::Tiers(system) => system,
            Running::Edge(_) => panic!("{:?} has no tiers", self.stage),
        }
    }

    /// The books of core in PostgreSQL; only the stage that has them may ask.
    pub fn books(&self) -> &Books<'static> {
        self.books.as_ref().unwrap_or_else(|| panic!("{:?} has no PostgreSQL", self.stage))
    }

    /// What is wrong with the books, where they can be asked beside core: an answer of core's without its
    /// row, or a row without what belongs to it.
    pub fn discrepancies(&self, by_core: &[(String, String)]) -> Vec<String> {
        let Some(books) = &self.books else { return Vec::new() };
        let rows = books.rows("SELECT id, decision FROM decisions").into_iter();
        let rows: HashMap<_, _> = rows.map(|[id, decision]| (id, decision)).collect();
        let is_missing = |(id, decision): &&(String, String)| rows.get(id) != Some(decision);
        let missing = by_core.iter().filter(is_missing);
        let missing = missing.map(|(id, decision)| format!("{id}: no row says {decision}"));
        // Nobody is told of a probe.
        let untold = books.rows(&format!(
            "SELECT coalesce(decisions.id, told.id) FROM decisions \
             FULL JOIN (SELECT merchant, id, count(*) AS times FROM outbox GROUP BY 1, 2) AS told \
             USING (merchant, id) WHERE decisions.id IS NULL OR told.times IS DISTINCT FROM \
             CASE merchant WHEN '{PROBE_MERCHANT}' THEN NULL ELSE 1 END"
        ));
        let untold = untold
            .into_iter()
            .map(|[id]| format!("{id}: not as often in the outbox as it should be"));
        let uncounted = books.rows(
            "SELECT key FROM history FULL JOIN (SELECT DISTINCT merchant, \
             jsonb_array_elements_text(history_keys::jsonb) AS key FROM decisions) AS counted \
             USING (merchant, key) WHERE history.key IS NULL OR counted.key IS NULL",
        );
        let uncounted = uncounted.into_iter().map(|[key]| format!("{key}: counts what is no row"));
        missing.chain(untold).chain(uncounted).collect()
    }

    /// Where merchants connect without TLS.
    pub fn plain(&self) -> SocketAddr {
        match &self.running {
            Running::Tiers(system) => system.plain,
            Running::Edge(alone) => alone.plain,
        }
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket of the active api.
    pub fn api_socket(&self) -> PathBuf {
        self.dir().join("run/api-prod.sock")
    }

    /// The edge's door without TLS.
    pub fn plain_door(&self) -> Door {
        Door::Plain(self.plain())
    }

    /// The edge's door over TLS.
    pub fn tls_door(&self) -> Door {
        Door::Tls(self.system().listen, self.trust(b"http/1.1"))
    }

    /// A TLS client's configuration for this protocol.
    pub fn trust(&self, protocol: &[u8]) -> Arc<rustls::ClientConfig> {
        tls::trusting(&self.dir().join("ca.pem"), protocol)
    }

    /// The api's door, for an edge whose clock is off by so many milliseconds.
    pub fn api_door(&self, clock_off: i64) -> Door {
        Door::Api { socket: self.api_socket(), clock_off }
    }

    /// Waits until core decides again, where there is one; how long that took.
    pub fn recovered(&self) -> Option<Duration> {
        let Running::Tiers(system) = &self.running else { return None };
        let start = Instant::now();
        system.until_core_is_well(&self.key);
        Some(start.elapsed())
    }

    /// What the processes said, for a failure that has to be understood.
    pub fn logs(&self) -> String {
        match &self.running {
            Running::Tiers(system) => system.logs(),
            Running::Edge(alone) => std::fs::read_to_string(&alone.log).unwrap_or_default(),
        }
    }
}

/// A directory as a first run leaves it that could not listen.
fn make(dir: &Path) {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (listen, admin) = (taken.local_addr().unwrap().to_string(), free_address().to_string());
    backstop(&["up", "--dir", dir.to_str().unwrap(), "--listen", &listen, "--admin", &admin]);
    assert!(dir.join("certificate.pem").exists(), "a first run makes what it needs");
}

/// Lets a merchant in, whose requests may be about the past.
fn add_merchant(dir: &Path) -> String {
    let budget = format!("{}ms", BUDGET.as_millis());
    let dir = dir.to_str().unwrap();
    let added = backstop(&["merchant", "add", "shop", "--budget", &budget, "--test", "--dir", dir]);
    let printed = String::from_utf8(added.stdout).unwrap();
    let key = printed.split_whitespace().find(|it| it.starts_with("bsk_"));
    key.unwrap_or_else(|| panic!("no key: {printed}")).to_owned()
}

/// A `backstop-proxy` without anybody behind it.
struct Alone {
    child: Child,
    plain: SocketAddr,
    log: PathBuf,
}

impl Alone {
    fn start(dir: &Path, flags: &[&str]) -> Self {
        let (listen, plain, admin) = (free_address(), free_address(), free_address());
        let log = dir.join("edge.log");
        let child = Command::new(binary("backstop-proxy"))
            .arg("--dir")
            .arg(dir)
            .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .args(["--listen-plain", &plain.to_string()])
            .args(flags)
            // Its lifeline: it stops when this process does.
            .stdin(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let alone = Self { child, plain, log };
        until("the edge is ready", || std::net::TcpStream::connect(admin).ok());
        assert_eq!(Wire::connect(admin).send("GET", "/readyz", &[], b"").status, 200);
        until("the edge listens", || std::net::TcpStream::connect(plain).ok());
        alone
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
