//! A running Backstop for a test: real processes in a folder of their own, on ports of their own, all
//! of them ended with the test. And the plainest possible client, which hides nothing of the wire.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

/// What a test waits for comes within this time, or never. Long, since CI shares its machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The budget of a test that is not about time.
pub const AMPLE: Duration = Duration::from_secs(5);

/// Asks again until `look` sees what it looks for. Panics with `what` when patience ends.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let pause = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while waited < PATIENCE {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(pause);
        waited += pause;
    }
    panic!("waited {PATIENCE:?} in vain for: {what}");
}

/// A binary of the profile that this test was built with, or one in `BACKSTOP_BIN_DIR`.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let beside = test.parent().unwrap().parent().unwrap().to_owned();
    let file = std::env::var_os("BACKSTOP_BIN_DIR").map_or(beside, PathBuf::from).join(name);
    assert!(file.exists(), "{} is missing: run `cargo build --workspace --bins`", file.display());
    file
}

/// An address that is this process's own until it ends. Its port is below those that Linux gives to
/// outgoing connections and to whoever asks for port 0, and its lock, a name among the abstract
/// sockets, keeps other tests off it: a system that is started anew finds its ports free.
pub fn free_address() -> SocketAddr {
    static LOCKS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());
    let mut locks = LOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    (15_000..25_000)
        .find_map(|port| {
            let lock = UnixAddr::from_abstract_name(format!("backstop-tests-port-{port}")).unwrap();
            locks.push(UnixListener::bind_addr(&lock).ok()?);
            TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()
        })
        .expect("none of the ports from 15000 to 24999 is free")
}

/// `backstop` with these words, run to its end.
pub fn backstop(words: &[&str]) -> Output {
    Command::new(binary("backstop")).args(words).stdin(Stdio::null()).output().unwrap()
}

/// Makes the merchants of a directory that was never served, with this budget; the first run gives them
/// their keys. On the usual 300 ms a machine that is busy with other things has somebody stand in for
/// core now and then, and what was told once is told again.
pub fn be_patient(dir: &Path, budget: Duration) {
    let merchant = |name: &str, test: bool| {
        format!(
            "[[merchant]]\nname = \"{name}\"\nbudget = \"{}ms\"\ntest = {test}\n\
             numeric_ids = false\nkeys = []\n",
            budget.as_millis()
        )
    };
    let merchants = [merchant("demo", false), merchant("demo-test", true)].concat();
    std::fs::write(dir.join("merchants.toml"), merchants).unwrap();
}

/// One `backstop up`.
pub struct System {
    child: Child,
    lines: Receiver<String>,
    /// Where everything of it lies.
    pub dir: PathBuf,
    /// Where merchants connect over TLS.
    pub listen: SocketAddr,
    /// Where a balancer would connect, without TLS.
    pub plain: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

impl System {
    /// Starts in `dir` and waits for the ready line.
    pub fn up(dir: &Path) -> Self {
        let system = Self::starting(dir, &[]);
        let ready = system.line();
        assert_eq!(ready, format!("ready https://{}", system.listen), "{}", system.logs());
        system
    }

    /// The same with merchants that have patience, for a test of what core answers and not of when.
    pub fn patient(dir: &Path) -> Self {
        be_patient(dir, AMPLE);
        Self::up(dir)
    }

    /// Begins to send so many payments over TLS, made for it, each at the moment it is due.
    pub fn replaying(&self, rate: u64, requests: u64, connections: u64) -> Child {
        let file = self.dir.join("payments.csv");
        let path = file.to_str().unwrap();
        let days = (requests / 1_900 + 1).to_string();
        let made = backstop(&["generate", "--customers", "1000", "--days", &days, "--out", path]);
        assert!(made.status.success(), "{made:?}");
        Command::new(binary("backstop"))
            .args(["replay", path, "--json", "--dir", self.dir.to_str().unwrap()])
            .args(["--rate", &rate.to_string(), "--limit", &requests.to_string()])
            .args(["--connections", &connections.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts in `dir` with further flags; the first line is still to come.
    pub fn starting(dir: &Path, flags: &[&str]) -> Self {
        Self::starting_with(dir, flags, &[])
    }

    /// The same, with these variables in the environment of every process.
    pub fn starting_with(dir: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let (listen, plain, admin) = (free_address(), free_address(), free_address());
        let mut child = Command::new(binary("backstop"))
            .arg("up")
            .arg("--dir")
            .arg(dir)
            .args(["--listen", &listen.to_string(), "--admin", &admin.to_string()])
            .args(["--listen-plain", &plain.to_string()])
            .args(flags)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, dir: dir.to_owned(), listen, plain, admin }
    }

    /// The next line that `up` prints.
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line:\n{}", self.logs()))
    }

    /// The pid of `up` itself.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `backstop status --json` says.
    pub fn status(&self) -> Value {
        let output = backstop(&["status", "--json", "--dir", self.dir.to_str().unwrap()]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }

    /// One process of the status; `stack` is empty for the proxy.
    pub fn process(&self, tier: &str, stack: &str) -> Value {
        let status = self.status();
        let processes = status["processes"].as_array().unwrap();
        let is = |it: &&Value| it["tier"] == tier && it["stack"].as_str().unwrap_or("") == stack;
        processes.iter().find(is).unwrap_or_else(|| panic!("no {tier} {stack}: {status}")).clone()
    }

    /// The pid of a process that is up.
    pub fn pid_of(&self, tier: &str, stack: &str) -> i32 {
        until(&format!("{tier} {stack} is up"), || {
            let process = self.process(tier, stack);
            let pid = process["pid"].as_i64().filter(|_| process["state"] == "up")?;
            i32::try_from(pid).ok()
        })
    }

    /// Sends a signal to a process, by its pid.
    pub fn signal(&self, tier: &str, stack: &str, signal: nix::sys::signal::Signal) -> i32 {
        let pid = self.pid_of(tier, stack);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).unwrap();
        pid
    }

    /// The key of `merchant.key`, or with `test` that of `test-merchant.key`.
    pub fn key(&self, test: bool) -> String {
        let file = if test { "test-merchant.key" } else { "merchant.key" };
        std::fs::read_to_string(self.dir.join(file)).unwrap().trim().to_owned()
    }

    /// A connection of the merchant's, kept alive.
    pub fn connect(&self) -> Wire {
        Wire::connect(self.plain)
    }

    /// Asks for a decision on a connection of its own.
    pub fn decide(&self, body: &Value) -> Response {
        self.connect().decide(&self.key(true), body)
    }

    /// What core decides: asks under one new id after another while somebody stands in for it.
    pub fn decide_by_core(&self) -> Response {
        until("core decides", || {
            let response = self.decide(&payment(&fresh_id()));
            assert_eq!(response.status, 200, "{response:?}");
            (response.json()["decided_by"] == "core").then_some(response)
        })
    }

    /// Waits until core has decided ten requests of this merchant in a row.
    pub fn until_core_is_well(&self, key: &str) {
        let mut in_a_row = 0;
        until("core decides again", || {
            let answer = self.connect().decide(key, &payment(&fresh_id())).json();
            in_a_row = if answer["decided_by"] == "core" { in_a_row + 1 } else { 0 };
            (in_a_row == 10).then_some(())
        });
    }

    /// The value of a metric of the edge, 0 where it is not there yet.
    pub fn metric(&self, series: &str) -> f64 {
        let response = Wire::connect(self.admin).send("GET", "/metrics", &[], b"");
        let line = |line: &&str| line.starts_with(series);
        let found = response.text.lines().find(line).map(str::to_owned);
        found.map_or(0.0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// The metrics of a tier, from its socket.
    pub fn metrics_of(&self, socket: &str) -> String {
        let mut stream = UnixStream::connect(self.dir.join("run").join(socket)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        stream.write_all(request).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.contains("# HELP"), "{text}");
        text
    }

    /// Every log, for a failure that has to be understood.
    pub fn logs(&self) -> String {
        let Ok(files) = std::fs::read_dir(self.dir.join("logs")) else { return "no logs".into() };
        let read = |file: PathBuf| {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(20).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            format!("== {}\n{}\n", file.display(), tail.join("\n"))
        };
        files.map(|file| read(file.unwrap().path())).collect()
    }

    /// Sends SIGTERM to `up` and waits for its end.
    pub fn stop(mut self) -> std::process::ExitStatus {
        self.end()
    }

    fn end(&mut self) -> std::process::ExitStatus {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let waited = until_or_none(|| self.child.try_wait().unwrap());
        waited.unwrap_or_else(|| {
            let _ = self.child.kill();
            self.child.wait().unwrap()
        })
    }
}

fn until_or_none<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    for _ in 0..1000 {
        if let Some(seen) = look() {
            return Some(seen);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

impl Drop for System {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end();
        }
    }
}

/// An HTTP response, as it came.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Response {
    /// A header's value, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(it, _)| it.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// One HTTP/1.1 connection.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Asks for a decision.
    pub fn decide(&mut self, key: &str, body: &Value) -> Response {
        self.post("/v1/decisions", key, body.to_string().as_bytes())
    }

    /// Posts a JSON body.
    pub fn post(&mut self, path: &str, key: &str, body: &[u8]) -> Response {
        let bearer = format!("Bearer {key}");
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        self.send("POST", path, &headers, body)
    }

    /// Gets a path with a key.
    pub fn get(&mut self, path: &str, key: &str) -> Response {
        self.send("GET", path, &[("Authorization", &format!("Bearer {key}"))], b"")
    }

    /// Sends a request and reads its response; the connection stays.
    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
        self.write(&[head.as_bytes(), body].concat());
        self.read().expect("a response")
    }

    /// Writes these very bytes.
    pub fn write(&mut self, bytes: &[u8]) {
        // A server that refuses early may have closed its half: the response tells.
        let _ = self.stream.get_mut().write_all(bytes);
    }

    /// Says that nothing more will be written.
    pub fn end(&self) {
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Write);
    }

    /// Reads one response; `None` when the connection was closed instead.
    pub fn read(&mut self) -> Option<Response> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
        let status = line.split(' ').nth(1)?.parse().ok()?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).ok()?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let mut response = Response { status, headers, text: String::new() };
        let length = response.header("content-length").parse().unwrap_or(0);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).ok()?;
        response.text = String::from_utf8(body).unwrap();
        Some(response)
    }
}

/// An id that no request had before. It has too few digits for a card number.
pub fn fresh_id() -> String {
    static GIVEN: AtomicUsize = AtomicUsize::new(0);
    format!("fresh-{}", GIVEN.fetch_add(1, Ordering::Relaxed))
}

/// A payment that every policy approves, under this id.
pub fn payment(id: &str) -> Value {
    json!({
        "id": id, "policy": "payment", "account": "customer-596",
        "amount": 5716, "currency": "GBP", "attributes": { "terminal": "3156" },
    })
}
