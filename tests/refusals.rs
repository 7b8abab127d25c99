//! Bad requests: each gets its problem document, the same whoever is alive, and loses nothing.

mod system;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system::{Response, System, Wire, payment};

/// A request that must be refused, and how.
struct Bad {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    kind: &'static str,
    pointer: Option<&'static str>,
}

fn bad(name: &'static str, body: Vec<u8>, status: u16, pointer: Option<&'static str>) -> Bad {
    let headers = vec![("Content-Type", "application/json".to_owned())];
    let (method, path, kind) = ("POST", "/v1/decisions", "");
    Bad { name, method, path, headers, body, status, kind, pointer }
}

/// A payment with one field set, or taken away by `null`.
fn with(field: &str, value: Value) -> Vec<u8> {
    let mut body = payment("bad");
    match value {
        Value::Null => drop(body.as_object_mut().unwrap().remove(field)),
        value => body[field] = value,
    }
    body.to_string().into_bytes()
}

fn text_with(from: &str, to: &str) -> Vec<u8> {
    let text = payment("bad").to_string();
    assert!(text.contains(from), "{text}");
    text.replace(from, to).into_bytes()
}

fn all() -> Vec<Bad> {
    let mut many = serde_json::Map::new();
    (0..65).for_each(|n| drop(many.insert(format!("a{n}"), json!(n))));
    let deep = format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000));
    let mut not_utf8 = payment("bad").to_string().into_bytes();
    let at = not_utf8.windows(8).position(|it| it == b"customer").unwrap();
    not_utf8[at] = 0xff;
    let plain = vec![("Content-Type", "text/plain".to_owned())];
    let whole = payment("bad").to_string().into_bytes();
    vec![
        bad("not JSON", b"hello".to_vec(), 400, None),
        bad("empty", Vec::new(), 400, None),
        bad("cut short", whole[..40].to_vec(), 400, None),
        bad("a list", b"[1]".to_vec(), 400, None),
        bad("bad UTF-8", not_utf8, 400, None),
        bad("a number as id", with("id", json!(7)), 400, Some("/id")),
        bad("id of 129 characters", with("id", json!("x".repeat(129))), 400, Some("/id")),
        bad("no account", with("account", Value::Null), 400, Some("/account")),
        bad("amount as text", with("amount", json!("5716")), 400, Some("/amount")),
        bad("2^53+1", text_with("5716", "9007199254740993"), 400, Some("/amount")),
        bad("negative", with("amount", json!(-1)), 400, Some("/amount")),
        bad("65 attributes", with("attributes", Value::Object(many)), 400, Some("/attributes")),
        bad("nested 10,000 deep", text_with("5716", &deep), 400, Some("/amount")),
        bad("duplicate key", text_with("{", "{\"id\":\"twice\","), 400, None),
        bad("unknown field", with("colour", json!("red")), 400, Some("/colour")),
        bad("unknown policy", with("policy", json!("lottery")), 422, Some("/policy")),
        bad("card as id", with("id", json!("4111111111111111")), 422, Some("/id")),
        bad("1 MB", with("id", json!("x".repeat(1 << 20))), 413, None),
        bad("65,537 bytes", vec![b' '; 65_537], 413, None),
        Bad { headers: plain, ..bad("not declared as JSON", whole, 415, None) },
        Bad { method: "PUT", ..bad("wrong method", Vec::new(), 405, None) },
        Bad { path: "/v2/decisions", ..bad("wrong path", Vec::new(), 404, None) },
    ]
}

fn send(wire: &mut Wire, key: Option<&str>, bad: &Bad) -> Response {
    let mut headers: Vec<_> = bad.headers.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let bearer = key.map(|key| format!("Bearer {key}"));
    headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
    wire.send(bad.method, bad.path, &headers, &bad.body)
}

/// Sends every bad request on one connection, and gives the documents.
fn refuse_all(system: &System) -> Vec<(u16, Value)> {
    let key = system.key(true);
    let mut wire = system.connect();
    let mut documents = Vec::new();
    for bad in all() {
        let response = send(&mut wire, Some(&key), &bad);
        assert_eq!(response.status, bad.status, "{}: {response:?}", bad.name);
        assert_eq!(response.header("content-type"), "application/problem+json", "{}", bad.name);
        let document = response.json();
        for field in ["type", "title", "status", "detail", "remedy"] {
            assert!(!document[field].is_null(), "{}: {document}", bad.name);
        }
        assert!(document["type"].as_str().unwrap().contains(bad.kind), "{}", bad.name);
        if bad.pointer.is_some() {
            assert_eq!(document["pointer"].as_str(), bad.pointer, "{}: {document}", bad.name);
        }
        if bad.status == 405 {
            assert_eq!(response.header("allow"), "POST");
        }
        documents.push((response.status, document));
    }
    for key in [None, Some("bsk_nobody_nothing"), Some("")] {
        let bad = bad("key", payment("bad").to_string().into_bytes(), 401, None);
        let response = send(&mut wire, key, &bad);
        assert_eq!(response.status, 401, "{response:?}");
        documents.push((response.status, response.json()));
    }
    documents
}

#[test]
fn each_bad_request_gets_the_same_document_with_every_tier_dead_as_with_all_alive() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let key = system.key(true);
    let alive = refuse_all(&system);
    // Nothing of a refused request is left: its id is free.
    let free = system.connect().get("/v1/decisions/bad", &key);
    assert_eq!(free.status, 404, "{free:?}");

    for (tier, stack) in [("core", "prod"), ("api", "prod")] {
        system.signal(tier, stack, Signal::SIGSTOP);
    }
    assert_eq!(system.decide(&payment("dead")).json()["decided_by"], "edge");
    let dead = refuse_all(&system);
    for (alive, dead) in alive.iter().zip(&dead) {
        assert_eq!(alive, dead);
    }
}

#[test]
fn a_body_of_the_largest_size_is_taken_and_a_megabyte_keeps_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::patient(dir.path());
    let key = system.key(true);
    let mut wire = system.connect();
    let mut largest = payment("largest").to_string().into_bytes();
    largest.resize(65_536, b' ');
    let taken = wire.post("/v1/decisions", &key, &largest);
    assert_eq!((taken.status, &taken.json()["decided_by"]), (200, &json!("core")));
    let refused = wire.post("/v1/decisions", &key, &vec![b' '; 1 << 20]);
    assert_eq!(refused.status, 413);
    assert_eq!(wire.decide(&key, &payment("after")).status, 200, "the connection is kept");
    // Over what is read to its end: answered, then closed.
    let refused = wire.post("/v1/decisions", &key, &vec![b' '; 3 << 20]);
    assert_eq!(refused.status, 413);
}

#[test]
fn the_path_is_judged_before_the_key_and_the_key_before_the_body() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let mut wire = system.connect();
    let json = ("Content-Type", "application/json");
    let big = vec![b'x'; 1 << 20];
    assert_eq!(wire.send("POST", "/nowhere", &[], &big).status, 404);
    assert_eq!(wire.send("PATCH", "/v1/decisions", &[], &big).status, 405);
    assert_eq!(wire.send("POST", "/v1/decisions", &[json], &big).status, 401);
    let bearer = format!("Bearer {}", system.key(true));
    let key = ("Authorization", bearer.as_str());
    assert_eq!(wire.send("POST", "/v1/decisions", &[key], &big).status, 415);
    assert_eq!(wire.send("POST", "/v1/decisions", &[key, json], &big).status, 413);
    assert_eq!(wire.send("POST", "/v1/decisions", &[key, json], b"x").status, 400);
}

#[test]
fn an_event_of_the_past_is_for_test_keys_only() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let mut body = payment("past");
    body["at"] = json!("2018-08-01T00:00:31Z");
    let refused = system.connect().decide(&system.key(false), &body);
    assert_eq!((refused.status, refused.json()["pointer"].as_str()), (422, Some("/at")));
    assert_eq!(system.decide(&body).status, 200);
}

#[test]
fn a_client_that_sends_headers_of_its_own_cannot_pass_for_another_merchant() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let bearer = format!("Bearer {}", system.key(false));
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Backstop-Merchant", "demo-test"),
        ("Backstop-Test", "true"),
    ];
    let body = payment("mine").to_string();
    let mine = system.connect().send("POST", "/v1/decisions", &headers, body.as_bytes());
    assert_eq!(mine.status, 200);
    assert_eq!(system.connect().get("/v1/decisions/mine", &system.key(false)).status, 200);
    assert_eq!(system.connect().get("/v1/decisions/mine", &system.key(true)).status, 404);
}

#[test]
fn a_body_in_pieces_or_announced_first_is_read_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::up(dir.path());
    let key = system.key(true);
    let head = format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    );
    let mut wire = system.connect();
    let body = payment("chunked").to_string();
    let (one, two) = body.split_at(body.len() / 2);
    let pieces = format!("{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    wire.write(format!("{head}Transfer-Encoding: chunked\r\n\r\n{pieces}").as_bytes());
    assert_eq!(wire.read().unwrap().status, 200);

    let body = payment("announced").to_string();
    let announced = format!("{head}Content-Length: {}\r\nExpect: 100-continue\r\n\r\n", body.len());
    wire.write(announced.as_bytes());
    assert_eq!(wire.read().unwrap().status, 100);
    wire.write(body.as_bytes());
    assert_eq!(wire.read().unwrap().status, 200);
}

/// What broke: the token that replaces a card number is longer than the number, and the api judged the
/// grown text anew. A note of 1,020 bytes got a 400 while the api lived, and a decision once it was dead.
#[test]
fn a_text_that_grows_by_a_replaced_card_number_stays_valid() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::patient(dir.path());
    let mut body = payment("grows");
    body["attributes"]["note"] = json!(format!("{} 4111 1111 1111 1111", "x".repeat(1000)));
    let answer = system.decide(&body);
    assert_eq!((answer.status, &answer.json()["decided_by"]), (200, &json!("core")));
}

/// What broke: a long but valid account made a longer history key than rules were allowed to name, and
/// every such payment got the policy's safe answer, as if the policy were broken.
#[test]
fn the_longest_names_that_are_valid_are_decided_by_the_policy() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::patient(dir.path());
    let mut body = payment(&"é".repeat(128));
    body["account"] = json!("é".repeat(128));
    for (n, terminal) in [json!("x".repeat(1024)), json!(true), json!(7)].into_iter().enumerate() {
        body["id"] = json!(format!("{n}{}", "é".repeat(127)));
        body["attributes"]["terminal"] = terminal;
        let answer = system.decide(&body).json();
        assert_eq!((&answer["decision"], &answer["cause"]), (&json!("approve"), &Value::Null));
    }
}
