//! A PostgreSQL cluster of a test binary's own: a private Unix socket, no port, durable commits, and
//! nothing left of it when the tests end, however they end.
//!
//! PostgreSQL refuses to run as root, so that a root who tests lends it the user `postgres` or `nobody`.

use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread::sleep;
use std::time::Duration;

/// Where Debian keeps what it does not put on the PATH: a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// What is run of them.
const PROGRAMS: [&str; 5] = ["initdb", "postgres", "createdb", "psql", "pg_isready"];
const MISSING: &str = "PostgreSQL is missing: initdb is neither on the PATH nor in \
    /usr/lib/postgresql/*/bin; install it, on Debian with: sudo apt-get install postgresql";
/// The kernel takes no longer path of a socket.
const SOCKET_PATH_BYTES_MAX: usize = 107;
/// How long the server may take to start.
const STARTS_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs the server until its stdin closes, and removes the folder then: that pipe closes however the
/// tests end, and no thread of theirs need live as long. Each line it reads is a restart: the signal that
/// ends the server.
const GUARD: &str = r#"
    folder=$1; shift
    "$@" </dev/null & server=$!
    while read -r signal; do
        kill -$signal $server; wait $server
        "$@" </dev/null & server=$!
    done
    kill -CONT $server; kill -QUIT $server; wait $server
    rm -rf -- "$folder"
"#;

/// A running cluster. Dropped, it is gone.
#[derive(Debug)]
pub struct Cluster {
    programs: PathBuf,
    folder: PathBuf,
    guard: Mutex<Child>,
    databases: AtomicU32,
}

impl Cluster {
    /// The cluster of this test binary, started by the first test that asks for it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&[]).unwrap_or_else(|why| panic!("{why}")))
    }

    /// A cluster of its own, with further settings such as `shared_buffers=1GB`; else one line that
    /// says what is wrong and what to do.
    pub fn start(settings: &[&str]) -> Result<Self, String> {
        let programs = programs().ok_or(MISSING)?;
        let folder = tempfile::Builder::new().prefix("pg").tempdir();
        let folder = folder.map_err(|error| format!("no temporary folder: {error}"))?.keep();
        let owner = Owner::of(&folder)?;
        let data = folder.join("data");
        if socket(&folder).as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(format!("{}: too long for a socket; set TMPDIR", folder.display()));
        }
        let mut initdb = owner.command(&programs.join("initdb"));
        initdb.args(["-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8", "--no-sync"]);
        succeed(initdb.arg("-D").arg(&data).current_dir(&folder))?;
        let mut server = owner.command(&programs.join("postgres"));
        server
            .arg("-D")
            .arg(&data)
            .arg("-c")
            .arg(format!("unix_socket_directories={}", folder.display()));
        for setting in
            ["listen_addresses=", "fsync=on", "synchronous_commit=on"].iter().chain(settings)
        {
            server.args(["-c", setting]);
        }
        // A group of its own: what interrupts the tests must not end it before it has cleared up.
        let mut guard = Command::new("sh");
        guard.process_group(0);
        guard
            .args(["-c", GUARD, "sh"])
            .arg(&folder)
            .arg(server.get_program())
            .args(server.get_args());
        let log = std::fs::File::create(folder.join("log")).map_err(|error| error.to_string())?;
        let guard =
            guard.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn();
        let guard = Mutex::new(guard.map_err(|error| format!("no server: {error}"))?);
        let cluster = Self { programs, folder, guard, databases: AtomicU32::new(0) };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut createdb = Command::new(self.programs.join("createdb"));
        createdb.arg("-h").arg(&self.folder).args(["-U", "postgres", &name]);
        succeed(&mut createdb).unwrap_or_else(|why| panic!("{why}"));
        format!("postgres://postgres@localhost/{name}?host={}", self.folder.display())
    }

    /// A `psql` at this database, which reads no settings of anybody's and prints bare rows.
    pub fn psql(&self, database: &str) -> Command {
        let mut psql = Command::new(self.programs.join("psql"));
        psql.args(["-XqAt", "-F", "\t", "-v", "ON_ERROR_STOP=1", database]);
        psql
    }

    /// The process of the server, to be stopped and continued; its children are those of this pid.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid"));
        let file = file.unwrap_or_else(|error| panic!("the server does not run: {error}"));
        file.lines().next().and_then(|line| line.parse().ok()).expect("the first line is the pid")
    }

    /// Stops the server as an operator would, and returns when another one serves.
    pub fn restart(&self) {
        self.restart_after("INT");
    }

    /// Ends the server at once, in the midst of whatever it does, and returns when another one has
    /// recovered and serves.
    pub fn crash(&self) {
        self.restart_after("QUIT");
    }

    fn restart_after(&self, signal: &str) {
        let before = self.pid();
        let mut guard = self.guard.lock().expect("nobody panics with the guard");
        writeln!(guard.stdin.as_mut().expect("it is piped"), "{signal}").expect("the guard reads");
        let patience = STARTS_WITHIN.as_millis() / LOOK_EVERY.as_millis();
        let is_another = || {
            let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid"));
            file.is_ok_and(|file| !file.starts_with(&format!("{before}\n")))
        };
        assert!(
            (0..patience).any(|_| is_another() || {
                sleep(LOOK_EVERY);
                false
            }),
            "no restart"
        );
        self.wait_until_ready().unwrap_or_else(|why| panic!("{why}"));
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        let mut ready = Command::new(self.programs.join("pg_isready"));
        ready.arg("-q").arg("-h").arg(&self.folder);
        for _ in 0..STARTS_WITHIN.as_millis() / LOOK_EVERY.as_millis() {
            if ready.status().is_ok_and(|status| status.success()) {
                return Ok(());
            }
            sleep(LOOK_EVERY);
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        Err(format!(
            "PostgreSQL did not start: {}",
            log.lines().last().unwrap_or("it said nothing")
        ))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Ok(guard) = self.guard.get_mut() {
            drop(guard.stdin.take());
            let _it_has_ended = guard.wait();
        }
    }
}

/// Who runs the server.
enum Owner {
    /// Whoever tests.
    Tester,
    /// Somebody with fewer rights than root, who tests.
    Lent { user: String, group: String },
}

impl Owner {
    /// The one for this folder, who then owns it.
    fn of(folder: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| format!("{}: {error}", folder.display());
        if std::fs::metadata(folder).map_err(failed)?.uid() != 0 {
            return Ok(Self::Tester);
        }
        let id = |flag: &str, user: &str| {
            let output = Command::new("id").args([flag, user]).output().ok()?;
            String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
        };
        let lent =
            ["postgres", "nobody"].iter().find_map(|user| Some((id("-u", user)?, id("-g", user)?)));
        let (user, group) =
            lent.ok_or("root tests, and there is no user postgres or nobody to run PostgreSQL")?;
        chown(folder, Some(user), Some(group)).map_err(failed)?;
        Ok(Self::Lent { user: user.to_string(), group: group.to_string() })
    }

    fn command(&self, program: &Path) -> Command {
        match self {
            Self::Tester => Command::new(program),
            Self::Lent { user, group } => {
                let mut lend = Command::new("setpriv");
                lend.args(["--reuid", user, "--regid", group, "--clear-groups"]).arg(program);
                lend
            }
        }
    }
}

/// The folder of the server's programs: that of the PATH, else of the newest version.
fn programs() -> Option<PathBuf> {
    let has_all = |folder: &PathBuf| PROGRAMS.iter().all(|name| folder.join(name).is_file());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<_> =
        std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().collect();
    versions.sort_by_key(|version| version.file_name().to_string_lossy().parse::<u32>().ok());
    let newest_first = versions.iter().rev().map(|version| version.path().join("bin"));
    std::env::split_paths(&path).chain(newest_first).find(has_all)
}

fn socket(folder: &Path) -> PathBuf {
    folder.join(".s.PGSQL.5432")
}

fn succeed(command: &mut Command) -> Result<Output, String> {
    let program = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(output) } else { Err(format!("{program}: {said}")) }
}
