//! Requests that ask for no decision, such as for a record: passed on to the active api, and its answer
//! back. Nobody stands in for it here.

use std::time::Duration;

use bytes::Bytes;

use backstop_contract::Problem;

use crate::http::Answer;
use crate::stacks::Stacks;

/// The longest wait for the answer to a request that is not a decision.
const PASS_ON_TIME_MAX: Duration = Duration::from_secs(2);

/// The api's answer: a body, nothing, or a problem. Whatever else it says is a 503.
pub async fn pass_on(
    stacks: &Stacks,
    (method, path): (&str, &str),
    merchant: &str,
    body: Bytes,
) -> Result<Answer, Problem> {
    let answered = stacks.active().pass_on(method, path, merchant, body, PASS_ON_TIME_MAX).await;
    match answered {
        Ok(it) if it.status == 204 => Ok(Answer::new(204, "", Bytes::new())),
        Ok(it) if it.status == 200 => Ok(Answer::new(200, "application/json", it.body)),
        Ok(it) if (400..500).contains(&it.status) => {
            let problem = serde_json::from_slice::<Problem>(&it.body);
            Err(problem.unwrap_or_else(|_not_a_problem| Problem::unavailable()))
        }
        Ok(_) | Err(_) => Err(Problem::unavailable()),
    }
}
