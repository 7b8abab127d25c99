//! The routes of an operator: health, readiness, metrics, which stack serves, and stock.

mod fidelity;
mod rules;
mod switch;

use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use serde_json::json;
use tokio::time::Instant;

use backstop_book::Book;
use backstop_contract::Problem;
use backstop_contract::breaker::State;
use backstop_contract::stock::Stock;
use backstop_lua::InForce;
use backstop_settings::{Merchants, Token};

use crate::fidelity::OfDefaults;
use crate::http::{Answer, Incoming, Routes};
use crate::metrics::Metrics;
use crate::pass_on::{ask_api, pass_on};
use crate::publisher::Publisher;
use crate::stacks::Stacks;
use crate::switch::Switch;
use crate::why::Accounts;

/// Answers operators, on a listener of its own.
pub struct Admin {
    /// Which stack serves.
    pub stacks: Arc<Stacks>,
    /// What changes that.
    pub switch: Arc<Switch>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The bundle whose defaults the edge answers with alone.
    pub rules: Arc<InForce>,
    /// What publishes others.
    pub publisher: Arc<Publisher>,
    /// How often the defaults agree with core.
    pub fidelity: Arc<OfDefaults>,
    /// Why the latest decisions came out as they did.
    pub accounts: Arc<Accounts>,
    /// What a request must carry, but for health, readiness and metrics.
    pub token: Token,
    /// What was released.
    pub book: Book,
    /// Who there is to act for.
    pub merchants: Arc<ArcSwap<Merchants>>,
    /// The file with the key of the merchant that is meant when none is named.
    pub merchant_key: PathBuf,
}

const WHY: &str = "/admin/why/";
const STACKS: &str = "/admin/stacks";
const STOCK: &str = "/admin/stock/";
/// Nobody needs more to say how much there is.
const STOCK_BYTES_MAX: usize = 65_536;
/// The active api's own: it listens where no collector of metrics can ask.
const METRICS_OF_API: &str = "/metrics/api";
const METRICS_MEDIA: &str = "text/plain; version=0.0.4";
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", METRICS_OF_API];

impl Routes for Admin {
    async fn answer(&self, incoming: &mut Incoming<'_>) -> Option<Answer> {
        Some(self.try_answer(incoming).await.unwrap_or_else(Answer::from))
    }
}

impl Admin {
    async fn try_answer(&self, incoming: &mut Incoming<'_>) -> Result<Answer, Problem> {
        let path = incoming.path();
        if !OPEN.contains(&path) && !self.token.is_shown_by(incoming.header("authorization")) {
            return Err(Problem::unauthorized());
        }
        if path.starts_with(STOCK) {
            return self.stock(incoming).await;
        }
        if path == rules::RULES {
            return self.rules(incoming).await;
        }
        if path.starts_with(switch::SWITCH) {
            return self.switch(incoming).await;
        }
        if incoming.method() != "GET" && is_route(path) {
            return Err(Problem::method_not_allowed("GET"));
        }
        let answer = match path {
            "/healthz" => Answer::new(200, "text/plain", "ok\n"),
            "/readyz" => Answer::new(200, "application/json", self.readiness()),
            "/metrics" => {
                self.fidelity.show();
                self.metrics.show_rules(&self.rules.load());
                let text = self.metrics.render(&self.stacks, &self.book.health());
                Answer::new(200, METRICS_MEDIA, text)
            }
            METRICS_OF_API => {
                Answer::new(200, METRICS_MEDIA, ask_api(&self.stacks, "/metrics").await?)
            }
            path if path.starts_with(WHY) => self.why(path, incoming.query())?,
            fidelity::FIDELITY => self.fidelity().await,
            STACKS => Answer::new(200, "application/json", self.stacks_json()),
            _ => return Err(Problem::not_found()),
        };
        Ok(answer)
    }

    /// The account of the decision that the rest of the path names; `?merchant=` narrows it down.
    fn why(&self, path: &str, query: Option<&str>) -> Result<Answer, Problem> {
        let id = percent_decode_str(path.strip_prefix(WHY).unwrap_or_default()).decode_utf8_lossy();
        let merchant = query.and_then(|query| parameter(query, "merchant"));
        let account =
            self.accounts.find(&id, merchant.as_deref()).ok_or_else(Problem::forgotten)?;
        let json = serde_json::to_vec(&account).unwrap_or_default();
        Ok(Answer::new(200, "application/json", json))
    }

    /// What is left of the stock that the rest of the path names, and setting it.
    async fn stock(&self, incoming: &mut Incoming<'_>) -> Result<Answer, Problem> {
        let body = match incoming.method().as_str() {
            "GET" => Bytes::new(),
            "PUT" => {
                let body = incoming.body().await;
                let body = body.map_err(|_too_large_or_cut| Problem::too_large(STOCK_BYTES_MAX))?;
                Stock::receive(body)?.to_json().into()
            }
            _ => return Err(Problem::method_not_allowed("GET, PUT")),
        };
        let merchant = self.merchant(incoming.query())?;
        let request = (incoming.method().as_str(), incoming.path());
        pass_on(&self.stacks, request, &merchant, body).await
    }

    /// The merchant of `?merchant=`, or else the one whose key lies in the directory.
    fn merchant(&self, query: Option<&str>) -> Result<String, Problem> {
        let merchants = self.merchants.load();
        if let Some(name) = query.and_then(|query| parameter(query, "merchant")) {
            let mut names = merchants.iter().map(|(merchant, _)| &merchant.name);
            return names.find(|it| **it == name).cloned().ok_or_else(Problem::unknown_merchant);
        }
        let key = std::fs::read_to_string(&self.merchant_key).unwrap_or_default();
        let merchant = merchants.authenticate(key.trim());
        merchant.map(|merchant| merchant.name.clone()).ok_or_else(Problem::unknown_merchant)
    }

    /// The edge is ready when it can answer alone. It can, or it would not have started: what lies
    /// behind it does not count, or a balancer would remove the layer that exists for the outage. Nor
    /// does a disk that takes nothing: the answers then say so.
    fn readiness(&self) -> String {
        let book = self.book.health();
        json!({
            "ready": true,
            "level": "L0",
            "active": self.stacks.active().stack(),
            "policy_version": self.rules.load().live().version(),
            "book": {
                "durable": book.trusted,
                "why": book.why,
                "entries": book.entries,
                "bytes": book.bytes,
                "unsettled": book.unsettled,
                "set_aside": book.set_aside,
                "undurable": book.undurable,
                "forgotten": book.forgotten_debts_total,
                "horizon_minutes": book.horizon.as_secs() / 60,
                "corrupt_files": book.corrupt_files,
            },
        })
        .to_string()
    }

    fn stacks_json(&self) -> String {
        let (active, now) = (self.stacks.active().stack(), Instant::now());
        let stacks: Vec<_> = self
            .stacks
            .all()
            .iter()
            .map(|api| {
                let breaker = match api.link().state(now) {
                    State::Closed => "closed",
                    State::HalfOpen => "half-open",
                    State::Open => "open",
                };
                let is_active = api.stack() == active;
                let peer = |(peer, is_up): (String, bool)| json!({ "peer": peer, "up": is_up });
                let peers: Vec<_> = api.peers_up(now).into_iter().map(peer).collect();
                json!({
                    "stack": api.stack(), "active": is_active, "breaker": breaker, "peers": peers,
                })
            })
            .collect();
        json!({ "active": active, "stacks": stacks }).to_string()
    }
}

fn is_route(path: &str) -> bool {
    OPEN.contains(&path) || [STACKS, fidelity::FIDELITY].contains(&path) || path.starts_with(WHY)
}

/// The value of a parameter of a query, decoded.
fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(it, _)| *it == name)?;
    Some(percent_decode_str(value).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_found_wherever_it_stands_and_decoded() {
        for (query, expected) in [
            ("merchant=demo", Some("demo")),
            ("x=1&merchant=caf%C3%A9%20bar&y", Some("café bar")),
            ("merchant=", Some("")),
            ("merchants=demo", None),
            ("merchant", None),
        ] {
            assert_eq!(parameter(query, "merchant").as_deref(), expected, "{query}");
        }
    }
}
