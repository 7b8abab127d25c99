//! `backstop decide`: one request from flags, to see what comes back.

use std::process::ExitCode;

use backstop_contract::{Decision, Problem, Timestamp, header};
use backstop_settings::parse_duration;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{Answer, Broken, Call, Client, ClientError, Key};

/// What keeps a request from being asked.
#[derive(Debug, thiserror::Error)]
enum DecideError {
    /// There is no way to the edge.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The connection broke.
    #[error("the connection broke before the answer came")]
    Exchange,
}

/// Asks for one decision and prints the answer: the JSON on standard output, status and timing on
/// standard error. Exits with 0 for a decision.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: crate::dir::Dir,
    /// Which policy decides
    #[arg(long, default_value = "payment")]
    policy: String,
    /// Whose request it is
    #[arg(long, default_value = "customer-1")]
    account: String,
    /// In minor units: pence, cents; a claim needs none
    #[arg(long, value_name = "N", value_parser = minor_units, allow_hyphen_values = true)]
    amount: Option<u64>,
    /// ISO 4217 [default: GBP, when there is an amount]
    #[arg(long)]
    currency: Option<String>,
    /// The idempotency key [default: a new one]
    #[arg(long)]
    id: Option<String>,
    /// When it happened, such as 2018-08-01T12:00:00Z; over a day off needs --test
    #[arg(long, value_name = "TIME", value_parser = rfc_3339)]
    at: Option<String>,
    /// An attribute; numbers and true or false are sent as such, and "5" in quotes as text
    #[arg(long = "attribute", value_name = "NAME=VALUE", value_parser = attribute)]
    attributes: Vec<(String, Value)>,
    /// Ask with test-merchant.key
    #[arg(long)]
    test: bool,
    /// Allow less time than the merchant's own budget, such as 250ms
    #[arg(long, value_name = "TIME", value_parser = budget)]
    budget: Option<HeaderValue>,
    /// Let this tier decide; needs --test
    #[arg(long, value_parser = ["edge", "api"], requires = "test")]
    force: Option<String>,
}

/// Asks, and prints what comes back.
pub async fn run(args: Args) -> ExitCode {
    match ask(&args).await {
        Ok(answer) => {
            println!("{}", pretty(&answer.body));
            if answer.status == StatusCode::OK { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn ask(args: &Args) -> Result<Answer, DecideError> {
    let key = if args.test { Key::Test } else { Key::Live };
    let client = Client::new(&args.dir.layout(), key)?;
    let mut connection = client.open().await?;
    let call = Call { budget: args.budget.clone(), ..Call::decision(args.body()) };
    let sent = Instant::now();
    let answer = connection.exchange(&call).await.map_err(|_: Broken| DecideError::Exchange)?;
    eprintln!("{} in {:.1} ms", answer.status, sent.elapsed().as_secs_f64() * 1000.0);
    for name in [header::SERVER_TIMING, header::REPLAYED] {
        if let Some(value) = answer.headers.get(name).and_then(|value| value.to_str().ok()) {
            eprintln!("{name}: {value}");
        }
    }
    Ok(answer)
}

impl Args {
    fn body(&self) -> Bytes {
        let mut attributes: Map<String, Value> = self.attributes.iter().cloned().collect();
        if let Some(tier) = &self.force {
            let _ = attributes
                .insert(backstop_contract::request::FORCE.to_owned(), tier.as_str().into());
        }
        let id = self.id.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
        let mut body = Map::new();
        let mut put = |name: &str, value: Value| drop(body.insert(name.to_owned(), value));
        put("id", id.into());
        put("policy", self.policy.as_str().into());
        put("account", self.account.as_str().into());
        if let Some(amount) = self.amount {
            put("amount", amount.into());
            put("currency", self.currency.as_deref().unwrap_or("GBP").into());
        } else if let Some(currency) = &self.currency {
            put("currency", currency.as_str().into());
        }
        if let Some(at) = &self.at {
            put("at", at.as_str().into());
        }
        if !attributes.is_empty() {
            put("attributes", attributes.into());
        }
        Value::Object(body).to_string().into()
    }
}

/// JSON indented, its fields in the order of the house where they are known; anything else as it came.
fn pretty(body: &[u8]) -> String {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return String::from_utf8_lossy(body).into_owned();
    };
    ordered::<Decision>(body, &value)
        .or_else(|| ordered::<Problem>(body, &value))
        .unwrap_or_else(|| format!("{value:#}"))
}

/// The body as a `T`, if it says no more and no less than one.
fn ordered<T: Serialize + DeserializeOwned>(body: &[u8], value: &Value) -> Option<String> {
    let typed: T = serde_json::from_slice(body).ok()?;
    let same = serde_json::to_value(&typed).ok()? == *value;
    same.then(|| serde_json::to_string_pretty(&typed).ok()).flatten()
}

fn attribute(text: &str) -> Result<(String, Value), &'static str> {
    let (name, value) = text
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or("give NAME=VALUE, such as terminal=3156")?;
    let plain = |value: &Value| value.is_number() || value.is_boolean() || value.is_string();
    let value = serde_json::from_str(value).ok().filter(plain).unwrap_or_else(|| value.into());
    Ok((name.to_owned(), value))
}

fn minor_units(text: &str) -> Result<u64, &'static str> {
    text.parse().map_err(|_not_whole| "give whole minor units, 0 or more, such as 5716 for 57.16")
}

fn rfc_3339(text: &str) -> Result<String, &'static str> {
    let right = "give RFC 3339, such as 2018-08-01T12:00:00Z";
    Timestamp::parse(text).map(|_valid| text.to_owned()).ok_or(right)
}

fn budget(text: &str) -> Result<HeaderValue, &'static str> {
    let right = "give a length of time, such as 250ms";
    let budget = backstop_contract::Budget::new(parse_duration(text).ok_or(right)?);
    HeaderValue::try_from(budget.to_string()).map_err(|_never| right)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn body(line: &str) -> Value {
        let args = Cli::try_parse_from(line.split(' ')).unwrap().args;
        serde_json::from_slice(&args.body()).unwrap()
    }

    #[test]
    fn the_flags_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn attributes_are_what_they_look_like_and_text_in_quotes() {
        let body = body(
            "decide --amount 5716 --attribute qty=6 --attribute share=0.5 --attribute gift=true \
             --attribute terminal=\"3156\" --attribute sku=85123A --attribute note=a=b --attribute x=",
        );
        let expected = serde_json::json!({"qty": 6, "share": 0.5, "gift": true, "terminal": "3156",
            "sku": "85123A", "note": "a=b", "x": ""});
        assert_eq!(body["attributes"], expected);
        assert_eq!((&body["amount"], &body["currency"]), (&5716.into(), &"GBP".into()));
    }

    #[test]
    fn without_flags_the_id_is_new_each_time() {
        let (one, other) = (body("decide"), body("decide"));
        assert_ne!(one["id"], other["id"]);
        assert!(one.get("attributes").is_none() && one.get("amount").is_none());
        assert_eq!(body("decide --id a")["id"], "a");
    }

    #[test]
    fn an_amount_is_whole_minor_units_and_a_claim_needs_none() {
        for amount in ["-5", "57.16", "", "GBP"] {
            let refused = Cli::try_parse_from(["decide", "--amount", amount]).err().unwrap();
            assert!(refused.to_string().contains("such as 5716"), "{amount}: {refused}");
        }
        let claim = body("decide --policy claim --attribute sku=A --id c");
        let expected = serde_json::json!({"id": "c", "policy": "claim", "account": "customer-1",
            "attributes": {"sku": "A"}});
        assert_eq!(claim, expected);
    }

    #[test]
    fn a_forced_tier_is_an_attribute_and_needs_a_test_key() {
        let body = body("decide --test --force edge");
        assert_eq!(body["attributes"], serde_json::json!({"backstop_force": "edge"}));
        assert!(Cli::try_parse_from(["decide", "--force", "edge"]).is_err());
        assert!(Cli::try_parse_from(["decide", "--test", "--force", "core"]).is_err());
    }

    #[test]
    fn an_answer_is_shown_whole_and_in_the_order_of_the_house() {
        let problem = r#"{"type":"t","title":"T","status":400,"detail":"d","remedy":"r"}"#;
        assert_eq!(pretty(problem.as_bytes()).find("type"), Some(5));
        let newer = r#"{"type":"t","title":"T","status":400,"detail":"d","remedy":"r","at":1}"#;
        assert!(pretty(newer.as_bytes()).contains("\"at\": 1"));
        assert_eq!(pretty(b"<html>"), "<html>");
    }

    #[test]
    fn a_budget_is_sent_as_milliseconds() {
        assert_eq!(budget("250ms").unwrap(), "250");
        assert_eq!(budget("2s").unwrap(), "2000");
        assert!(budget("soon").is_err());
    }
}
