//! One id, one answer: from the book where it has one, else from whoever answers first, and in the book
//! before it leaves.
//!
//! Duplicates that come while the first is being decided share its exchange with the api, and get one
//! answer at the earliest of their deadlines: whoever is out of time first proposes what the edge decides
//! alone, and the book takes the first proposal for all of them.

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use backstop_book::{Asked, Entry, Turn};
use backstop_contract::request::Force;
use backstop_contract::{
    Cause, Deadline, Decision, Fallback as _, Problem, Question, Reply, Tier, decide,
};

use crate::api_client::ApiClient;
use crate::edge::Edge;
use crate::fallback::Alone;

impl Edge {
    /// The answer of this id: the one that was given before, or one that is now.
    pub(crate) async fn answer_once(
        &self,
        question: &Question,
        api: &ApiClient,
        alone: &Alone<'_>,
        deadline: Deadline,
    ) -> Reply {
        let turn = match self.book.ask(&question.merchant, &question.request.id, &question.hash) {
            Asked::Turn(turn) => turn,
            Asked::Said(recall) => return Reply::Decided(recall.said().await.answer),
            Asked::Other => return Reply::Refused(Problem::id_reused()),
        };
        let decision = tokio::select! {
            biased;
            said = turn.heard() => return Reply::Decided(said.answer),
            reply = self.decide_new(question, api, alone, &turn, deadline) => match reply {
                Reply::Decided(decision) => decision,
                Reply::Refused(problem) => return Reply::Refused(problem),
            },
        };
        Reply::Decided(turn.say(entry(question, decision), deadline).await.answer)
    }

    /// Asks the stack that serves this request, and decides here when it can not. A duplicate asks nobody:
    /// it waits for the first as long as it can.
    async fn decide_new(
        &self,
        question: &Question,
        api: &ApiClient,
        alone: &Alone<'_>,
        turn: &Turn,
        deadline: Deadline,
    ) -> Reply {
        if question.test && question.request.force() == Some(Force::Edge) {
            return Reply::Decided(alone.decide(question, Cause::Forced, deadline));
        }
        if !turn.is_first() {
            let now = Instant::now();
            let wait = deadline.budget_for(api.link().limits(deadline.budget(), now), now);
            // Ends early where the first goes without a word, as when its client breaks the rules.
            if timeout(wait.length(), turn.becomes_first()).await.is_err() {
                return Reply::Decided(alone.decide(question, Cause::Deadline, deadline));
            }
        }
        match decide(api, alone, question, deadline, api.link()).await {
            Reply::Decided(decision) => {
                let is_new_and_cores = decision.decided_by == Tier::Core && !decision.replayed;
                if is_new_and_cores && self.fidelity.samples(question) {
                    self.fidelity.compare(question, decision.decision, ());
                }
                Reply::Decided(alone.within_caps(decision, question))
            }
            Reply::Refused(problem) => Reply::Refused(problem),
        }
    }
}

/// What the book keeps of it.
fn entry(question: &Question, answer: Decision) -> Entry {
    let request = if answer.is_stand_in() { question.body.clone() } else { Bytes::new() };
    Entry {
        merchant: question.merchant.clone(),
        test: question.test,
        numeric_ids: question.numeric_ids,
        hash: question.hash,
        received_at: question.received_at,
        request,
        answer,
    }
}
