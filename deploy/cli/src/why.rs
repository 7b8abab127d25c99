//! `backstop why`: where the time of one decision went, call by call, with the formula and its numbers.

use std::fmt::Write as _;
use std::process::ExitCode;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::operator::{self, OperatorError};

/// Columns of the waterfall's bars.
const BAR: usize = 48;

/// The id, and whose it is.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// The id of the decision
    id: String,
    /// Whose request it was [default: whoever used the id last]
    #[arg(long)]
    merchant: Option<String>,
    /// As the edge tells it
    #[arg(long)]
    json: bool,
}

/// What the edge keeps of a decision.
#[derive(Debug, Deserialize)]
struct Account {
    merchant: String,
    id: String,
    decided_by: String,
    cause: Option<String>,
    stack: String,
    replayed: bool,
    received_at: String,
    budget_ms: f64,
    elapsed_ms: f64,
    calls: Vec<Call>,
}

/// One call to the next tier, in milliseconds.
#[derive(Debug, Deserialize)]
struct Call {
    operation: String,
    budget: f64,
    elapsed: f64,
    reserve: f64,
    min: f64,
    max: f64,
    timeout: f64,
    took: f64,
    outcome: String,
}

/// Prints the account. Exits with 1 where there is none.
pub async fn run(args: Args) -> ExitCode {
    operator::show(ask(&args).await)
}

async fn ask(args: &Args) -> Result<String, OperatorError> {
    let mut path = format!("/admin/why/{}", utf8_percent_encode(&args.id, NON_ALPHANUMERIC));
    if let Some(merchant) = &args.merchant {
        let merchant = utf8_percent_encode(merchant, NON_ALPHANUMERIC);
        write!(path, "?merchant={merchant}").unwrap_or_default();
    }
    let body = operator::ask(&args.dir.layout(), &path).await?;
    if args.json {
        return Ok(String::from_utf8_lossy(&body).into_owned());
    }
    Ok(serde_json::from_slice::<Account>(&body)?.text())
}

impl Account {
    /// A headline, the formula of each call, and a bar for each tier on one scale.
    fn text(&self) -> String {
        let cause = self.cause.as_ref().map(|cause| format!(", cause {cause}")).unwrap_or_default();
        let again = if self.replayed { ", repeated" } else { "" };
        let mut text = format!(
            "{} of {}: decided by {}{cause}{again}, in {} of {} ms\n{} on {}\n\n",
            self.id,
            self.merchant,
            self.decided_by,
            self.elapsed_ms,
            self.budget_ms,
            self.received_at,
            self.stack,
        );
        for call in self.calls.iter().rev() {
            text += &call.formula();
        }
        text += "\n";
        let scale = std::cmp::max_by(self.budget_ms, self.elapsed_ms, f64::total_cmp);
        text += &bar("edge", 0.0, self.elapsed_ms, scale);
        let mut start = 0.0;
        for call in self.calls.iter().rev() {
            start += call.elapsed;
            let tier = call.operation.split('.').next().unwrap_or_default();
            text += &bar(tier, start, call.took, scale);
        }
        text
    }
}

impl Call {
    fn formula(&self) -> String {
        let Self { operation, budget, elapsed, reserve, min, max, timeout, took, outcome } = self;
        format!(
            "{operation}: {budget} budget - {elapsed} elapsed - {reserve} reserve, within {min} to \
             {max}: given {timeout} ms, {outcome} after {took}\n"
        )
    }
}

/// One line of the waterfall: a bar from `start`, so long, where `scale` is the whole width.
fn bar(name: &str, start: f64, length: f64, scale: f64) -> String {
    let column = |millis: f64| {
        let share = (millis / scale).clamp(0.0, 1.0) * BAR as f64;
        // Within 0 to BAR, by the line before.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let column = share.round() as usize;
        column
    };
    let (from, to) = (column(start), column(start + length));
    let width = std::cmp::max(to.saturating_sub(from), 1);
    let bar = format!("{}{}", " ".repeat(std::cmp::min(from, BAR - 1)), "█".repeat(width));
    format!("{name:<5} │{bar:<BAR$}│ {length:.1} ms\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_reads_as_a_waterfall() {
        let account: Account = serde_json::from_value(serde_json::json!({
            "merchant": "demo", "id": "txn-7", "decided_by": "api", "cause": "deadline",
            "stack": "prod", "replayed": false, "received_at": "2026-11-22T03:29:19.114Z",
            "budget_ms": 300, "elapsed_ms": 281.0, "calls": [
                { "operation": "core.decide", "budget": 289.9, "elapsed": 0.1, "reserve": 10.0,
                  "min": 5.0, "max": 1000.0, "timeout": 279.8, "took": 279.9, "outcome": "deadline" },
                { "operation": "api.decide", "budget": 300.0, "elapsed": 0.1, "reserve": 10.0,
                  "min": 0.0, "max": 1000.0, "timeout": 289.9, "took": 280.7, "outcome": "answered" },
            ],
        }))
        .unwrap();
        let full = "█".repeat(45);
        let expected = format!(
            "txn-7 of demo: decided by api, cause deadline, in 281 of 300 ms\n\
             2026-11-22T03:29:19.114Z on prod\n\n\
             api.decide: 300 budget - 0.1 elapsed - 10 reserve, within 0 to 1000: given 289.9 ms, answered after 280.7\n\
             core.decide: 289.9 budget - 0.1 elapsed - 10 reserve, within 5 to 1000: given 279.8 ms, deadline after 279.9\n\n\
             edge  │{full}   │ 281.0 ms\n\
             api   │{full}   │ 280.7 ms\n\
             core  │{full}   │ 279.9 ms\n"
        );
        assert_eq!(account.text(), expected);
    }

    #[test]
    fn a_bar_shows_at_least_one_block_and_stays_within_its_frame() {
        for (start, length) in [(0.0, 0.01), (299.9, 0.1), (0.0, 900.0), (500.0, 1.0)] {
            let line = bar("core", start, length, 300.0);
            let inside = line.split('│').nth(1).unwrap();
            assert!(inside.contains('█'), "{line}");
            assert_eq!(inside.chars().count(), BAR, "{line}");
        }
    }
}
