//! The command against an edge that answers as told, over TLS: what is sent, what is printed, and how the
//! command ends.

use backstop_contract::reconciliation::{Gap, Kind, Line, Total};
use backstop_contract::{Decision, Tier, Verdict};
use clap::{CommandFactory as _, Parser};
use hyper::http::request::Parts;

use super::*;
use crate::client::tests::Server;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

fn args(server: &Server, flags: &[&str]) -> Args {
    let dir = server.dir.path().to_str().unwrap();
    let line = ["reconcile", "--dir", dir].into_iter().chain(flags.iter().copied());
    Cli::try_parse_from(line).unwrap().args
}

fn code(exit: ExitCode) -> String {
    format!("{exit:?}")
}

fn line(kind: Kind, id: &str, at: i64) -> Line {
    let decided_at = Timestamp::from_millis(at);
    let answer = Decision { decided_at, ..Decision::by(Tier::Edge, id.into(), Verdict::Approve) };
    let money = backstop_contract::request::Money { amount: 571_600, currency: "GBP".into() };
    Line { kind, ..Line::unsettled(&answer, Some(&money), "") }
}

fn statement_of(lines: Vec<Line>) -> Statement {
    let total = |kind: Kind, count| Total {
        kind,
        currency: Some("GBP".into()),
        count,
        amount: 571_600 * count,
    };
    let off = lines.iter().filter(|line| line.kind == Kind::Corrected).count() as u64;
    let mut totals = vec![total(Kind::Agreed, 41_000)];
    if off > 0 {
        totals.push(total(Kind::Corrected, off));
    }
    Statement {
        merchant: "demo".into(),
        from: Timestamp::from_millis(0),
        to: Timestamp::from_millis(86_400_000),
        totals,
        lines,
        truncated: false,
        gaps: Vec::new(),
    }
}

/// Nothing is off before 2020; what is asked about is the id of the only line.
#[allow(clippy::unnecessary_wraps)] // Another server might hang up.
fn edge(head: &Parts, body: &[u8]) -> Option<(StatusCode, String)> {
    let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
    assert_eq!(path, "/v1/reconciliation");
    let header = |name: &str| head.headers.get(name).map_or("", |value| value.to_str().unwrap());
    let shown = match head.method.as_str() {
        "GET" => query.to_owned(),
        _ => format!("{} {}", header("content-type"), String::from_utf8_lossy(body)),
    };
    if header("authorization") != "Bearer secret-0" {
        return Some((
            StatusCode::UNAUTHORIZED,
            String::from_utf8(Problem::unauthorized().to_json()).unwrap(),
        ));
    }
    if head.method == Method::POST {
        let rows = serde_json::json!({ "rows": 1, "totals": [], "findings": [
            { "difference": "differs", "line": 2, "id": shown, "currency": "GBP", "between": -500,
              "client": { "decision": "decline", "amount": 500, "currency": "GBP", "decided_by": null, "at": null },
              "books": null } ] });
        return Some((StatusCode::OK, rows.to_string()));
    }
    let kind = if query.starts_with("from=201") { Kind::Confirmed } else { Kind::Corrected };
    let json = statement_of(vec![line(kind, &shown, 0)]).to_json();
    Some((StatusCode::OK, String::from_utf8(json).unwrap()))
}

async fn shown(server: &Server, flags: &[&str]) -> Result<String, String> {
    let args = args(server, flags);
    let told = ask(&args).await.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(told.shown(args.form())).unwrap())
}

#[test]
fn the_flags_are_sound_and_exclude_each_other_where_they_must() {
    Cli::command().debug_assert();
    for flags in [["--csv", "--json"].as_slice(), &["--upload", "f", "--from", "2026-11-22"]] {
        let line = ["reconcile"].iter().chain(flags);
        assert!(Cli::try_parse_from(line).is_err(), "{flags:?}");
    }
}

#[tokio::test]
async fn a_statement_is_asked_for_and_the_exit_code_says_whether_it_is_off() {
    let server = Server::with(edge).await;
    let quiet = ["--from", "2018-08-01", "--to", "2018-08-02", "--csv"];
    let csv = shown(&server, &quiet).await.unwrap();
    let query = "from=2018-08-01T00:00:00.000Z&to=2018-08-02T00:00:00.000Z";
    assert!(csv.starts_with("row,kind,count") && csv.contains(query), "{csv}");
    assert_eq!(code(run(args(&server, &quiet)).await), code(ExitCode::SUCCESS));
    let json = shown(&server, &["--json"]).await.unwrap();
    assert_eq!(serde_json::from_str::<Statement>(&json).unwrap().lines.len(), 1);
    assert_eq!(code(run(args(&server, &["--json"])).await), code(ExitCode::from(OFF)));
}

#[tokio::test]
async fn an_upload_is_sent_as_what_it_looks_like() {
    let server = Server::with(edge).await;
    let file = server.dir.path().join("seen");
    let path = file.to_str().unwrap();
    for (text, sent) in [
        ("id,decision\nx,decline\n", "text/csv id,decision"),
        ("\n {\"id\":\"x\"}", "application/x-ndjson"),
    ] {
        std::fs::write(&file, text).unwrap();
        let table = shown(&server, &["--upload", path, "--json"]).await.unwrap();
        assert!(table.contains(sent), "{table}");
        assert_eq!(code(run(args(&server, &["--upload", path])).await), code(ExitCode::from(OFF)));
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_said_with_what_would_be_right() {
    let server = Server::with(edge).await;
    let large = server.dir.path().join("large.csv");
    std::fs::write(&large, vec![b'x'; UPLOAD_BYTES_MAX + 1]).unwrap();
    let (large, key) = (large.to_str().unwrap(), server.dir.path().join("test-merchant.key"));
    for (flags, expected) in [
        (vec!["--from", "yesterday"], "the parameter from is no time; send RFC 3339 such as"),
        (vec!["--upload", "/no/such"], "/no/such: cannot be read"),
        (vec!["--upload", large], "it has over 1048576 bytes; split it"),
        (vec!["--merchant-key", "/no/key"], "cannot read the key /no/key"),
        (vec!["--merchant-key", key.to_str().unwrap()], "send the header Authorization"),
    ] {
        let refused = shown(&server, &flags).await.unwrap_err();
        assert!(refused.contains(expected), "{flags:?}: {refused}");
        assert_eq!(code(run(args(&server, &flags)).await), code(ExitCode::from(REFUSED)));
    }
    let odd = Server::with(|_, _| Some((StatusCode::OK, "<html>".into()))).await;
    let refused = shown(&odd, &[]).await.unwrap_err();
    assert!(refused.contains("200 OK, and nothing that can be read"), "{refused}");
}

#[test]
fn people_see_what_is_off_first_and_where_the_rest_is() {
    let mut lines: Vec<Line> =
        (0..25).map(|place| line(Kind::Confirmed, &format!("fine-{place}"), place)).collect();
    lines.push(line(Kind::Corrected, "odd\u{1b}[2J", 99));
    let mut statement = statement_of(lines);
    statement.gaps = vec![Gap { node: "n1".into(), epoch: 2, first: 3, last: 4 }];
    let text = table::statement(&statement);
    for expected in [
        "demo, from 1970-01-01T00:00:00.000Z up to 1970-01-02T00:00:00.000Z\n",
        "41,000",
        "23,435,600,000 GBP",
        "odd\u{fffd}[2J",
        "571,600 GBP",
        "6 more lines: the same command with --csv or --json\n",
        "advices 3 to 4 of node n1, epoch 2, never came",
        "off: 1 corrected, advices that never came\n",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    let place = |id: &str| text.find(id).unwrap();
    assert!(place("odd") < place("fine-0") && !text.contains("fine-19"), "{text}");
    let fine = table::statement(&statement_of(Vec::new()));
    assert!(fine.ends_with("nothing is off\n"), "{fine}");
}

#[test]
fn a_comparison_shows_both_sides_and_the_money_between() {
    let json = serde_json::json!({ "rows": 1_200,
        "totals": [
            { "difference": "same", "currency": "GBP", "count": 1_198, "between": 0 },
            { "difference": "client_alone", "currency": "GBP", "count": 2, "between": -1_500 } ],
        "findings": [
            { "difference": "client_alone", "line": 7, "id": "a", "currency": "GBP", "between": 0,
              "client": { "decision": "review", "amount": 9, "currency": "GBP", "decided_by": "client", "at": null },
              "books": { "decision": "review", "amount": 9, "currency": "GBP", "decided_by": "core",
                         "at": null, "settlement": "decided" } },
            { "difference": "client_alone", "line": 9, "id": "b", "currency": "GBP", "between": 1_500,
              "client": { "decision": "approve", "amount": 1_500, "currency": "GBP",
                          "decided_by": "client", "at": null },
              "books": null } ] });
    let text = table::comparison(&serde_json::from_value(json).unwrap());
    for expected in [
        "rows compared with the books: 1,200\n",
        "1,198",
        "-1,500 GBP",
        "approve by client, 1,500 GBP",
        "nothing",
        "review by core, 9 GBP",
        "off: 1 of the rows\n",
    ] {
        assert!(text.contains(expected), "{expected} in\n{text}");
    }
    assert!(text.find("approve by client") < text.find("review by client"), "{text}");
}
