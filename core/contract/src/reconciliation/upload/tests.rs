//! What is taken, and what is refused with the line, the column and what would be right.

use super::*;

fn receive(text: &str, media: Media) -> Result<Upload, Problem> {
    Upload::receive(Restricted::new(Bytes::from(text.to_owned())), media, false)
}

/// The status, and detail and remedy as one text.
fn refused(text: &str, media: Media) -> String {
    let problem = receive(text, media).expect_err(text);
    format!("{} {}; {}", problem.status, problem.detail, problem.remedy)
}

fn row(line: usize, id: &str, decision: Verdict) -> Row {
    Row { line, id: id.into(), decision, money: None, decided_by: None, at: None }
}

#[test]
fn csv_and_ndjson_say_the_same() {
    let whole = Row {
        money: Some(Money { amount: 5716, currency: "GBP".into() }),
        decided_by: Some(Tier::Client),
        at: Timestamp::parse("2026-11-22T08:00:00Z"),
        ..row(2, "a,1", Verdict::Approve)
    };
    let csv = "id,decision,decided_by,amount,currency,at\r\n\
               \"a,1\",approve,client,5716,GBP,2026-11-22T08:00:00Z\r\n\
               \r\n\
               b,review,,,,\r\n";
    let read = receive(csv, Media::Csv).unwrap();
    assert_eq!(read.rows(), [whole.clone(), row(4, "b", Verdict::Review)]);
    let ndjson = r#"
{"id":"a,1","decision":"approve","amount":5716,"currency":"GBP","decided_by":"client","at":"2026-11-22T08:00:00Z"}

{"decision":"review","id":"b","amount":null,"currency":""}"#;
    let read = receive(ndjson, Media::Ndjson).unwrap();
    assert_eq!(read.rows(), [whole, row(4, "b", Verdict::Review)]);
}

#[test]
fn a_mistake_in_csv_is_named_with_line_and_column() {
    for (text, expected) in [
        ("", "there is no row in it; the columns are id and decision"),
        ("id,decision\n", "there is no row in it"),
        ("a,approve\n", "line 1: cell 1 of the header is not known"),
        ("id,amount\n", "line 1: the header has no column decision"),
        ("id,decision,id\n", "line 1: the column id is in the header twice"),
        ("id;decision\na;approve\n", "line 1: cell 1 of the header is not known"),
        ("id,decision\na\n", "line 2: it has 1 cells where the header has 2"),
        ("id,decision\na,approve,5\n", "line 2: it has 3 cells where the header has 2"),
        ("id,decision\n\na,\n", "line 3, column decision: it is missing; send approve, decline or"),
        ("id,decision\n\"\",approve\n", "line 2, column id: it is missing"),
        ("id,decision\na,Approve\n", "line 2, column decision: it is text that is none of these"),
        ("id,decision\na,approve\na,approve\n", "line 3, column id: line 2 has the same id"),
        ("id,decision\n\"a\nb\",approve\n", "line 2, column id"),
        ("id,decision,amount\na,approve,5\n", "line 2, column currency: it is missing"),
        ("id,decision,currency\na,approve,GBP\n", "line 2, column amount: it is missing"),
        ("id,decision,amount,currency\na,approve,57.16,GBP\n", "column amount: it is text that is"),
        (
            "id,decision,amount,currency\na,approve,-1,GBP\n",
            "column amount: it is a number that is",
        ),
        ("id,decision,amount,currency\na,approve,1,gbp\n", "column currency"),
        ("id,decision,decided_by\na,approve,clinet\n", "client where your own client decided"),
        (
            "id,decision,at\na,approve,today\n",
            "column at: it is text that is none of these; send RFC",
        ),
        ("id,decision\n\"a,approve\n", "line 2: a cell begins with a quote and has no closing one"),
        ("id,decision\n4111111111111111,approve\n", "column id: it reads as a card number"),
    ] {
        let refused = refused(text, Media::Csv);
        assert!(refused.starts_with("400 ") && refused.contains(expected), "{text:?}: {refused}");
    }
}

#[test]
fn a_mistake_in_ndjson_is_named_with_line_and_column() {
    for (text, expected) in [
        (r#"{"id":"a","decision":"approve"}{}"#, "line 1: the body is not JSON"),
        ("{}\n", "line 1, column id: it is missing"),
        ("\n[1]", "line 2: it is a list, not an object"),
        (r#"{"id":7,"decision":"approve"}"#, "line 1, column id: it is a number that is none"),
        (r#"{"id":"a","decision":true}"#, "column decision: it is a boolean that is none of these"),
        (
            r#"{"id":"a","decision":"approve","amount":"5","currency":"GBP"}"#,
            "column amount: it is text",
        ),
        (r#"{"id":"a","decision":"approve","amount":5.5}"#, "it is a number with a fraction"),
        (r#"{"id":"a","decision":"approve","amount":9007199254740992}"#, "column amount"),
        (r#"{"id":"a","id":"a","decision":"approve"}"#, "column id: it is given twice"),
        (
            r#"{"id":"a","decision":"approve","note":1}"#,
            "it has a field that is not known; the col",
        ),
    ] {
        let refused = refused(text, Media::Ndjson);
        assert!(refused.starts_with("400 ") && refused.contains(expected), "{text:?}: {refused}");
    }
}

#[test]
fn no_value_is_repeated_and_numeric_ids_are_taken_where_they_may_be() {
    let text = "id,decision\n4111111111111111,approve\n";
    assert!(!refused(text, Media::Csv).contains("4111"));
    let header = "4111111111111111,approve\n";
    assert!(!refused(header, Media::Csv).contains("4111"));
    let body = Restricted::new(Bytes::from(text));
    let rows = Upload::receive(body, Media::Csv, true).unwrap();
    assert_eq!(rows.rows(), [row(2, "4111111111111111", Verdict::Approve)]);
}

#[test]
fn an_upload_is_bounded_in_rows_bytes_and_text() {
    let rows = |many: usize| {
        (0..many)
            .fold("id,decision\n".to_owned(), |text, place| text + &format!("{place},approve\n"))
    };
    assert_eq!(receive(&rows(ROWS_MAX), Media::Csv).unwrap().rows().len(), ROWS_MAX);
    let over = refused(&rows(ROWS_MAX + 1), Media::Csv);
    assert!(over.contains("line 10002: it is one row too many; send at most 10000"), "{over}");

    let fits = format!("id,decision\na,approve{}", "\n".repeat(UPLOAD_BYTES_MAX - 21));
    assert_eq!((fits.len(), receive(&fits, Media::Csv).is_ok()), (UPLOAD_BYTES_MAX, true));
    assert!(refused(&format!("{fits}\n"), Media::Csv).starts_with("413 "));

    let long = |chars: usize| format!("id,decision\n{},approve\n", "é".repeat(chars));
    assert!(receive(&long(NAME_CHARS_MAX), Media::Csv).is_ok());
    assert!(refused(&long(NAME_CHARS_MAX + 1), Media::Csv).contains("1 to 128 characters"));

    let body = Restricted::new(Bytes::from_static(b"id,decision\na,approve\n\xff"));
    let problem = Upload::receive(body, Media::Csv, false).unwrap_err();
    assert_eq!(problem.detail, "line 3: it is not UTF-8");
}

#[test]
fn the_type_of_an_upload_is_one_of_two() {
    for (text, expected) in [
        ("text/csv", Some(Media::Csv)),
        ("Text/CSV; charset=utf-8", Some(Media::Csv)),
        ("application/x-ndjson", Some(Media::Ndjson)),
        ("application/json", None),
    ] {
        assert_eq!(Media::read(Some(text)).ok(), expected, "{text}");
        assert_eq!(expected.map(|media| Media::read(Some(media.as_str()))), expected.map(Ok));
    }
    assert_eq!(Media::read(None).unwrap_err().status, 415);
}
