//! What core says, with what only the edge knows, as JSON and as CSV.

use super::*;

const DAY: i64 = 86_400_000;

fn span() -> Span {
    Span::parse(Some("1970-01-02"), Some("1970-01-03"), Timestamp::default()).unwrap()
}

fn gbp(amount: u64) -> Money {
    Money { amount, currency: "GBP".into() }
}

fn total(kind: &str, currency: &str, count: u64, amount: u64) -> wire::StatementTotal {
    wire::StatementTotal { kind: kind.into(), currency: currency.into(), count, amount }
}

fn corrected(id: &str, at: i64) -> wire::StatementLine {
    wire::StatementLine {
        kind: "corrected".into(),
        id: id.into(),
        money: Some(wire::Money { amount: 500, currency: "GBP".into() }),
        told: "approve".into(),
        decided_by: "edge".into(),
        cause: "deadline".into(),
        decided_first: "decline".into(),
        between: 500,
        why: String::new(),
        decided_at: at,
    }
}

fn statement(reply: wire::StatementReply) -> Statement {
    Statement::new("demo".into(), span(), reply).unwrap()
}

fn stand_in(id: &str, verdict: Verdict, at: i64) -> Decision {
    let decided_at = Timestamp::from_millis(at);
    let cause = Some(Cause::Unavailable);
    Decision { cause, decided_at, ..Decision::by(Tier::Edge, id.into(), verdict) }
}

fn record(id: &str, decision: Verdict, settlement: &str, at: i64) -> Record {
    let answer = stand_in(id, decision, at);
    Record { settlement: settlement.into(), ..Record::unsettled(&answer, Some(&gbp(900))) }
}

/// Each total as `kind count amount`.
fn totals(statement: &Statement) -> Vec<String> {
    let shown = |total: &Total| format!("{} {} {}", total.kind.as_str(), total.count, total.amount);
    statement.totals.iter().map(shown).collect()
}

#[test]
fn what_core_says_is_shown_as_it_says_it() {
    let reply = wire::StatementReply {
        totals: vec![total("agreed", "GBP", 9, 4500), total("moonlit", "", 1, 0)],
        lines: vec![corrected("a", DAY)],
        truncated: true,
        gaps: vec![wire::Gap { node: "n".into(), epoch: 2, first: 3, last: 4 }],
    };
    let statement = statement(reply);
    let again: Statement = serde_json::from_slice(&statement.to_json()).unwrap();
    assert_eq!(again, statement);
    let json: serde_json::Value = serde_json::from_slice(&statement.to_json()).unwrap();
    let expected = serde_json::json!({
        "merchant": "demo", "from": "1970-01-02T00:00:00.000Z", "to": "1970-01-03T00:00:00.000Z",
        "totals": [
            { "kind": "agreed", "currency": "GBP", "count": 9, "amount": 4500 },
            { "kind": "moonlit", "currency": null, "count": 1, "amount": 0 },
        ],
        "lines": [{ "kind": "corrected", "id": "a", "told": "approve", "decided_by": "edge",
            "cause": "deadline", "decided_first": "decline", "amount": 500, "currency": "GBP",
            "between": 500, "at": "1970-01-02T00:00:00.000Z", "why": "" }],
        "truncated": true,
        "gaps": [{ "node": "n", "epoch": 2, "first": 3, "last": 4 }],
    });
    assert_eq!(json, expected);
}

#[test]
fn what_makes_no_sense_is_named() {
    for (line, what) in [
        (wire::StatementLine { told: "perhaps".into(), ..corrected("a", DAY) }, "told"),
        (
            wire::StatementLine { decided_first: "no".into(), ..corrected("a", DAY) },
            "decided_first",
        ),
    ] {
        let reply = wire::StatementReply { lines: vec![line], ..Default::default() };
        let refused = Statement::new("demo".into(), span(), reply).unwrap_err();
        assert_eq!(refused, Incomplete(what));
    }
}

#[test]
fn answers_that_core_has_not_heard_of_are_added_once_and_in_their_place() {
    let reply = wire::StatementReply {
        totals: vec![total("corrected", "GBP", 1, 500), total("agreed", "GBP", 2, 1_800)],
        lines: vec![corrected("settled", DAY + 20)],
        ..Default::default()
    };
    let mut statement = statement(reply);
    let lost = stand_in("lost", Verdict::Approve, DAY + 10);
    let odd = stand_in("odd", Verdict::Decline, DAY + 30);
    let unsettled = vec![
        Line::unsettled(&odd, None, "invalid"),
        Line::unsettled(&lost, Some(&gbp(900)), ""),
        // Core's own line of it came first.
        Line::unsettled(&stand_in("settled", Verdict::Approve, DAY), Some(&gbp(500)), ""),
        // Settled since: core will count it by itself.
        Line::unsettled(&stand_in("late", Verdict::Approve, DAY), Some(&gbp(900)), ""),
    ];
    statement.add(unsettled, &[record("late", Verdict::Approve, "match", DAY)]);
    let ids: Vec<&str> = statement.lines.iter().map(|line| line.id.as_str()).collect();
    assert_eq!(ids, ["lost", "settled", "odd"]);
    let expected = ["agreed 2 1800", "corrected 1 500", "refused 1 0", "never_arrived 1 900"];
    assert_eq!(totals(&statement), expected);
    let between: Vec<i64> = statement.lines.iter().map(|line| line.between).collect();
    assert_eq!(between, [900, 500, 0]);
}

#[test]
fn what_core_decided_by_itself_is_not_agreed_while_the_edge_told_otherwise() {
    for (told, decided, at, between, agreed) in [
        (Verdict::Approve, Verdict::Decline, DAY, 900, "agreed 1 900"),
        (Verdict::Decline, Verdict::Approve, DAY, -900, "agreed 1 900"),
        (Verdict::Approve, Verdict::Approve, DAY, 0, "agreed 1 900"),
        // Core decided it the day before, where it is counted.
        (Verdict::Review, Verdict::Decline, DAY - 1, 0, "agreed 2 1800"),
    ] {
        let totals_of_core = vec![total("agreed", "GBP", 2, 1_800)];
        let mut statement =
            statement(wire::StatementReply { totals: totals_of_core, ..Default::default() });
        let line = Line::unsettled(&stand_in("x", told, DAY), Some(&gbp(900)), "");
        statement.add(vec![line], &[record("x", decided, "decided", at)]);
        assert_eq!(totals(&statement), [agreed, "never_arrived 1 900"]);
        let line = statement.lines.first().unwrap();
        assert_eq!((line.decided_first, line.between), (Some(decided), between));
    }
}

#[test]
fn more_lines_than_one_statement_holds_are_counted_and_cut() {
    let mut statement = statement(wire::StatementReply::default());
    let line = |place: usize| {
        let at = DAY + i64::try_from(place).unwrap();
        Line::unsettled(&stand_in(&format!("t{place}"), Verdict::Approve, at), Some(&gbp(1)), "")
    };
    statement.add((0..LINES_MAX).map(line).collect(), &[]);
    assert_eq!((statement.lines.len(), statement.truncated), (LINES_MAX, false));
    statement.add(vec![line(LINES_MAX)], &[]);
    assert_eq!((statement.lines.len(), statement.truncated), (LINES_MAX, true));
    assert_eq!(totals(&statement), ["never_arrived 10001 10001"]);
    assert!(statement.to_json().len() < crate::reconciliation::ANSWER_BYTES_MAX);
}

#[test]
fn it_is_off_when_somebody_should_look_at_it() {
    let unmoved = wire::StatementLine {
        kind: "applied_late".into(),
        why: "stock:sku:1".into(),
        ..corrected("a", DAY)
    };
    let with = |kind: &str| vec![total(kind, "GBP", 1, 1)];
    let gaps = vec![wire::Gap::default()];
    let bare = wire::StatementReply::default;
    for (reply, is_off) in [
        (bare(), false),
        (wire::StatementReply { totals: with("agreed"), ..bare() }, false),
        (wire::StatementReply { totals: with("confirmed"), ..bare() }, false),
        (wire::StatementReply { totals: with("applied_late"), ..bare() }, false),
        (wire::StatementReply { totals: with("corrected"), ..bare() }, true),
        (wire::StatementReply { totals: with("conflict"), ..bare() }, true),
        (wire::StatementReply { totals: with("refused"), ..bare() }, true),
        (wire::StatementReply { totals: with("never_arrived"), ..bare() }, true),
        (wire::StatementReply { totals: with("moonlit"), ..bare() }, true),
        (wire::StatementReply { totals: vec![total("conflict", "", 0, 0)], ..bare() }, false),
        (wire::StatementReply { lines: vec![unmoved], ..bare() }, true),
        (wire::StatementReply { gaps, ..bare() }, true),
    ] {
        let shown = format!("{reply:?}");
        assert_eq!(statement(reply).is_off(), is_off, "{shown}");
    }
}

#[test]
fn as_csv_it_is_one_table_that_runs_no_formula() {
    let reply = wire::StatementReply {
        totals: vec![total("agreed", "GBP", 9, 4_500), total("agreed", "", 1, 0)],
        lines: vec![corrected("=cmd|' /C calc'!A0", DAY)],
        truncated: true,
        gaps: vec![wire::Gap { node: "n".into(), epoch: 2, first: 3, last: 4 }],
    };
    let expected = "\
row,kind,count,amount,currency,why,between,id,told,decided_by,cause,decided_first,at\r\n\
total,agreed,9,4500,GBP,,,,,,,,\r\n\
total,agreed,1,,,,,,,,,,\r\n\
line,corrected,1,500,GBP,,500,\"'=cmd|' /C calc'!A0\",approve,edge,deadline,decline,1970-01-02T00:00:00.000Z\r\n\
truncated,,,,,there are more lines; ask for a shorter span,,,,,,,\r\n\
gap,,2,,,advices 3 to 4 of epoch 2 of node n,,,,,,,\r\n";
    assert_eq!(String::from_utf8(statement(reply).to_csv()).unwrap(), expected);
}

#[test]
fn a_kind_is_the_same_word_everywhere() {
    for word in [
        "agreed",
        "confirmed",
        "applied_late",
        "corrected",
        "conflict",
        "refused",
        "never_arrived",
        "moonlit",
    ] {
        let kind = Kind::from(word.to_owned());
        assert_eq!(kind.as_str(), word);
        assert_eq!(serde_json::to_value(&kind).unwrap(), word);
        assert_eq!(serde_json::from_value::<Kind>(word.into()).unwrap(), kind);
        assert_eq!(matches!(kind, Kind::Newer(_)), word == "moonlit");
    }
}
