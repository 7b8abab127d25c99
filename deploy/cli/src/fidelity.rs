//! `backstop fidelity`: how often the fallbacks say what core says, on live requests, in percent and in money.

use std::fmt::Write as _;
use std::process::ExitCode;

use backstop_contract::currency::money_text;
use backstop_contract::fidelity::{Counts, Line, Report, Sum, by_policy};
use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;

use crate::operator::{self, OperatorError};
use crate::report::grouped;

/// Where the edge tells.
const PATH: &str = "/admin/fidelity";
const HEADERS: [&str; 9] = [
    "tier",
    "policy",
    "merchant",
    "amount",
    "compared",
    "agree",
    "false approve",
    "false decline",
    "otherwise",
];
/// The columns from here on are figures.
const FIRST_FIGURE: usize = 4;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// As the edge tells it
    #[arg(long)]
    json: bool,
}

/// What the edge tells: its own figures, and those of the api that serves.
#[derive(Debug, Deserialize)]
struct Told {
    stack: String,
    edge: Report,
    api: Option<Report>,
    api_silent: Option<String>,
}

/// Prints the figures. Exits with 1 where there is nobody to ask.
pub async fn run(args: Args) -> ExitCode {
    operator::show(ask(&args).await)
}

async fn ask(args: &Args) -> Result<String, OperatorError> {
    let body = operator::ask(&args.dir.layout(), PATH).await?;
    if args.json {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    Ok(serde_json::from_slice::<Told>(&body)?.text())
}

impl Told {
    fn text(&self) -> String {
        let Report { window_s, share_ppm, .. } = &self.edge;
        let (minutes, percent) = (window_s / 60, *share_ppm as f64 / 10_000.0);
        let mut text = format!(
            "{percent} % of what core decided in the last {minutes} minutes, put to the fallbacks too\n"
        );
        let reports: Vec<&Report> = std::iter::once(&self.edge).chain(&self.api).collect();
        if reports.iter().any(|report| !report.lines.is_empty()) {
            text += &table(&reports).to_string();
            text += "\n";
        } else {
            text += "nothing yet\n";
        }
        for Report { tier, dropped, .. } in reports.into_iter().filter(|it| it.dropped > 0) {
            let (tier, dropped) = (tier.as_str(), grouped(*dropped));
            // Strings take what is written to them, here and below.
            let _ = writeln!(text, "{tier}: {dropped} more were left out, since too many waited");
        }
        if let Some(why) = &self.api_silent {
            let _ = writeln!(text, "the api of {} tells nothing: {why}", self.stack);
        }
        text
    }
}

fn table(reports: &[&Report]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(HEADERS);
    for column in table.column_iter_mut().skip(FIRST_FIGURE) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for report in reports {
        let cells = report.lines.iter().map(|line| (&line.cell, &line.counts));
        for ((policy, currency), counts) in by_policy(cells) {
            table.add_row(row(report, [policy, "all", "all"], currency, &counts));
        }
        for Line { cell, counts } in &report.lines {
            let words = [&cell.policy, &cell.merchant, cell.band.as_str()];
            table.add_row(row(report, words, &cell.currency, counts));
        }
    }
    table
}

fn row(report: &Report, words: [&str; 3], currency: &str, counts: &Counts) -> Vec<String> {
    let [policy, merchant, band] = words;
    let whole = counts.compared();
    let (agree, _) = counts.agree.share_of(whole);
    let amount = format!("{band} {currency}").trim_end().to_owned();
    let mut row = vec![report.tier.as_str().to_owned(), policy.to_owned(), merchant.to_owned()];
    row.extend([amount, grouped(whole.count), percent(agree)]);
    let wrong = [counts.false_approve, counts.false_decline, counts.otherwise];
    row.extend(wrong.map(|sum| share(sum, whole, currency)));
    row
}

/// Such as `1.25 %, 310.00 GBP`; nothing where there was none.
pub fn share(sum: Sum, whole: Sum, currency: &str) -> String {
    if sum.count == 0 {
        return "-".to_owned();
    }
    let (of_requests, _of_money) = sum.share_of(whole);
    let money = money_text(sum.amount, currency);
    let money = money.map_or_else(String::new, |money| format!(", {money} {currency}"));
    format!("{}{money}", percent(of_requests))
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(api: &str) -> Told {
        let line = |merchant: &str, band: &str, agree: u64, wrong: u64| {
            format!(
                r#"{{"policy":"payment","merchant":"{merchant}","currency":"GBP","band":"{band}",
                    "agree":{{"count":{agree},"amount":9000}},
                    "false_approve":{{"count":{wrong},"amount":310000}},
                    "false_decline":{{"count":0,"amount":0}},"otherwise":{{"count":0,"amount":0}}}}"#
            )
        };
        let report = format!(
            r#"{{"tier":"edge","window_s":3600,"share_ppm":50000,"dropped":1234,"lines":[{},{}]}}"#,
            line("demo", "<200", 1_497, 3),
            line("other", ">=1000", 495, 5)
        );
        serde_json::from_str(&format!(r#"{{"stack":"prod","edge":{report},{api}}}"#)).unwrap()
    }

    #[test]
    fn the_table_has_a_line_for_each_policy_and_one_for_each_kind_of_request() {
        let text = told(r#""api":null,"api_silent":"nobody answers""#).text();
        let lines: Vec<String> = text
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        for expected in [
            "5 % of what core decided in the last 60 minutes, put to the fallbacks too",
            "│ edge payment all all GBP 2,000 99.60 % 0.40 %, 6200.00 GBP - - │",
            "│ edge payment demo <200 GBP 1,500 99.80 % 0.20 %, 3100.00 GBP - - │",
            "│ edge payment other >=1000 GBP 500 99.00 % 1.00 %, 3100.00 GBP - - │",
            "edge: 1,234 more were left out, since too many waited",
            "the api of prod tells nothing: nobody answers",
        ] {
            assert!(lines.iter().any(|line| line == expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn before_anything_was_compared_it_says_so() {
        let mut told = told(r#""api":null,"api_silent":null"#);
        told.edge.lines.clear();
        assert!(told.text().contains("nothing yet"), "{}", told.text());
    }
}
