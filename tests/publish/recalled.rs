//! `backstop rules try ID`: a draft asked about what the running system has decided, as if it had not been.

use serde_json::{Value, json};

use super::desk::{Desk, Said};
use crate::system::{System, Wire, payment, until};

/// Declines whoever has paid once within the hour, and never twice: so it tells how many it was shown.
const DRAFT: &str = r#"return {
  fields = { "terminal" }, safe = "review", strict = false,
  keys = function(tx) return { history = { customer = "customer:" .. tx.account } } end,
  decide = function(tx, history)
    if history.customer:count("1h") == 1 then return "decline", { "paid_before" } end
    return "approve"
  end,
}
"#;

/// Wants what nobody has: core says no.
const DEBIT: &str = r#"return {
  fields = {}, safe = "review", strict = false,
  keys = function() return {} end,
  decide = function() return "approve" end,
  effects = function(tx, decision) return { debit = { gems = 1 } } end,
}
"#;

/// Breaks where the client sent no time, as it would at the edge.
const DEFAULT: &str = r#"return {
  fields = {}, safe = "review",
  decide = function(tx) return tx.at > 0 and "approve" or "decline" end,
}
"#;

/// What core decides, by the key of `merchant.key`; for what was stood in for, under another number.
fn by_core(system: &System, ask: impl Fn(u64) -> Value) -> (u64, Value) {
    let mut number = 0;
    until("core decides", || {
        number += 1;
        let answer = system.connect().decide(&system.key(false), &ask(number));
        assert_eq!(answer.status, 200, "{answer:?}");
        let answer = answer.json();
        (answer["decided_by"] == "core").then_some((number, answer))
    })
}

/// `rules try` with these words, which must go well: every one of its lines, its words one space apart.
fn tried(desk: &Desk, words: &[&str]) -> Vec<String> {
    let text = desk.good(&[&["try"], words].concat());
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// The lines of one part, which begins with a line that begins so.
fn part<'a>(lines: &'a [String], begins: &str) -> &'a [String] {
    let is_head = |line: &String| {
        ["request ", "policy ", "default "].iter().any(|word| line.starts_with(word))
    };
    let from = lines.iter().position(|line| line.starts_with(begins));
    let from = from.unwrap_or_else(|| panic!("no {begins} in {lines:#?}"));
    let rest = &lines[from + 1..];
    &rest[..rest.iter().position(is_head).unwrap_or(rest.len())]
}

fn has(lines: &[String], line: &str) {
    assert!(lines.iter().any(|it| it == line), "no line {line:?} in {lines:#?}");
}

fn refused(said: &Said, words: &[&str]) {
    assert_eq!(said.code, 2, "{}", said.text);
    for words in words {
        assert!(said.text.contains(words), "{words} is not in\n{}", said.text);
    }
}

#[test]
fn a_draft_is_tried_on_what_was_decided_and_finds_neither_itself_nor_its_effects() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let desk = Desk::new(&system);
    let shipped = super::desk::version_of(&desk.draft);
    desk.write("policies/payment.lua", DRAFT);
    desk.write("defaults/payment.lua", DEFAULT);
    a_payment(&system, &desk, &shipped);
    a_claim_of_the_last_unit(&system, &desk);
    a_stand_in(&system, &desk);
    a_debit_of_what_is_not_there(&system, &desk);

    let unknown = desk.rules(&["try", "unknown-1"]);
    refused(&unknown, &["\"unknown-1\" of demo", "there is none", "--merchant", "must exist"]);
    let of_nobody = desk.rules(&["try", "unknown-1", "--merchant", "deno"]);
    refused(&of_nobody, &["there is no merchant \"deno\"", "demo-test"]);
    let otherwise = desk.rules(&["try", "unknown-1", "--policy", "claim"]);
    refused(&otherwise, &["is an id, and --policy goes with a file"]);
    refused(&desk.rules(&["try", "absent.json"]), &["absent.json: cannot be read"]);
    std::fs::write(dir.path().join("case.json"), "{}").unwrap();
    let case = dir.path().join("case.json").display().to_string();
    refused(&desk.rules(&["try", &case, "--merchant", "demo"]), &["--merchant goes with an id"]);
    refused(&desk.rules(&["try", &case, "--id"]), &["there is none"]);

    system.signal("core", "prod", nix::sys::signal::Signal::SIGSTOP);
    let of_the_other = desk.rules(&["try", "unknown-1"]);
    refused(&of_the_other, &["there is none"]);
    assert!(system.stop().success());
    refused(&desk.rules(&["try", "first-1"]), &["\"first-1\"", "no core runs", "backstop up"]);
}

/// The draft declines a second payment, and is shown a first one as such, whatever came of it and after it.
fn a_payment(system: &System, desk: &Desk, shipped: &str) {
    let ask = |id: &str, number: u64| {
        let mut body = payment(&format!("{id}-{number}"));
        body["account"] = format!("customer-{number}").into();
        body
    };
    // The first of an account whose second one core has decided, too.
    let (number, _) = by_core(system, |number| {
        let first = system.connect().decide(&system.key(false), &ask("first", number)).json();
        // A stand-in would be in the history only later.
        let is_whole = first["decided_by"] == "core";
        ask(if is_whole { "second" } else { "first" }, number)
    });
    let label = format!("/v1/decisions/second-{number}/label");
    let labelled = system.connect().post(&label, &system.key(false), br#"{"fraud":true}"#);
    assert_eq!(labelled.status, 204, "{labelled:?}");

    let lines = tried(desk, &[&format!("second-{number}")]);
    assert!(lines[0].starts_with(&format!("request second-{number} of demo, at 20")), "{lines:#?}");
    let told = part(&lines, "request ");
    for line in ["decision approve", &format!("version {shipped}"), "label fraud"] {
        has(told, line);
    }
    assert!(told.iter().any(|line| line.starts_with("by core, on prod, at 20")), "{told:#?}");
    let as_of = "history and stock are as they are now, without this decision";
    assert!(told.last().unwrap().starts_with(as_of), "{told:#?}");
    let by_draft = part(&lines, "policy payment");
    for line in [
        "decision decline",
        "reasons paid_before",
        &format!("wants history.customer, of customer:customer-{number}"),
        "read history.customer:count(\"1h\") = 1",
    ] {
        has(by_draft, line);
    }
    let by_default = part(&lines, "default payment");
    has(by_default, "decision review");
    assert!(by_default.iter().any(|line| line.starts_with("broke")), "{by_default:#?}");

    let lines = tried(desk, &[&format!("first-{number}"), "--merchant", "demo"]);
    let by_draft = part(&lines, "policy payment");
    has(by_draft, "decision approve");
    has(by_draft, "read history.customer:count(\"1h\") = 0");
    has(by_draft, "reasons");
}

fn a_claim_of_the_last_unit(system: &System, desk: &Desk) {
    let token = std::fs::read_to_string(system.dir.join("admin.token")).unwrap();
    let bearer = format!("Bearer {}", token.trim());
    let headers = [("Authorization", bearer.as_str())];
    let (path, level) = ("/admin/stock/sku:last", br#"{"remaining":1}"#);
    let set = Wire::connect(system.admin).send("PUT", path, &headers, level);
    assert_eq!(set.status, 200, "{set:?}");
    let claim = |id: &str, number: u64| {
        json!({ "id": format!("{id}-{number}"), "policy": "claim", "account": "customer-1",
                "attributes": { "sku": "last", "qty": 1 } })
    };
    let (granted_number, granted) = by_core(system, |number| claim("granted", number));
    assert_eq!(granted["effects"]["stock"]["sku:last"], 0, "{granted}");
    let lines = tried(desk, &[&format!("granted-{granted_number}")]);
    let by_draft = part(&lines, "policy claim");
    for line in [
        "decision approve",
        "wants stock[\"sku:last\"], of which is left: 1",
        "moves take 1 of sku:last",
        "core moves it, leaving 0 of sku:last, 1 of coins",
    ] {
        has(by_draft, line);
    }
    let (number, late) = by_core(system, |number| claim("late", number));
    assert_eq!(late["decision"], "decline", "{late}");
    let lines = tried(desk, &[&format!("late-{number}")]);
    let by_draft = part(&lines, "policy claim");
    has(by_draft, "wants stock[\"sku:last\"], of which is left: 0");

    let cancel = |id: &str, number: u64, of: u64| {
        json!({ "id": format!("{id}-{number}"), "policy": "claim", "account": "customer-1",
                "attributes": { "cancels": format!("granted-{of}") } })
    };
    let back = by_core(system, |number| cancel("back", number, granted_number));
    assert_eq!(back.1["decision"], "approve", "{}", back.1);
    let again = by_core(system, |number| cancel("again", number, granted_number));
    assert_eq!(again.1["decision"], "decline", "{}", again.1);
    for (id, line) in [
        (format!("back-{}", back.0), "core releases what was moved"),
        (format!("again-{}", again.0), "core declines: already_cancelled"),
    ] {
        let lines = tried(desk, &[&id]);
        let by_draft = part(&lines, "policy claim");
        has(by_draft, "decision approve");
        has(by_draft, line);
    }
}

/// The rule that core decided by moves nothing, and the draft does.
fn a_debit_of_what_is_not_there(system: &System, desk: &Desk) {
    let (number, _) = by_core(system, |number| payment(&format!("poor-{number}")));
    desk.write("policies/payment.lua", DEBIT);
    let lines = tried(desk, &[&format!("poor-{number}")]);
    let by_draft = part(&lines, "policy payment");
    for line in ["decision approve", "moves debit 1 of gems", "core declines: insufficient_balance"]
    {
        has(by_draft, line);
    }
}

fn a_stand_in(system: &System, desk: &Desk) {
    let mut body = payment("alone");
    body["attributes"]["backstop_force"] = "edge".into();
    body["at"] = "2018-08-01T12:00:00Z".into();
    let answer = system.decide(&body).json();
    assert_eq!(answer["decided_by"], "edge", "{answer}");
    let lines = until("it is settled", || {
        let said = desk.rules(&["try", "alone", "--merchant", "demo-test"]);
        (said.code == 0).then(|| tried(desk, &["alone", "--merchant", "demo-test"]))
    });
    assert_eq!(lines[0], "request alone of demo-test, at 2018-08-01T12:00:00.000Z");
    let told = part(&lines, "request ");
    assert!(told.iter().any(|line| line.starts_with("by edge, cause forced, on ")), "{told:#?}");
    has(told, "settled applied; core itself had decided nothing");
    // The client sent its time, so that the default may read it.
    let by_default = part(&lines, "default payment");
    has(by_default, "decision approve");
}
