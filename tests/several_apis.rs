//! A stack with two apis, one of them as on another host: whichever dies, the other one answers.

mod system;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use system::{System, Wire, binary, free_address, payment, until};
use tempfile::TempDir;

/// Asked in a row to show that nobody stands in any more.
const ENOUGH: usize = 60;

/// An api that listens on the network. It has a directory of its own, and the core of another.
struct FarApi {
    child: Child,
    address: SocketAddr,
    token: String,
    _dir: TempDir,
}

impl FarApi {
    fn start(home: &Path, address: SocketAddr) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("run")).unwrap();
        let core = "run/core-prod.sock";
        std::os::unix::fs::symlink(home.join(core), dir.path().join(core)).unwrap();
        std::fs::copy(home.join("hop.token"), dir.path().join("hop.token")).unwrap();
        let child = Command::new(binary("backstop-api"))
            .args(["--stack", "prod", "--listen", &address.to_string(), "--dir"])
            .arg(dir.path())
            .arg("--rules")
            .arg(home.join("rules"))
            // Its lifeline: it stops when this process does.
            .stdin(Stdio::piped())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        until("the far api listens", || std::net::TcpStream::connect(address).ok());
        let token = std::fs::read_to_string(home.join("hop.token")).unwrap().trim().to_owned();
        Self { child, address, token, _dir: dir }
    }

    /// How many decisions it has passed on.
    fn decisions(&self) -> f64 {
        let metrics = Wire::connect(self.address).get("/metrics", &self.token).text;
        let lines = metrics.lines().filter(|line| line.starts_with("backstop_decisions_total{"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

impl Drop for FarApi {
    fn drop(&mut self) {
        // SIGKILL: it has no time to say goodbye.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A merchant that asks for one decision after another.
struct Merchant {
    wire: Wire,
    key: String,
    asked: usize,
}

impl Merchant {
    fn ask(&mut self) -> Value {
        self.asked += 1;
        let response = self.wire.decide(&self.key, &payment(&format!("txn-{}", self.asked)));
        assert_eq!(response.status, 200, "{response:?}");
        response.json()
    }

    fn ask_often(&mut self, when: &str) {
        for _ in 0..ENOUGH {
            let answer = self.ask();
            // On a busy machine one may be late for reasons of its own.
            let is_well = answer["decided_by"] == "core" || answer["cause"] == "deadline";
            assert!(is_well, "{when}: {answer}");
        }
    }
}

#[test]
fn when_one_of_two_apis_is_killed_the_other_one_answers_and_nobody_stands_in() {
    let dir = tempfile::tempdir().unwrap();
    let (near, far) = (dir.path().join("run/api-prod.sock"), free_address());
    let near = near.to_str().unwrap();
    let settings = format!("[edge]\nprod_apis = [\"{near}\", \"{far}\"]\n");
    std::fs::write(dir.path().join("backstop.toml"), settings).unwrap();
    let system = System::patient(dir.path());
    let mut merchant = Merchant { wire: system.connect(), key: system.key(true), asked: 0 };
    let far_name = far.to_string();
    let is_up = |name: &str| {
        let series = format!("backstop_peer_up{{peer=\"{name}\",stack=\"prod\"}}");
        system.metric(&series) > 0.0
    };
    let ask_until = |merchant: &mut Merchant, what: &str, is_so: &dyn Fn() -> bool| {
        until(what, || {
            merchant.ask();
            is_so().then_some(())
        });
    };

    // The far one is not there yet: that is no reason to stand in.
    merchant.ask_often("before the far api starts");
    assert!(is_up(near) && !is_up(&far_name), "the far one is set aside");

    let far_api = FarApi::start(dir.path(), far);
    ask_until(&mut merchant, "the far api is taken back", &|| is_up(&far_name));
    ask_until(&mut merchant, "the far api passes on", &|| far_api.decisions() > 10.0);
    let unknown = Wire::connect(far).get("/metrics", "bsh_nobody_in_particular");
    assert_eq!(unknown.status, 401, "strangers are refused");

    drop(far_api);
    ask_until(&mut merchant, "the far api is set aside", &|| !is_up(&far_name));
    merchant.ask_often("after the far api was killed");

    let _far_api = FarApi::start(dir.path(), far);
    ask_until(&mut merchant, "the far api is taken back", &|| is_up(&far_name));
    system.signal("api", "prod", Signal::SIGKILL);
    // What was on its way to the near one just then may have been answered for.
    merchant.ask();
    merchant.ask_often("after the near api was killed");
    ask_until(&mut merchant, "the near api is taken back", &|| is_up(near));
    merchant.ask_often("after all");
}
