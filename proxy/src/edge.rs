//! The routes of a merchant: authenticate, judge, ask the api, answer in time.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Method;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use percent_encoding::percent_decode_str;
use tokio::time::Instant;

use backstop_book::{Book, Found};
use backstop_contract::card;
use backstop_contract::class::{Confidential, Restricted};
use backstop_contract::label::Label;
use backstop_contract::ledger::millis;
use backstop_contract::reconciliation::{Form, Inquiry, Media, UPLOAD_BYTES_MAX, Upload};
use backstop_contract::validity::{self, Terms};
use backstop_contract::{
    Budget, Deadline, Decision, HashKey, Problem, Question, Reply, Stack, Timestamp, header,
};
use backstop_lua::{InForce, Rules, Standing};
use backstop_process::Faults;
use backstop_settings::{Merchant, Merchants};

use crate::exchange::DECISIONS;
use crate::exposure::{Caps, Exposures};
use crate::fallback::Alone;
use crate::fidelity::OfDefaults;
use crate::http::{Answer, BodyFault, Incoming, Routes};
use crate::metrics::Metrics;
use crate::mirror::Mirror;
use crate::pass_on::pass_on;
use crate::publisher::Publisher;
use crate::record;
use crate::stacks::Stacks;
use crate::switch::{Switch, Timing};
use crate::trace::TraceContext;
use crate::why::Accounts;

/// The longest path that is looked at: an id of 128 characters, each percent-encoded at its longest.
const PATH_BYTES_MAX: usize = 2048;
/// Room for nearly every answer.
const ANSWER_BYTES_USUAL: usize = 768;
const RECONCILIATION: &str = "/v1/reconciliation";

/// Answers merchants.
pub struct Edge {
    /// Who may ask, reloaded as the file changes.
    pub merchants: Arc<ArcSwap<Merchants>>,
    /// Where to ask.
    pub stacks: Arc<Stacks>,
    /// What learns how each stack fares.
    pub switch: Arc<Switch>,
    /// What shows some of the requests to the other one.
    pub mirror: Mirror,
    /// What to answer alone.
    pub rules: Arc<InForce>,
    /// What learns whether they break.
    pub publisher: Arc<Publisher>,
    /// The longest one default may take.
    pub default_time_max: Duration,
    /// Hashes requests and card numbers.
    pub hash_key: HashKey,
    /// The largest body, named in the refusal of a larger one.
    pub body_bytes_max: usize,
    /// What puts some of core's decisions to the defaults as well.
    pub fidelity: Arc<OfDefaults>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the log repeats at most once a second.
    pub faults: Faults,
    /// Why the latest decisions came out as they did.
    pub accounts: Arc<Accounts>,
    /// What was released.
    pub book: Book,
    /// What stand-ins have approved lately.
    pub exposures: Exposures,
    /// What they may approve for a merchant that has no caps of its own.
    pub stand_in_caps: Caps,
}

/// Why a request gets no answer of its own kind.
enum Stop {
    /// The client must change its request.
    Refused(Problem),
    /// There is nobody left to answer, or nobody worth it.
    Cut,
}

impl Stop {
    /// What a body that is not there ends in.
    fn of(fault: BodyFault, bytes_max: usize) -> Self {
        match fault {
            BodyFault::TooLarge => Self::Refused(Problem::too_large(bytes_max)),
            BodyFault::Cut => Self::Cut,
        }
    }
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

/// A route of the merchant's API.
#[derive(Debug, PartialEq, Eq)]
enum Route {
    Decide,
    Record,
    Label,
    Balance,
    Statement,
    Compare,
}

/// The route of a method and path; the path is judged before the method.
fn route(method: &Method, path: &str) -> Result<Route, Problem> {
    let id = path.strip_prefix(DECISIONS).and_then(|rest| rest.strip_prefix('/'));
    if path == RECONCILIATION {
        return match method.as_str() {
            "GET" => Ok(Route::Statement),
            "POST" => Ok(Route::Compare),
            _ => Err(Problem::method_not_allowed("GET, POST")),
        };
    }
    let (route, allow) = match id {
        None if path == DECISIONS => (Route::Decide, "POST"),
        Some(id) if is_id(id) => (Route::Record, "GET"),
        Some(rest) if rest.strip_suffix("/label").is_some_and(is_id) => (Route::Label, "POST"),
        None if account_of(path).is_some_and(is_id) => (Route::Balance, "GET"),
        _ => return Err(Problem::not_found()),
    };
    if method.as_str() == allow { Ok(route) } else { Err(Problem::method_not_allowed(allow)) }
}

/// The account whose balance the path names.
fn account_of(path: &str) -> Option<&str> {
    path.strip_prefix("/v1/accounts/")?.strip_suffix("/balance")
}

fn is_id(segment: &str) -> bool {
    !segment.is_empty() && segment.len() <= PATH_BYTES_MAX && !segment.contains('/')
}

impl Routes for Edge {
    async fn answer(&self, incoming: &mut Incoming<'_>) -> Option<Answer> {
        match self.try_answer(incoming).await {
            Ok(answer) => Some(answer),
            Err(Stop::Refused(problem)) => Some(problem.into()),
            Err(Stop::Cut) => None,
        }
    }
}

impl Edge {
    /// Checks in the order of the contract: route, method, key, content type, size, syntax, schema.
    async fn try_answer(&self, incoming: &mut Incoming<'_>) -> Result<Answer, Stop> {
        let route = route(incoming.method(), incoming.path())?;
        let merchants = self.merchants.load();
        let bearer = incoming.header(AUTHORIZATION).and_then(bearer);
        let merchant = bearer.and_then(|key| merchants.authenticate(key.expose()));
        let merchant = merchant.ok_or_else(Problem::unauthorized)?;
        match route {
            Route::Decide => self.decide(incoming, merchant).await,
            Route::Statement => self.state(incoming, merchant).await,
            Route::Compare => self.compare(incoming, merchant).await,
            Route::Balance => self.pass_on(incoming, merchant, Bytes::new()).await,
            Route::Record => {
                let found = self.find(incoming, merchant).await;
                self.record(incoming, merchant, found).await
            }
            Route::Label => {
                let label = Label::receive(self.json_body(incoming).await?)?;
                let labelled = self.pass_on(incoming, merchant, label.to_json().into()).await;
                match labelled {
                    // Core will have it before long.
                    Err(Stop::Refused(problem)) if problem.status == 404 => {
                        let found = self.find(incoming, merchant).await;
                        let is_on_its_way = found.as_ref().is_some_and(record::is_unsettled);
                        Err(if is_on_its_way { Problem::unavailable() } else { problem }.into())
                    }
                    labelled => labelled,
                }
            }
        }
    }

    async fn json_body(&self, incoming: &mut Incoming<'_>) -> Result<Restricted<Bytes>, Stop> {
        let media = incoming.header(CONTENT_TYPE).unwrap_or_default();
        if !is_json(media) {
            return Err(Problem::unsupported_media_type().into());
        }
        incoming.body().await.map_err(|fault| Stop::of(fault, self.body_bytes_max))
    }

    async fn decide(
        &self,
        incoming: &mut Incoming<'_>,
        merchant: &Merchant,
    ) -> Result<Answer, Stop> {
        let body = self.json_body(incoming).await?;
        let received = Instant::now();
        let budget = budget_of(incoming, merchant)?;
        // One bundle judges the request and stands in for it, whatever is published meanwhile.
        let rules = self.rules.load_full();
        let question = self.question(incoming, merchant, body, &rules)?;
        let deadline = Deadline::after(received, budget);
        // The stack is chosen once: a request ends where it began.
        let stack = self.stacks.choose(&merchant.name, &question.request.account);
        let alone = self.alone(merchant, stack, rules.live());
        match self.answer_once(&question, self.stacks.of(stack), &alone, deadline).await {
            Reply::Refused(problem) => Err(problem.into()),
            Reply::Decided(mut decision) => {
                let elapsed = received.elapsed();
                decision.budget_ms = u64::try_from(budget.length().as_millis()).unwrap_or(u64::MAX);
                decision.elapsed_ms = millis(elapsed);
                self.metrics.decided(&decision, elapsed, elapsed > budget.length());
                let timing = Timing { elapsed, budget: budget.length(), ceiling: merchant.budget };
                if self.switch.saw(stack, &decision, timing) {
                    self.mirror.offer(stack, &question, &decision, budget);
                }
                self.publisher.saw(stack, &decision);
                self.accounts.keep(&merchant.name, question.received_at, &decision);
                Ok(answer_of(&decision, &question))
            }
        }
    }

    /// What the edge answers with when it stands in for this stack.
    fn alone<'a>(&'a self, merchant: &Merchant, stack: Stack, rules: &'a Rules) -> Alone<'a> {
        let caps = Caps {
            approvals_max: merchant
                .stand_in_approvals_max
                .unwrap_or(self.stand_in_caps.approvals_max),
            amount_max: merchant.stand_in_amount_max.unwrap_or(self.stand_in_caps.amount_max),
        };
        Alone {
            rules,
            stack: stack.as_str(),
            time_max: self.default_time_max,
            exposures: &self.exposures,
            caps,
            metrics: &self.metrics,
            faults: &self.faults,
        }
    }

    /// Judges the body and makes the question that all tiers share.
    fn question(
        &self,
        incoming: &Incoming<'_>,
        merchant: &Merchant,
        body: Restricted<Bytes>,
        rules: &Standing,
    ) -> Result<Question, Problem> {
        let received_at = Timestamp::now();
        let terms = Terms {
            now: received_at,
            test: merchant.test,
            numeric_ids: merchant.numeric_ids,
            policies: &|name| rules.has_policy(name),
        };
        let received = validity::receive(body, &terms)?;
        let (request, body) = received.replace_cards(&self.hash_key);
        Ok(Question {
            merchant: merchant.name.clone(),
            test: merchant.test,
            numeric_ids: merchant.numeric_ids,
            hash: self.hash_key.hash(&request),
            request,
            received_at,
            traceparent: TraceContext::from_header(incoming.header(header::TRACEPARENT))
                .to_header(),
            body,
        })
    }

    /// What the book has of the decision that the path names.
    async fn find(&self, incoming: &Incoming<'_>, merchant: &Merchant) -> Option<Found> {
        let id = incoming.path().strip_prefix(DECISIONS)?.strip_prefix('/')?;
        let id = id.strip_suffix("/label").unwrap_or(id);
        let id = percent_decode_str(id).decode_utf8().ok()?.into_owned();
        self.book.find(&merchant.name, &id).await
    }

    /// The record of a decision: core's, which knows what became of it, or what the client was told
    /// where core has yet to hear of it, or is out of reach.
    async fn record(
        &self,
        incoming: &Incoming<'_>,
        merchant: &Merchant,
        found: Option<Found>,
    ) -> Result<Answer, Stop> {
        let Some(found) = found else {
            return self.pass_on(incoming, merchant, Bytes::new()).await;
        };
        if !record::is_unsettled(&found)
            && let Ok(answer) = self.pass_on(incoming, merchant, Bytes::new()).await
        {
            return Ok(answer);
        }
        Ok(Answer::new(200, "application/json", record::to_json(&found)))
    }

    /// The statement of a merchant.
    async fn state(&self, incoming: &Incoming<'_>, merchant: &Merchant) -> Result<Answer, Stop> {
        let accept = incoming.header(ACCEPT);
        let inquiry = Inquiry::read(incoming.query(), accept, Timestamp::now())?;
        let statement = self.statement(&merchant.name, inquiry).await?;
        let body = match inquiry.form {
            Form::Json => statement.to_json(),
            Form::Csv => statement.to_csv(),
        };
        Ok(Answer::new(200, inquiry.form.media_type(), body))
    }

    /// What a merchant saw, against the books.
    async fn compare(
        &self,
        incoming: &mut Incoming<'_>,
        merchant: &Merchant,
    ) -> Result<Answer, Stop> {
        let media = Media::read(incoming.header(CONTENT_TYPE))?;
        let form = Form::read(incoming.query(), incoming.header(ACCEPT))?;
        let body = incoming.body_within(UPLOAD_BYTES_MAX).await;
        let body = body.map_err(|fault| Stop::of(fault, UPLOAD_BYTES_MAX))?;
        let upload = Upload::receive(body, media, merchant.numeric_ids)?;
        let comparison = self.compared(&merchant.name, &upload).await?;
        let body = match form {
            Form::Json => comparison.to_json(),
            Form::Csv => comparison.to_csv(),
        };
        Ok(Answer::new(200, form.media_type(), body))
    }

    /// Passes a request for the record, or a label, on to the active api.
    async fn pass_on(
        &self,
        incoming: &Incoming<'_>,
        merchant: &Merchant,
        body: Bytes,
    ) -> Result<Answer, Stop> {
        let (method, path) = (incoming.method().as_str(), incoming.path());
        // No decision has such an id, and what may be a card number goes no further.
        if !merchant.numeric_ids && card::contains(&percent_decode_str(path).decode_utf8_lossy()) {
            return Err(Problem::unknown_id().into());
        }
        Ok(pass_on(&self.stacks, (method, path), &merchant.name, body).await?)
    }
}

/// The key of `Authorization: Bearer KEY`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<Confidential<&str>> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Confidential::new(key.trim()))
}

/// Whether a `Content-Type` is JSON, parameters such as a charset aside.
fn is_json(media: &str) -> bool {
    let essence = media.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The merchant's budget, or less where the caller asks for less.
fn budget_of(incoming: &Incoming<'_>, merchant: &Merchant) -> Result<Budget, Problem> {
    let ceiling = Budget::new(merchant.budget);
    match incoming.header(header::BUDGET) {
        None => Ok(ceiling),
        Some(text) => {
            let asked = Budget::from_header(text).ok_or_else(Problem::bad_budget)?;
            Ok(std::cmp::min(asked, ceiling))
        }
    }
}

fn answer_of(decision: &Decision, question: &Question) -> Answer {
    let mut body = Vec::with_capacity(ANSWER_BYTES_USUAL);
    // Strings and finite numbers always serialize.
    if serde_json::to_writer(&mut body, decision).is_err() {
        body.clear();
    }
    let spent = format!("edge;dur={}", decision.elapsed_ms);
    let timing = match decision.server_timing.as_str() {
        "" => spent,
        behind => format!("{behind}, {spent}"),
    };
    let answer = Answer::new(200, "application/json", body)
        .with(header::DECIDED_BY, decision.decided_by.as_str())
        .with(header::SERVER_TIMING, &timing)
        .with(header::TRACEPARENT, &question.traceparent);
    if decision.replayed { answer.with(header::REPLAYED, "true") } else { answer }
}

#[cfg(test)]
mod tests;
