//! A question put to a stack to see how it fares, with nobody waiting for the answer.

use std::time::Duration;

use tokio::time::Instant;

use backstop_contract::{
    Budget, Cause, Deadline, Decision, Fallback, Link, NextTier, Question, Reply, Tier, Verdict,
    decide,
};

/// How a trial ended.
#[derive(Debug)]
pub struct Trial {
    /// What the stack said. Where it said nothing in time, the edge did: a review, and why.
    pub reply: Reply,
    /// How long that took.
    pub elapsed: Duration,
}

/// Asks a stack as a request would, within this budget.
pub async fn run<N: NextTier>(
    stack: &N,
    link: &Link,
    question: &Question,
    budget: Budget,
) -> Trial {
    let start = Instant::now();
    let deadline = Deadline::after(start, budget);
    let reply = decide(stack, &Nobody, question, deadline, link).await;
    Trial { reply, elapsed: start.elapsed() }
}

/// Stands in where nobody is to be answered.
struct Nobody;

impl Fallback for Nobody {
    fn decide(&self, question: &Question, cause: Cause, _deadline: Deadline) -> Decision {
        let bare = Decision::by(Tier::Edge, question.request.id.clone(), Verdict::Review);
        Decision { cause: Some(cause), ..bare }
    }
}

#[cfg(test)]
pub(crate) mod false_stacks;
