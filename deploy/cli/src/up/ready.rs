//! When the system may be called ready: a probe was decided by core through both stacks, and the edge
//! takes requests.

use std::time::Duration;

use backstop_contract::{Timestamp, header};
use backstop_settings::merchants::PROBE_MERCHANT;
use backstop_settings::{Layout, STACKS};
use bytes::Bytes;
use hyper::{Request, StatusCode};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::board::Board;
use super::preflight::Plan;
use crate::exchange::{Place, exchange, get};

const PROBE_EVERY: Duration = Duration::from_millis(100);
const PROBE_BUDGET: Duration = Duration::from_secs(1);
/// The budget, and the way there and back on a machine that is busy starting everything.
const PROBE_TIME_MAX: Duration = Duration::from_secs(2);

/// How the wait for readiness ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Core decides through both stacks.
    Ready,
    /// The edge answers, but not all of that holds; why.
    StandingIn(String),
    /// A process cannot run, and nothing may go on without it; why.
    Refused(String),
}

/// What was seen of one round of probes, and what the processes said.
#[derive(Clone, Debug, Default)]
struct Seen {
    is_edge_ready: bool,
    /// Why a stack does not decide yet, in the order of the stacks.
    lacking: Vec<String>,
    /// The proxy when it could not run, and what it said.
    edge_refusal: Option<(String, String)>,
    /// The api or core that could not run, and what it said.
    tier_refusal: Option<(String, String)>,
    is_first_run: bool,
    is_late: bool,
}

/// What to make of it; `None`: wait on.
fn judge(seen: Seen) -> Option<Outcome> {
    if let Some((_, words)) = seen.edge_refusal {
        return Some(Outcome::Refused(words));
    }
    if let Some((name, words)) = seen.tier_refusal {
        if seen.is_first_run {
            return Some(Outcome::Refused(words));
        }
        return seen.is_edge_ready.then(|| Outcome::StandingIn(format!("{name}: {words}")));
    }
    // Without the edge nobody is answered, whatever the time: it is never called ready.
    if !seen.is_edge_ready {
        return None;
    }
    if seen.lacking.is_empty() {
        return Some(Outcome::Ready);
    }
    seen.is_late.then(|| Outcome::StandingIn(seen.lacking.join("; ")))
}

/// Waits until the system is ready, or it is clear that it will not be.
pub async fn wait(layout: &Layout, plan: &Plan, board: &Board) -> Outcome {
    let deadline = Instant::now() + plan.settings.up.ready_within;
    let mut waiting = STACKS.to_vec();
    let mut has_complained = false;
    loop {
        let mut lacking = Vec::new();
        for stack in std::mem::take(&mut waiting) {
            let place = Place::Socket(layout.socket("api", stack));
            if let Err(reason) = probe(&place, &plan.probe_policy).await {
                lacking.push(format!("{stack}: {reason}"));
                waiting.push(stack);
            }
        }
        let readyz = get(&Place::Address(plan.admin), "/readyz", PROBE_TIME_MAX).await;
        let is_edge_ready = readyz.is_ok_and(|status| status == StatusCode::OK);
        let is_late = Instant::now() >= deadline;
        if is_late && !is_edge_ready && !has_complained {
            tracing::error!("the edge is not ready; `backstop logs proxy` says why");
            has_complained = true;
        }
        let outcome = judge(Seen {
            is_edge_ready,
            lacking,
            edge_refusal: board.refusal(|process| process.tier == "proxy"),
            tier_refusal: board.refusal(|process| process.tier != "proxy"),
            is_first_run: plan.is_first_run,
            is_late,
        });
        if let Some(outcome) = outcome {
            return outcome;
        }
        sleep(PROBE_EVERY).await;
    }
}

/// Asks the api of one stack for a decision, past the edge; why it is not core's.
pub async fn probe(api: &Place, policy: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Answer {
        decided_by: String,
        cause: Option<String>,
    }
    let request = question(policy).map_err(|error| error.to_string())?;
    let (status, body) = exchange(api, request, PROBE_TIME_MAX)
        .await
        .map_err(|error| format!("the api does not answer: {error}"))?;
    if status != StatusCode::OK {
        return Err(format!("the api answers {status}"));
    }
    match serde_json::from_slice::<Answer>(&body) {
        Ok(answer) if answer.decided_by == "core" => Ok(()),
        Ok(Answer { decided_by, cause }) => {
            Err(format!("{decided_by} decides ({})", cause.as_deref().unwrap_or("no cause")))
        }
        Err(_not_a_decision) => Err("the api answers what is no decision".to_owned()),
    }
}

fn question(policy: &str) -> Result<Request<Bytes>, hyper::http::Error> {
    let id = uuid::Uuid::now_v7();
    let body = serde_json::json!({
        "id": format!("probe-{id}"),
        "policy": policy,
        "account": "probe",
        "amount": 1,
        "currency": "EUR",
        "attributes": {},
    })
    .to_string();
    let hash = digest(&SHA256, body.as_bytes());
    let hash: [u8; 32] = hash.as_ref().try_into().unwrap_or_default();
    let hash = backstop_contract::RequestHash::from_bytes(&hash);
    Request::post("/v1/decisions")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header(header::MERCHANT, PROBE_MERCHANT)
        .header(header::TEST, "false")
        .header(header::RECEIVED_AT, Timestamp::now().as_millis())
        .header(header::REQUEST_HASH, hash.map(|hash| hash.to_string()).unwrap_or_default())
        .header(header::BUDGET, PROBE_BUDGET.as_millis().to_string())
        .body(Bytes::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_both_stacks_and_the_edge() {
        let all = Seen { is_edge_ready: true, ..Seen::default() };
        assert_eq!(judge(all.clone()), Some(Outcome::Ready));
        let silent = Seen { is_edge_ready: false, ..all.clone() };
        assert_eq!(judge(silent.clone()), None);
        assert_eq!(judge(Seen { is_late: true, ..silent }), None);
        let half = Seen { lacking: vec!["old-prod: api decides".into()], ..all };
        assert_eq!(judge(half.clone()), None);
        let late = judge(Seen { is_late: true, ..half });
        assert_eq!(late, Some(Outcome::StandingIn("old-prod: api decides".into())));
    }

    #[test]
    fn a_core_that_cannot_run_refuses_a_first_run_and_is_stood_in_for_later() {
        let seen = Seen {
            is_edge_ready: true,
            lacking: vec!["prod: api decides".into()],
            tier_refusal: Some(("core-prod".into(), "no database".into())),
            ..Seen::default()
        };
        let first = Seen { is_first_run: true, is_edge_ready: false, ..seen.clone() };
        assert_eq!(judge(first), Some(Outcome::Refused("no database".into())));
        assert_eq!(judge(seen.clone()), Some(Outcome::StandingIn("core-prod: no database".into())));
        assert_eq!(judge(Seen { is_edge_ready: false, ..seen.clone() }), None);
        let edge = Seen { edge_refusal: Some(("proxy".into(), "no".into())), ..seen };
        assert_eq!(judge(edge), Some(Outcome::Refused("no".into())));
    }
}
