//! How often the fallbacks say what core says: measured on live requests, shown, and watched.

mod system;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use system::{System, Wire, backstop, payment, until};

/// The figures of this merchant's payments, by tier and band: compared, agreed, falsely approved.
fn figures(report: &Value, tier: &str) -> Vec<(String, u64, u64, u64)> {
    let lines = report[tier]["lines"].as_array().unwrap();
    let count = |line: &Value, of: &str| line[of]["count"].as_u64().unwrap();
    let figure = |line: &Value| {
        let outcomes = ["agree", "false_approve", "false_decline", "otherwise"];
        let compared = outcomes.iter().map(|of| count(line, of)).sum();
        let band = line["band"].as_str().unwrap().to_owned();
        (band, compared, count(line, "agree"), count(line, "false_approve"))
    };
    lines.iter().map(figure).collect()
}

/// The metrics that the expressions of a file of alerts are about.
fn metrics_of(alerts: &str) -> Vec<&str> {
    let code = alerts.lines().filter(|line| !line.trim_start().starts_with('#'));
    let words = code.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let mut names: Vec<&str> = words.filter(|word| word.starts_with("backstop_")).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[test]
fn what_core_decides_is_put_to_edge_and_api_as_well_and_each_alert_is_about_a_metric_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let all = "[fidelity]\nshare_ppm = 1_000_000\n";
    std::fs::write(dir.path().join("backstop.toml"), all).unwrap();
    let system = System::patient(dir.path());
    // A customer who always spends 10.00, and once ten times as much: core and api know the customer,
    // the edge knows nobody.
    for number in 0..13 {
        let mut body = payment(&format!("txn-{number}"));
        body["amount"] = json!(if number < 12 { 1_000 } else { 10_000 });
        let answer = system.decide(&body).json();
        let expected = if number < 12 { "approve" } else { "decline" };
        assert_eq!(
            (&answer["decided_by"], &answer["decision"]),
            (&json!("core"), &json!(expected))
        );
    }

    let path = dir.path().to_str().unwrap();
    let words = ["fidelity", "--dir", path];
    let report = until("all of them are compared", || {
        let output = backstop(&[&words[..], &["--json"]].concat());
        assert!(output.status.success(), "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let compared =
            |tier| figures(&report, tier).iter().map(|(_, compared, ..)| compared).sum::<u64>();
        (compared("edge") == 13 && compared("api") == 13).then_some(report)
    });
    let usual = ("<50".to_owned(), 12, 12, 0);
    assert_eq!(figures(&report, "edge"), [usual.clone(), ("<200".to_owned(), 1, 0, 1)]);
    assert_eq!(figures(&report, "api"), [usual, ("<200".to_owned(), 1, 1, 0)]);
    assert_eq!(report["edge"]["lines"][1]["false_approve"]["amount"], 10_000);

    let shown = String::from_utf8(backstop(&words).stdout).unwrap();
    for expected in ["100 % of what core decided", "92.31 %", "7.69 %, 100.00 GBP"] {
        assert!(shown.contains(expected), "{expected} in\n{shown}");
    }

    let metrics = |path| Wire::connect(system.admin).send("GET", path, &[], b"").text;
    let (of_edge, of_api) = (metrics("/metrics"), metrics("/metrics/api"));
    assert!(of_edge.contains("backstop_fidelity_ratio{policy=\"payment\",tier=\"edge\"} 0.923"));
    assert!(of_api.contains("backstop_fidelity_ratio{policy=\"payment\",tier=\"api\"} 1"));
    let alerts = std::fs::read_to_string("deploy/alerts.yml").unwrap();
    let metrics = metrics_of(&alerts);
    assert!(metrics.contains(&"backstop_fidelity_ratio"), "{metrics:?}");
    for metric in metrics {
        let is_in = |text: &str| text.lines().any(|line| line.starts_with(&format!("{metric}{{")));
        assert!(
            is_in(&of_edge) || is_in(&of_api),
            "deploy/alerts.yml knows {metric}, and nobody else"
        );
    }

    // With the api gone the edge tells what it knows, and why that is not all.
    let api = Pid::from_raw(system.signal("api", "prod", Signal::SIGSTOP));
    let shown = String::from_utf8(backstop(&words).stdout).unwrap();
    kill(api, Signal::SIGCONT).unwrap();
    assert!(shown.contains("the api of prod tells nothing"), "{shown}");
    assert!(shown.contains("7.69 %"), "{shown}");
}
