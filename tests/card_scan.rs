//! Card numbers go in wherever a client may put one, and are found nowhere: not in a file, a log, a
//! metric, a page of the database or an answer. And the search is shown to find what is there.

mod system;

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use system::{Response, System, Wire, payment, until};

/// Test numbers that the networks publish: no bank ever issued them, and every check takes them.
const CARDS: [&str; 10] = [
    "4111111111111111",
    "4222222222222",
    "5555555555554444",
    "2223003122003222",
    "378282246310005",
    "30569309025904",
    "6011111111111117",
    "3530111333300000",
    "6759649826438453",
    "4000000000000000006",
];

/// The largest whole number in an attribute.
const INTEGER_MAX: i64 = (1 << 53) - 1;

/// A number in groups as it stands on the card.
fn grouped(card: &str, between: &str) -> String {
    let groups: &[usize] = match card.len() {
        14 => &[4, 6, 4],
        15 => &[4, 6, 5],
        _ => &[4; 5],
    };
    let mut rest = card;
    let mut parts = Vec::new();
    for length in groups {
        let (part, behind) = rest.split_at(std::cmp::min(*length, rest.len()));
        parts.push(part);
        rest = behind;
    }
    parts.retain(|part| !part.is_empty());
    parts.join(between)
}

/// A number as people and programs write it.
fn written(card: &str) -> [String; 3] {
    [card.to_owned(), grouped(card, " "), grouped(card, "-")]
}

/// Every form of every number, as bytes; also as the integer that SQLite or a message would hold.
fn needles() -> Vec<Vec<u8>> {
    let mut needles = Vec::new();
    for card in CARDS {
        needles.extend(written(card).map(String::into_bytes));
        let number: i64 = card.parse().unwrap();
        needles.extend([number.to_be_bytes().to_vec(), number.to_le_bytes().to_vec()]);
    }
    needles
}

/// What was found in these bytes.
fn found(place: &str, bytes: &[u8]) -> Vec<String> {
    let needles = needles();
    let mut by_first: [Vec<&[u8]>; 256] = [const { Vec::new() }; 256];
    for needle in &needles {
        by_first[usize::from(needle[0])].push(needle);
    }
    let mut found = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        for needle in &by_first[usize::from(*byte)] {
            if bytes[at..].starts_with(needle) {
                let around = &bytes[at.saturating_sub(80)..std::cmp::min(at + 40, bytes.len())];
                found.push(format!("{place}, byte {at}: {}", String::from_utf8_lossy(around)));
            }
        }
    }
    found
}

/// Searches every file below a folder; how many there were, and what was found.
fn scan(dir: &Path) -> (usize, Vec<String>) {
    let (mut files, mut hits) = (0, Vec::new());
    let mut open = vec![dir.to_owned()];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        } else if path.is_file() {
            files += 1;
            hits.extend(found(&path.display().to_string(), &std::fs::read(&path).unwrap()));
        }
    }
    (files, hits)
}

/// A client that puts card numbers everywhere.
struct Careless<'a> {
    system: &'a System,
    key: String,
    /// Makes the ids of this client unique.
    name: &'a str,
}

impl Careless<'_> {
    /// What is answered holds no number either.
    fn clean(response: &Response, what: &str) {
        let text = format!("{response:?}");
        assert_eq!(found(what, text.as_bytes()), Vec::<String>::new());
    }

    /// Numbers in attributes, in every form at once: replaced, and decided on. On a busy machine
    /// another tier may stand in for some, but not for all.
    fn in_attributes(&self, decided_by: &str) {
        let mut wire = self.system.connect();
        let mut decided = Vec::new();
        for card in CARDS {
            let mut body = payment(&format!("{}-{}", self.name, &card[card.len() - 4..]));
            let attributes = body["attributes"].as_object_mut().unwrap();
            for (n, form) in written(card).into_iter().enumerate() {
                attributes.insert(format!("form_{n}"), json!(form));
                attributes.insert(format!("text_{n}"), json!(format!("paid by {form}, thanks")));
                attributes.insert(format!("expires_{n}"), json!(format!("{form} 12/28 737")));
                attributes.insert(format!("count_{n}"), json!(format!("2 {form}")));
            }
            let number: i64 = card.parse().unwrap();
            if number <= INTEGER_MAX {
                attributes.insert("integer".into(), json!(number));
            }
            // What serde_json would not write: `\u0034` is a 4.
            let odd = format!("{{\"float\":{card}.0,\"exponent\":{card}e0,\"u\":\"\\u003{card}\",");
            let text =
                body.to_string().replacen("\"attributes\":{", &format!("\"attributes\":{odd}"), 1);
            let response = wire.post("/v1/decisions", &self.key, text.as_bytes());
            assert_eq!(response.status, 200, "{card}: {response:?}");
            Self::clean(&response, "a decision");
            decided.push(response.json()["decided_by"].clone());
        }
        assert!(decided.contains(&json!(decided_by)), "{decided:?}");
    }

    /// Numbers where none may be: refused, and not repeated.
    fn in_other_fields(&self) {
        let mut wire = self.system.connect();
        for form in CARDS.iter().flat_map(|card| written(card)) {
            for field in ["id", "account", "policy", "currency", "amount", "at", "attributes"] {
                let mut body = payment(self.name);
                body[field] = json!(form);
                self.refused(&mut wire, body.to_string().as_bytes());
            }
            let named = |name: &str, value: Value| {
                let mut body = payment(self.name);
                body[name] = value;
                body
            };
            for body in [
                named("card", json!(form)),
                named(&form, json!(1)),
                named("attributes", json!({ form.as_str(): 1 })),
                named("attributes", json!({ form.as_str(): { "a": form } })),
                named("attributes", json!({ "card": { "number": form } })),
                named("attributes", json!({ "card": [form] })),
            ] {
                self.refused(&mut wire, body.to_string().as_bytes());
            }
            for body in [
                form.clone().into_bytes(),
                format!("{{\"id\":\"{form}").into_bytes(),
                format!("{{\"id\":{form}x}}").into_bytes(),
                format!("{{\"id\":\"a\",\"id\":\"{form}\"}}").into_bytes(),
                [b"\xff", form.as_bytes()].concat(),
                format!("card={form}&cvc=737").into_bytes(),
            ] {
                self.refused(&mut wire, &body);
            }
        }
    }

    fn refused(&self, wire: &mut Wire, body: &[u8]) {
        let response = wire.post("/v1/decisions", &self.key, body);
        let shown = String::from_utf8_lossy(body);
        assert!(matches!(response.status, 400 | 422), "{shown}: {response:?}");
        Self::clean(&response, "a refusal");
    }

    /// Numbers in paths, queries, headers and labels: answered the same whoever is alive.
    fn in_paths_and_headers(&self) {
        let bearer = format!("Bearer {}", self.key);
        let auth = ("Authorization", bearer.as_str());
        let json = ("Content-Type", "application/json");
        let label = format!("/v1/decisions/{}-1111/label", self.name);
        let mut wire = self.system.connect();
        let mut send = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
            let response = wire.send(method, path, headers, body);
            Self::clean(&response, path);
            response.status
        };
        for form in CARDS.iter().flat_map(|card| written(card)) {
            let path = form.replace(' ', "%20");
            let body = payment(self.name).to_string().into_bytes();
            for (method, path, expected) in [
                ("GET", format!("/v1/decisions/{path}"), 404),
                ("DELETE", format!("/v1/decisions/{path}"), 405),
                ("GET", format!("/v1/cards/{path}?card={path}"), 404),
                ("POST", format!("/{path}"), 404),
                ("PUT", format!("/v1/decisions?card={path}"), 405),
            ] {
                let status = send(method, &path, &[auth, json], form.as_bytes());
                assert_eq!(status, expected, "{method} {path}");
            }
            let of_a_card = format!("/v1/decisions/{path}/label");
            assert_eq!(send("POST", &of_a_card, &[auth, json], b"{\"fraud\":true}"), 404);
            for header in ["Authorization", "Backstop-Budget-Ms", "Content-Type"] {
                let status = send("POST", "/v1/decisions", &[(header, &form)], &body);
                assert_eq!(status, 401, "{header}");
            }
            let status = send("POST", "/v1/decisions", &[auth, ("Content-Type", &form)], &body);
            assert_eq!(status, 415);
            let mut headers = vec![auth, json];
            for name in ["X-Card", "Cookie", "User-Agent", "traceparent", "Backstop-Merchant"] {
                headers.push((name, &form));
            }
            // Forced, so that it costs no wait where the api hangs.
            let mut body = payment(&format!("{}-{}", self.name, form.len()));
            body["attributes"]["backstop_force"] = json!("edge");
            assert_eq!(send("POST", "/v1/decisions", &headers, body.to_string().as_bytes()), 200);
            for body in
                [format!("{{\"fraud\":\"{form}\"}}"), format!("{{\"{form}\":true}}"), form.clone()]
            {
                assert_eq!(send("POST", &label, &[auth, json], body.as_bytes()), 400, "{body}");
            }
        }
    }

    /// Numbers in what is not even HTTP, such as a body that is longer than it was declared.
    fn in_broken_requests(&self) {
        for form in CARDS.iter().flat_map(|card| written(card)) {
            let head =
                format!("POST /v1/decisions HTTP/1.1\r\nAuthorization: Bearer {}\r\n", self.key);
            for bytes in [
                format!("{form}\r\n\r\n"),
                format!("POST /v1/decisions HTTP/1.1\r\n{form}\r\n\r\n"),
                format!("POST /v1/decisions HTTP/1.1\r\nX-Card\x01: {form}\r\n\r\n"),
                format!("POST /v1/decisions HTTP/{form}\r\n\r\n"),
                format!("{head}Content-Length: {form}\r\n\r\n{{"),
                format!("{head}Content-Length: 2\r\n\r\n{{}}{{\"card\":\"{form}\"}}\r\n\r\n"),
                format!("{head}Transfer-Encoding: chunked\r\n\r\n{form}\r\n{form}\r\n0\r\n\r\n"),
            ] {
                for address in [self.system.plain, self.system.admin] {
                    let mut wire = Wire::connect(address);
                    wire.write(bytes.as_bytes());
                    wire.end();
                    while let Some(response) = wire.read() {
                        Self::clean(&response, "an answer to what is not HTTP");
                    }
                }
            }
            let mut admin = Wire::connect(self.system.admin);
            let path = format!("/admin/stock/{}?merchant={0}", form.replace(' ', "%20"));
            let token = format!("Bearer {form}");
            Self::clean(&admin.send("GET", &path, &[("Authorization", &token)], b""), "admin");
        }
    }

    fn everywhere(&self, decided_by: &str) {
        self.in_attributes(decided_by);
        self.in_other_fields();
        self.in_paths_and_headers();
        self.in_broken_requests();
    }
}

#[test]
fn card_numbers_sent_in_every_place_and_form_are_found_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    // On a slow machine the usual 10 ms may not do to answer for a core that stands still.
    let settings = "[api]\nreserve = \"100ms\"\n";
    std::fs::write(dir.path().join("backstop.toml"), settings).unwrap();
    let system = System::starting_with(dir.path(), &[], &[("BACKSTOP_LOG", "trace")]);
    assert_eq!(system.line(), format!("ready https://{}", system.listen));
    let client = |name| Careless { system: &system, key: system.key(true), name };
    client("alive").everywhere("core");
    for (tier, name, decided_by) in [("core", "no-core", "api"), ("api", "no-api", "edge")] {
        let pid = system.signal(tier, "prod", Signal::SIGSTOP);
        client(name).everywhere(decided_by);
        // What is still in flight must not end up in the words about its tier's end either.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        until("it is started again", || (system.pid_of(tier, "prod") != pid).then_some(()));
    }
    system.decide_by_core();

    until("the number's request is in the books", || {
        let record = system.connect().get("/v1/decisions/alive-1111", &system.key(true));
        (record.status == 200).then_some(())
    });
    let log = std::fs::read_to_string(dir.path().join("logs/proxy.log")).unwrap();
    assert!(log.contains("TRACE"), "the logs are at their most talkative");
    let edge = Wire::connect(system.admin).send("GET", "/metrics", &[], b"").text;
    let mut hits = found("the edge's metrics", edge.as_bytes());
    for socket in ["api-prod.sock", "api-old-prod.sock", "core-prod.sock", "core-old-prod.sock"] {
        hits.extend(found(socket, system.metrics_of(socket).as_bytes()));
    }
    // Once with the write-ahead log of the database, once with everything flushed and closed.
    let (running, in_running) = scan(dir.path());
    system.stop();
    let (stopped, in_stopped) = scan(dir.path());
    hits.extend(in_running.into_iter().chain(in_stopped));
    assert!(running > 10 && stopped > 10, "{running} and {stopped} files");
    let shown = hits.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(hits.is_empty(), "{} hits, such as\n{shown}", hits.len());
}

#[test]
fn the_scan_finds_a_number_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    for (n, needle) in needles().iter().enumerate() {
        let planted = deep.join(n.to_string());
        std::fs::write(&planted, [b"before \0", needle.as_slice(), b" behind"].concat()).unwrap();
        let (_, hits) = scan(dir.path());
        assert_eq!(hits.len(), 1, "{needle:?}: {hits:?}");
        std::fs::remove_file(planted).unwrap();
    }
    assert_eq!(grouped("378282246310005", " "), "3782 822463 10005");
}

#[test]
fn a_number_that_a_merchant_declares_harmless_is_kept_and_found_in_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let system = System::patient(dir.path());
    let file = dir.path().join("merchants.toml");
    let merchants = std::fs::read_to_string(&file).unwrap();
    let harmless = merchants.replace("numeric_ids = false", "numeric_ids = true");
    assert_ne!(harmless, merchants, "{merchants}");
    std::fs::write(&file, harmless).unwrap();
    let body = payment(CARDS[0]);
    until("it is declared", || (system.decide(&body).status == 200).then_some(()));
    assert_eq!(system.decide(&body).json()["decided_by"], "core");
    system.stop();
    let (_, hits) = scan(dir.path());
    assert!(hits.iter().any(|hit| hit.contains("backstop.db")), "{hits:?}");
}
