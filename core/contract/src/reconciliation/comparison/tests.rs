//! Every way in which two sides can differ, with the money between.

use super::*;
use crate::decision::{Cause, Decision};
use Verdict::{Approve, Decline, Review};

fn gbp(amount: u64) -> Money {
    Money { amount, currency: "GBP".into() }
}

fn row(decision: Verdict, money: Option<&Money>, decided_by: Option<Tier>) -> Row {
    Row { line: 2, id: "x".into(), decision, money: money.cloned(), decided_by, at: None }
}

/// What core says of it, settled.
fn record(decision: Verdict, money: Option<&Money>) -> Record {
    let answer = Decision::by(Tier::Core, "x".into(), decision);
    let unsettled = Record::unsettled(&answer, money);
    Record { is_final: true, settlement: "decided".into(), ..unsettled }
}

/// The same while core has yet to hear of it.
fn open(decision: Verdict, money: Option<&Money>) -> Record {
    let cause = Some(Cause::Deadline);
    let answer = Decision { cause, ..Decision::by(Tier::Edge, "x".into(), decision) };
    Record::unsettled(&answer, money)
}

#[test]
fn every_difference_has_its_name_and_its_money() {
    use Difference::{AmountDiffers, ClientAlone, Differs, NotFinal, Same, UnknownHere};
    let client = || Some(Tier::Client);
    let [five, seven] = [gbp(500), gbp(700)];
    let eur = Money { currency: "EUR".into(), ..gbp(500) };
    let [five, seven, eur] = [Some(&five), Some(&seven), Some(&eur)];
    let cases = [
        (row(Approve, five, None), Some(record(Approve, five)), Same, Some(0), false),
        (row(Approve, None, None), Some(record(Approve, five)), Same, Some(0), false),
        (row(Review, None, Some(Tier::Core)), Some(record(Review, None)), Same, Some(0), false),
        (row(Approve, five, None), Some(record(Decline, five)), Differs, Some(500), true),
        (row(Approve, None, None), Some(record(Review, five)), Differs, Some(500), true),
        (row(Decline, five, None), Some(record(Approve, five)), Differs, Some(-500), true),
        (row(Decline, None, None), Some(record(Approve, five)), Differs, Some(-500), true),
        (row(Decline, five, None), Some(record(Review, five)), Differs, Some(0), true),
        (row(Approve, five, None), Some(open(Decline, five)), Differs, Some(500), true),
        (row(Approve, seven, None), Some(record(Approve, five)), AmountDiffers, Some(200), true),
        (row(Approve, five, None), Some(record(Approve, seven)), AmountDiffers, Some(-200), true),
        (row(Decline, seven, None), Some(record(Decline, five)), AmountDiffers, Some(0), true),
        (row(Approve, eur, None), Some(record(Approve, five)), AmountDiffers, None, true),
        (row(Approve, five, None), Some(record(Approve, None)), AmountDiffers, Some(0), true),
        (row(Approve, five, None), None, UnknownHere, Some(500), true),
        (row(Decline, five, None), None, UnknownHere, Some(0), true),
        (row(Approve, None, None), None, UnknownHere, Some(0), true),
        (row(Approve, five, client()), None, ClientAlone, Some(500), true),
        (row(Decline, five, client()), None, ClientAlone, Some(0), true),
        (row(Approve, five, client()), Some(record(Decline, five)), ClientAlone, Some(500), true),
        (row(Decline, five, client()), Some(record(Approve, five)), ClientAlone, Some(-500), true),
        (row(Approve, five, client()), Some(record(Approve, five)), ClientAlone, Some(0), false),
        (row(Approve, None, client()), Some(record(Approve, five)), ClientAlone, Some(0), false),
        (row(Approve, seven, client()), Some(record(Approve, five)), ClientAlone, Some(200), true),
        (row(Approve, five, None), Some(open(Approve, five)), NotFinal, Some(0), true),
    ];
    for (place, (row, record, difference, between, is_off)) in cases.into_iter().enumerate() {
        let compared = compare(std::slice::from_ref(&row), record);
        let sum = compared.totals.first().unwrap();
        assert_eq!((compared.totals.len(), sum.count), (1, 1), "case {place}");
        assert_eq!(sum.difference, difference, "case {place}");
        assert_eq!(sum.between, between.unwrap_or(0), "case {place}");
        let found = compared.findings.first();
        assert_eq!(found.is_none(), difference == Same, "case {place}");
        assert_eq!(
            found.and_then(|it| it.between),
            between.filter(|_| found.is_some()),
            "case {place}"
        );
        assert_eq!(compared.is_off(), is_off, "case {place}");
    }
}

#[test]
fn what_the_edge_released_stands_before_what_core_decided() {
    let rows = [row(Approve, Some(&gbp(500)), None)];
    let records = [record(Decline, Some(&gbp(500))), open(Approve, Some(&gbp(500)))];
    let compared = compare(&rows, records);
    assert_eq!(compared.findings.first().unwrap().difference, Difference::NotFinal);
}

#[test]
fn totals_are_by_difference_and_currency_and_findings_in_the_order_of_the_upload() {
    let with =
        |line: usize, id: &str, money| Row { line, id: id.into(), ..row(Approve, money, None) };
    let eur = Money { amount: 70, currency: "EUR".into() };
    let rows = [
        with(2, "z", Some(&gbp(500))),
        with(3, "x", Some(&gbp(500))),
        with(4, "b", Some(&eur)),
        with(5, "a", Some(&gbp(40))),
        with(6, "c", None),
    ];
    let compared = compare(&rows, [record(Approve, Some(&gbp(500)))]);
    let ids: Vec<&str> = compared.findings.iter().map(|finding| finding.id.as_str()).collect();
    assert_eq!((compared.rows, ids), (5, vec!["z", "b", "a", "c"]));
    let sum = |sum: &Sum| {
        let currency = sum.currency.as_deref().unwrap_or("-");
        format!("{} {currency} {} {}", sum.difference.as_str(), sum.count, sum.between)
    };
    let sums: Vec<String> = compared.totals.iter().map(sum).collect();
    let expected =
        ["same GBP 1 0", "unknown_here - 1 0", "unknown_here EUR 1 70", "unknown_here GBP 2 540"];
    assert_eq!(sums, expected);
}

#[test]
fn it_reads_the_same_after_its_json_and_as_one_table_in_csv() {
    let client = Row { id: "=1+1".into(), ..row(Approve, Some(&gbp(500)), Some(Tier::Client)) };
    let rows = [row(Decline, Some(&gbp(500)), None), client];
    let compared = compare(&rows, [record(Approve, Some(&gbp(500)))]);
    let again: Comparison = serde_json::from_slice(&compared.to_json()).unwrap();
    assert_eq!(again, compared);
    let expected = "\
row,difference,count,between,currency,line,id,\
client_decision,client_amount,client_currency,client_decided_by,client_at,\
books_decision,books_amount,books_currency,books_decided_by,books_at,books_settlement\r\n\
total,differs,1,-500,GBP,,,,,,,,,,,,,\r\n\
total,client_alone,1,500,GBP,,,,,,,,,,,,,\r\n\
line,differs,1,-500,GBP,2,x,decline,500,GBP,,,approve,500,GBP,core,1970-01-01T00:00:00.000Z,decided\r\n\
line,client_alone,1,500,GBP,2,\"'=1+1\",approve,500,GBP,client,,,,,,,\r\n";
    assert_eq!(String::from_utf8(compared.to_csv()).unwrap(), expected);
}

#[test]
fn a_comparison_of_the_largest_upload_fits_into_one_answer() {
    let whole = Row {
        id: "\"".repeat(128),
        money: Some(gbp(crate::validity::INTEGER_MAX)),
        decided_by: Some(Tier::Client),
        at: Some(Timestamp::default()),
        ..row(Decline, None, None)
    };
    let id = whole.id.clone();
    let compared = compare(
        std::slice::from_ref(&whole),
        [Record { id, ..record(Approve, whole.money.as_ref()) }],
    );
    let bytes = compared.to_json().len() * crate::reconciliation::ROWS_MAX;
    assert!(bytes < crate::reconciliation::ANSWER_BYTES_MAX, "{bytes}");
}
