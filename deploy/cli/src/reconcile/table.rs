//! Statements and comparisons as tables for people: totals first, then the lines that matter most.

use std::fmt::Write as _;

use backstop_contract::reconciliation::{Comparison, Finding, Gap, Kind, Line, Side, Statement};
use backstop_contract::{Cause, Verdict};
use comfy_table::{Table, presets};

use crate::report::grouped;

/// The most lines that people are shown.
const LINES_SHOWN_MAX: usize = 20;

/// A statement: what became of how many, then the lines, those that are off first.
pub fn statement(statement: &Statement) -> String {
    let Statement { merchant, from, to, .. } = statement;
    let mut text = format!("{merchant}, from {from} up to {to}\n");
    let mut totals = table(&["what became of it", "answers", "amount"]);
    for total in &statement.totals {
        let amount = money(Some(total.amount), total.currency.as_deref());
        totals.add_row([words(total.kind.as_str()), grouped(total.count), amount]);
    }
    text += &framed(&totals, statement.totals.is_empty(), "no answer was given in this time");
    let (off, rest): (Vec<&Line>, Vec<&Line>) =
        statement.lines.iter().partition(|line| line.kind.is_off() || !line.why.is_empty());
    let lines: Vec<&Line> = off.into_iter().chain(rest).collect();
    text += &shown(&lines, statement.truncated, LINES, line);
    for Gap { node, epoch, first, last } in &statement.gaps {
        let of = printable(node);
        // Memory takes all that is written to it.
        writeln!(
            text,
            "advices {first} to {last} of node {of}, epoch {epoch}, never came; nobody knows whose"
        )
        .unwrap_or_default();
    }
    text + &verdict(statement.is_off(), &off_kinds(statement))
}

/// A comparison: how many rows compare how, then the findings, those that are off first.
pub fn comparison(comparison: &Comparison) -> String {
    let mut text = format!("rows compared with the books: {}\n", grouped(comparison.rows));
    let mut totals = table(&["how they compare", "rows", "money between"]);
    for sum in &comparison.totals {
        let between = signed(Some(sum.between), sum.currency.as_deref());
        totals.add_row([words(sum.difference.as_str()), grouped(sum.count), between]);
    }
    text += &framed(&totals, comparison.totals.is_empty(), "there was no row");
    let (off, rest): (Vec<&Finding>, Vec<&Finding>) =
        comparison.findings.iter().partition(|finding| finding.is_off());
    let count = off.len() as u64;
    let findings: Vec<&Finding> = off.into_iter().chain(rest).collect();
    text += &shown(&findings, false, FINDINGS, finding);
    text + &verdict(comparison.is_off(), &format!("{} of the rows", grouped(count)))
}

const LINES: &[&str] = &[
    "id",
    "what became of it",
    "told",
    "by",
    "cause",
    "books first",
    "amount",
    "between",
    "at",
    "why",
];
const FINDINGS: &[&str] =
    &["line", "id", "how it compares", "client says", "books say", "settlement", "between"];

fn line(line: &Line) -> Vec<String> {
    let currency = line.currency.as_deref();
    vec![
        printable(&line.id),
        words(line.kind.as_str()),
        line.told.as_str().to_owned(),
        printable(line.decided_by.as_str()),
        printable(line.cause.as_ref().map_or("-", Cause::as_str)),
        line.decided_first.map_or("-", Verdict::as_str).to_owned(),
        money(line.amount, currency),
        signed(Some(line.between), currency),
        line.at.to_string(),
        printable(&line.why),
    ]
}

fn finding(finding: &Finding) -> Vec<String> {
    let side = |side: &Side| {
        let by = side.decided_by.as_ref().map(|tier| format!(" by {}", printable(tier.as_str())));
        let money = side.amount.map(|_| money(side.amount, side.currency.as_deref()));
        let money = money.map(|money| format!(", {money}"));
        format!("{}{}{}", side.decision.as_str(), by.unwrap_or_default(), money.unwrap_or_default())
    };
    let settlement = finding.books.as_ref().and_then(|books| books.settlement.as_deref());
    vec![
        finding.line.to_string(),
        printable(&finding.id),
        words(finding.difference.as_str()),
        side(&finding.client),
        finding.books.as_ref().map_or_else(|| "nothing".to_owned(), side),
        printable(settlement.unwrap_or("-")),
        signed(finding.between, finding.currency.as_deref()),
    ]
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(header);
    table
}

fn framed(table: &Table, is_empty: bool, instead: &str) -> String {
    if is_empty { format!("{instead}\n") } else { format!("{table}\n") }
}

/// The first of the lines, and where the rest is.
fn shown<T>(
    lines: &[&T],
    is_truncated: bool,
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let mut table = table(header);
    for line in lines.iter().take(LINES_SHOWN_MAX) {
        table.add_row(cells(line));
    }
    let more = match lines.len().saturating_sub(LINES_SHOWN_MAX) as u64 {
        0 => String::new(),
        more => format!("{} more lines: the same command with --csv or --json\n", grouped(more)),
    };
    let beyond =
        if is_truncated { "and more than one answer holds: ask for a shorter span\n" } else { "" };
    format!("{table}\n{more}{beyond}")
}

fn verdict(is_off: bool, what: &str) -> String {
    if is_off { format!("off: {what}\n") } else { "nothing is off\n".to_owned() }
}

/// What is off, by kind.
fn off_kinds(statement: &Statement) -> String {
    let mut kinds: Vec<(&Kind, u64)> = Vec::new();
    for total in statement.totals.iter().filter(|total| total.kind.is_off() && total.count > 0) {
        match kinds.iter_mut().find(|(kind, _)| *kind == &total.kind) {
            Some((_, count)) => *count += total.count,
            None => kinds.push((&total.kind, total.count)),
        }
    }
    let unmoved = statement.lines.iter();
    let unmoved = unmoved.filter(|line| !line.kind.is_off() && !line.why.is_empty()).count();
    let part = |(kind, count): (&Kind, u64)| format!("{} {}", grouped(count), words(kind.as_str()));
    let kinds = kinds.into_iter().map(part);
    let unmoved = (unmoved > 0).then(|| format!("{} could not be moved", grouped(unmoved as u64)));
    let gaps = (!statement.gaps.is_empty()).then(|| "advices that never came".to_owned());
    kinds.chain(unmoved).chain(gaps).collect::<Vec<_>>().join(", ")
}

/// A word of the wire as people write it.
fn words(word: &str) -> String {
    printable(&word.replace('_', " "))
}

/// Text of others without what would move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn money(amount: Option<u64>, currency: Option<&str>) -> String {
    match (amount, currency) {
        (Some(amount), Some(currency)) => format!("{} {}", grouped(amount), printable(currency)),
        _ => "-".to_owned(),
    }
}

fn signed(between: Option<i64>, currency: Option<&str>) -> String {
    let sign = if between.is_some_and(|between| between < 0) { "-" } else { "" };
    format!("{sign}{}", money(between.map(i64::unsigned_abs), currency))
}
