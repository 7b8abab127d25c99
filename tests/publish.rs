//! From a draft to what decides, and back: every gate, every stage, under load, and with a bundle that only
//! breaks in production.
//!
//! `BACKSTOP_PUBLISH=full` publishes 100 bundles beside 1,000 requests a second, with the binaries of
//! `BACKSTOP_BIN_DIR`, and prints what that does to the latency.

mod system;

mod publish {
    pub mod desk;
    pub mod load;
    pub mod marked;
    mod recalled;
}

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use publish::desk::{Desk, version_of};
use publish::load::{Load, quantile};
use publish::marked::{marked, mixed};
use serde_json::{Value, json};
use system::{System, Wire, fresh_id, payment, until};

/// An account that the requests of no gate ever have, so that only production meets it.
const DOOMED: &str = "doomed-1";

fn ask(policy: &str, id: &str, account: &str) -> Value {
    json!({ "id": id, "policy": policy, "account": account, "amount": 2_000, "currency": "GBP" })
}

/// A mistake, and the gate and the words that it is refused with.
type Mistake = (&'static str, &'static str, &'static str, &'static str, &'static [&'static str]);

/// Each is a change of one file: what is replaced, by what, which gate refuses, and what that says.
const MISTAKES: [Mistake; 7] = [
    ("policies/gift.lua", "tx.account }", "tx.acount }", "check", &["write tx.account"]),
    ("policies/gift.lua", "  local found =", "  found =", "check", &["write local found"]),
    (
        "policies/gift.lua",
        "  local found =",
        "  local n = 1 while n > 0 do n = n + 1 end\n  local found =",
        "check",
        &["it does not end", "bound the loop"],
    ),
    (
        "policies/gift.lua",
        "return found:decide(CERTAIN, SUSPECT)",
        "return found.score >= CERTAIN",
        "check",
        &["return \"approve\", \"decline\" or \"review\""],
    ),
    ("policies/gift.lua", "strict = false", "strict = true", "check", &["no stand-in may approve"]),
    (
        "policies/gift.lua",
        "HOURLY_MAX = 10",
        "HOURLY_MAX = 11",
        "test",
        &["ten are for a person", "expected \"review\", got \"approve\""],
    ),
    (
        "policies/gift.lua",
        "  local found =",
        "  if tx.amount == 0 then\n    for _ = 1, 6000 do string.rep(\"x\", 4000) end\n  end\n  local found =",
        "bench",
        &["policies/gift.lua:"],
    ),
];

#[test]
fn a_rule_goes_from_nothing_to_a_decision_and_no_mistake_gets_there() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let desk = Desk::new(&system);
    let shipped = version_of(&desk.draft);
    let unknown = system.decide(&ask("gift", "before", "customer-1"));
    assert_eq!(unknown.status, 422, "{unknown:?}");
    let roll_back = br#"{"step":"roll_back","reason":"because","who":"mallory"}"#;
    for (method, headers, body) in [
        ("GET", &[][..], &b""[..]),
        ("POST", &[], roll_back),
        ("POST", &[("Authorization", "Bearer wrong")], roll_back),
    ] {
        let answer = Wire::connect(system.admin).send(method, "/admin/rules", headers, body);
        assert_eq!(answer.status, 401, "{method} {headers:?}");
    }
    desk.good(&["new", "gift"]);

    for (file, right, wrong, gate, words) in MISTAKES {
        let sound = desk.read(file);
        desk.write(file, &sound.replacen(right, wrong, 1));
        assert_ne!(desk.read(file), sound, "{right} is nowhere in {file}");
        let refused = desk.rules(&["publish", "--to", "live", "--reason", "a mistake"]);
        assert_eq!(refused.code, 1, "{}", refused.text);
        for words in words.iter().copied().chain([format!("refused by {gate}").as_str()]) {
            assert!(refused.text.contains(words), "{words} is not in\n{}", refused.text);
        }
        desk.write(file, &sound);
    }
    let payment_policy = desk.read("policies/payment.lua");
    std::fs::remove_file(desk.draft.join("policies/payment.lua")).unwrap();
    let lost = desk.rules(&["publish", "--reason", "without payments"]);
    assert!(lost.code == 1 && lost.text.contains("give --without payment"), "{}", lost.text);
    desk.write("policies/payment.lua", &payment_policy);
    let unreasonable = desk.rules(&["publish"]);
    assert_eq!(unreasonable.code, 2, "{}", unreasonable.text);
    assert_eq!(desk.publication("prod"), Value::Null);

    let version = version_of(&desk.draft);
    let said = desk.good(&["publish", "--reason", "gifts are checked"]);
    assert!(said.contains(&format!("{version} is asked in the shadow")), "{said}");
    assert!(said.contains("core-prod follows, api-prod follows"), "{said}");
    let answer = system.decide(&payment("in-the-shadow")).json();
    assert_eq!(answer["policy_version"], shipped.as_str(), "{answer}");
    until("the shadow is asked", || {
        system.metrics_of("core-prod.sock").contains("outcome=\"agree\"").then_some(())
    });

    desk.good(&["publish", "--to", "50%", "--reason", "for half of them"]);
    let mut by_version = BTreeMap::new();
    for number in 0..40 {
        let body =
            json!({ "account": format!("customer-{number}"), "id": format!("half-{number}") });
        let mut request = payment("");
        request.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let answer = system.decide(&request).json();
        *by_version.entry(answer["policy_version"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    let versions: Vec<_> = by_version.keys().collect();
    assert!(by_version.len() == 2 && versions.contains(&&version), "{by_version:?}");
    assert!(by_version.values().all(|count| *count >= 8), "{by_version:?}");

    let said = desk.good(&["publish", "--to", "live", "--reason", "for all", "--soak", "0s"]);
    assert!(said.contains(&format!("prod decides by {version}, no longer by {shipped}")), "{said}");
    let answer = until("the edge knows the policy", || {
        let answer = system.decide(&ask("gift", "live", "customer-1"));
        (answer.status == 200).then(|| answer.json())
    });
    assert_eq!(answer["policy_version"], version.as_str(), "{answer}");
    let again = desk.rules(&["publish", "--to", "live", "--reason", "again"]);
    assert!(again.code == 2 && again.text.contains("is live already"), "{}", again.text);
    let status = desk.good(&["status"]);
    for words in [format!("draft {version}"), format!("live        {version}"), "serves".into()] {
        assert!(status.contains(&words), "{words} is not in\n{status}");
    }
    let audit = desk.audit();
    for what in ["rules-shadow", "rules-share", "rules-live", "rules-default"] {
        assert!(audit.contains(what), "{what} is not in\n{audit}");
    }
}

/// The smallest rules that break for an account that only production has.
fn doomed(desk: &Desk, body: &str) {
    let policy = format!(
        "return {{\n  fields = {{}},\n  safe = \"review\",\n  strict = false,\n  keys = function(tx)\n    \
         return {{ history = {{ customer = \"customer:\" .. tx.account }} }}\n  end,\n  decide = \
         function(tx, history)\n{body}\n    return \"approve\", {{}}, 0\n  end,\n}}\n"
    );
    desk.write("policies/payment.lua", &policy);
    let test = "describe(\"payment\", function()\n  it(\"approves\", function()\n    \
                expect(ask({}).decision):is(\"approve\")\n  end)\nend)\n";
    desk.write("tests/payment.lua", test);
}

const FAILS: [(&str, &str); 3] = [
    ("an error", "    if string.sub(tx.account, 1, 6) == \"doomed\" then error(\"broken\") end"),
    (
        "a loop",
        "    if string.sub(tx.account, 1, 6) == \"doomed\" then\n      for _ = 1, 1e9 do history.customer:count(\"1h\") end\n    end",
    ),
    (
        "memory",
        "    if string.sub(tx.account, 1, 6) == \"doomed\" then\n      local t = {}\n      for i = 1, 1e7 do t[i] = tx.account .. i end\n    end",
    ),
];

#[test]
fn a_bundle_that_passes_all_gates_and_breaks_in_production_is_taken_back_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("backstop.toml"), "[rules]\nanswers_min = 20\n").unwrap();
    let system = System::up(dir.path());
    let desk = Desk::new(&system);
    let shipped = version_of(&desk.draft);
    let mut number = 0;
    for (name, body) in FAILS {
        doomed(&desk, body);
        let version = version_of(&desk.draft);
        desk.good(&["publish", "--to", "live", "--soak", "0s", "--reason", name]);
        let taken_back = until("it is taken back", || {
            for _ in 0..10 {
                number += 1;
                let mut body = payment(&format!("doomed-{number}"));
                body["account"] = DOOMED.into();
                let answer = system.decide(&body);
                assert_eq!(answer.status, 200, "{answer:?}");
            }
            let publication = desk.publication("prod");
            let broke = publication["broke"].as_array();
            broke.is_some_and(|it| it.contains(&json!(version))).then_some(publication)
        });
        assert_eq!(taken_back["live"]["version"], shipped.as_str(), "{taken_back}");
        until("the last good one decides, and is the edge's", || {
            number += 1;
            let answer = system.decide(&payment(&format!("sound-{number}"))).json();
            let is_back = answer["policy_version"] == shipped.as_str();
            let edge = desk.publication("edge");
            (is_back && edge["live"]["version"] == shipped.as_str()).then_some(())
        });
        let audit = desk.audit();
        let words = format!("by {version} were safe ones: it breaks");
        assert!(audit.contains("rules-taken-back") && audit.contains(&words), "{audit}");
        let status = desk.good(&["status"]);
        assert!(status.contains(&format!("taken back  {version}")), "{status}");
        assert!(system.logs().contains(&words), "{name}: nobody said so");
    }
}

#[test]
fn a_rollback_needs_nobody_but_the_edge_and_the_last_good_bundle_survives_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let desk = Desk::new(&system);
    let shipped = version_of(&desk.draft);
    doomed(&desk, "    -- to soak");
    let soaking = version_of(&desk.draft);
    desk.good(&["publish", "--to", "live", "--reason", "short"]);
    assert_eq!(desk.publication("prod")["live"]["version"], soaking.as_str());
    assert_eq!(desk.publication("edge")["live"]["version"], shipped.as_str(), "it has to soak");
    doomed(&desk, "");
    let version = version_of(&desk.draft);
    desk.good(&["publish", "--to", "live", "--soak", "0s", "--reason", "shorter"]);
    assert_eq!(desk.publication("edge")["live"]["version"], version.as_str());

    // What was published is gone from the disk, and the draft is broken: a core that starts has the last
    // good bundle.
    let shelf = dir.path().join("bundles");
    std::fs::rename(&shelf, dir.path().join("elsewhere")).unwrap();
    desk.write("policies/payment.lua", "return {");
    for (tier, stack) in [("core", "prod"), ("api", "prod"), ("proxy", "")] {
        let killed = system.signal(tier, stack, Signal::SIGKILL);
        until("it is started again", || (system.pid_of(tier, stack) != killed).then_some(()));
    }
    let mut number = 0;
    until("core decides by the last good", || {
        number += 1;
        let answer = system.decide(&payment(&format!("good-{number}"))).json();
        (answer["decided_by"] == "core").then(|| {
            assert_eq!(answer["policy_version"], version.as_str(), "{answer}");
        })
    });
    assert!(system.logs().contains("the last good ones are in force"), "{}", system.logs());
    std::fs::remove_dir_all(&shelf).ok();
    std::fs::rename(dir.path().join("elsewhere"), &shelf).unwrap();

    let stopped: Vec<_> =
        [("core", "prod"), ("core", "old-prod"), ("api", "prod"), ("api", "old-prod")]
            .map(|(tier, stack)| system.signal(tier, stack, Signal::SIGSTOP))
            .into();
    let said = desk.rules(&["rollback", "--reason", "it was too short"]);
    assert_eq!(said.code, 3, "{}", said.text);
    for words in [
        format!("prod decides by {soaking}, no longer by {version}"),
        "core-prod does not answer".to_owned(),
    ] {
        assert!(said.text.contains(&words), "{words} is not in\n{}", said.text);
    }
    until("the edge is back, too", || {
        let answer = system.decide(&payment(&format!("alone-{}", std::process::id()))).json();
        assert_eq!(answer["decided_by"], "edge", "{answer}");
        let edge = desk.publication("edge");
        (edge["live"]["version"] == shipped.as_str()).then_some(())
    });
    for pid in stopped {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    }
    until("core follows", || {
        number += 1;
        let answer = system.decide(&payment(&format!("good-{number}"))).json();
        let is_core = answer["decided_by"] == "core";
        (is_core && answer["policy_version"] == soaking.as_str()).then_some(())
    });
    desk.good(&["rollback", "--reason", "further"]);
    assert_eq!(desk.publication("prod")["live"]["version"], shipped.as_str());
    let nothing = desk.rules(&["rollback", "--reason", "further"]);
    assert!(
        nothing.code == 2 && nothing.text.contains("nothing was live before"),
        "{}",
        nothing.text
    );
}

#[test]
fn bundles_are_published_under_load_without_an_error_or_a_mixed_answer() {
    let is_full = std::env::var_os("BACKSTOP_PUBLISH").is_some_and(|form| form == "full");
    let (count, rate, connections) = if is_full { (100, 1_000, 32) } else { (15, 200, 8) };
    let (pause, quiet) = if is_full {
        (Duration::from_millis(250), Duration::from_secs(25))
    } else {
        (Duration::from_millis(50), Duration::from_secs(2))
    };
    let dir = tempfile::tempdir().unwrap();
    let first = dir.path().join("m0");
    marked(&first, 0);
    let system = System::starting(dir.path(), &["--rules", first.to_str().unwrap()]);
    assert!(system.line().starts_with("ready"), "{}", system.logs());
    let layout = backstop_settings::Layout::new(dir.path());
    let key = system.key(true);
    let mut marks = BTreeMap::from([(version_of(&first), 0)]);
    let bundles: Vec<_> = (1..=count)
        .map(|mark| {
            let folder = dir.path().join(format!("m{mark}"));
            marked(&folder, mark);
            let bundle = backstop_lua::Bundle::load(&folder).unwrap();
            marks.insert(bundle.version().to_owned(), mark);
            bundle
        })
        .collect();

    let load = Load::start(system.plain, &key, "mark", rate, connections);
    std::thread::sleep(quiet);
    let without = load.stop();

    let token = std::fs::read_to_string(dir.path().join("admin.token")).unwrap();
    let load = Load::start(system.plain, &key, "mark", rate, connections);
    for (place, bundle) in bundles.iter().enumerate() {
        backstop_lua::shelf::store(&layout, bundle, None).unwrap();
        // Every third begins with a share of the accounts.
        let version = bundle.version();
        if place % 3 == 0 {
            publish(&system, &token, version, &json!({ "percent": 50 }));
            std::thread::sleep(pause);
        }
        publish(&system, &token, version, &json!("live"));
        let sent = load.sent();
        until("requests go on", || (load.sent() > sent + 10).then_some(()));
        std::thread::sleep(pause);
    }
    let last = bundles.last().unwrap().version();
    until("the last one decides", || {
        let answer = system.decide(&ask("mark", &fresh_id(), "last")).json();
        (answer["policy_version"] == last).then_some(())
    });
    let with = load.stop();
    let seen: std::collections::BTreeSet<_> =
        with.iter().filter_map(|it| it.answer["policy_version"].as_str()).collect();
    let wrong: Vec<_> =
        without.iter().chain(&with).filter_map(|it| mixed(it, &marks)).take(5).collect();
    for (name, samples) in [("without publishing", &without), ("with", &with)] {
        println!(
            "{name}: {} answers, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            samples.len(),
            quantile(samples, 0.5),
            quantile(samples, 0.99),
            quantile(samples, 1.0)
        );
    }
    println!("{count} published, {} versions seen in answers", seen.len());
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen.len() > count / 2, "{} of {count} were ever seen", seen.len());
    let shelf = std::fs::read_dir(layout.bundles()).unwrap().count();
    assert!(shelf <= backstop_lua::shelf::BUNDLES_MAX + 1, "{shelf} bundles are kept");
}

/// Orders a step, as the command does once the gates are passed.
fn publish(system: &System, token: &str, version: &str, to: &Value) {
    let order = json!({
        "stack": "prod", "reason": "a hundred of them", "who": "maria",
        "step": { "publish": { "version": version, "to": to, "soak_seconds": 0 } },
    });
    let mut wire = Wire::connect(system.admin);
    let answer = wire.post("/admin/rules", token.trim(), order.to_string().as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}
