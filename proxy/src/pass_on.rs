//! Requests that ask for no decision, such as for a record: passed on to the active api, and its answer
//! back. Nobody stands in for it here.

use std::time::Duration;

use bytes::Bytes;

use backstop_contract::Problem;
use backstop_contract::reconciliation;

use crate::api_client::Passing;
use crate::exchange::ANSWER_BYTES_MAX;
use crate::http::Answer;
use crate::stacks::Stacks;

/// The longest wait for the answer to a request that is not a decision.
const PASS_ON_TIME_MAX: Duration = Duration::from_secs(2);
/// The longest wait for a statement, for which core may have to read much.
const STATEMENT_TIME_MAX: Duration = Duration::from_secs(30);

/// The api's answer: a body, nothing, or a problem. Whatever else it says is a 503.
pub async fn pass_on(
    stacks: &Stacks,
    (method, path): (&str, &str),
    merchant: &str,
    body: Bytes,
) -> Result<Answer, Problem> {
    let (wait, answer_bytes_max) = (PASS_ON_TIME_MAX, ANSWER_BYTES_MAX);
    let passing = Passing { method, path, merchant, body, wait, answer_bytes_max };
    Ok(match answer_to(stacks, &passing).await? {
        Some(body) => Answer::new(200, "application/json", body),
        None => Answer::new(204, "", Bytes::new()),
    })
}

/// What the books say of many decisions, as the api has it.
pub async fn look_up(
    stacks: &Stacks,
    (method, path): (&str, &str),
    merchant: &str,
    body: Bytes,
) -> Result<Bytes, Problem> {
    let (wait, answer_bytes_max) = (STATEMENT_TIME_MAX, reconciliation::ANSWER_BYTES_MAX);
    let passing = Passing { method, path, merchant, body, wait, answer_bytes_max };
    Ok(answer_to(stacks, &passing).await?.unwrap_or_default())
}

/// What the active api says of itself.
pub async fn ask_api(stacks: &Stacks, path: &str) -> Result<Bytes, Problem> {
    let (wait, answer_bytes_max) = (PASS_ON_TIME_MAX, reconciliation::ANSWER_BYTES_MAX);
    let (method, merchant, body) = ("GET", "", Bytes::new());
    let passing = Passing { method, path, merchant, body, wait, answer_bytes_max };
    Ok(answer_to(stacks, &passing).await?.unwrap_or_default())
}

/// The body of the answer, if it has one.
async fn answer_to(stacks: &Stacks, passing: &Passing<'_>) -> Result<Option<Bytes>, Problem> {
    match stacks.active().pass_on(passing).await {
        Ok(it) if it.status == 204 => Ok(None),
        Ok(it) if it.status == 200 => Ok(Some(it.body)),
        Ok(it) if (400..500).contains(&it.status) => {
            let problem = serde_json::from_slice::<Problem>(&it.body);
            Err(problem.unwrap_or_else(|_not_a_problem| Problem::unavailable()))
        }
        Ok(_) | Err(_) => Err(Problem::unavailable()),
    }
}
