//! Core, asked what it would decide. Few ask, so each is a call of its own.

use std::sync::Arc;

use tokio::time::Instant;

use backstop_contract::{Budget, Cause, Link, NextTier, Question, Reply, wire};

use super::{CoreClient, Stub, within};

/// A core that decides nothing, but says what it would. It has limits and a breaker of its own.
pub struct Rehearsing<'a> {
    core: &'a CoreClient,
}

impl<'a> Rehearsing<'a> {
    /// This one.
    pub(super) const fn of(core: &'a CoreClient) -> Self {
        Self { core }
    }

    /// How long a rehearsal is worth waiting for, and whether it is worth asking for.
    pub fn way(&self) -> &Link {
        &self.core.rehearsals
    }
}

impl NextTier for Rehearsing<'_> {
    const OPERATION: &'static str = "core.rehearse";

    async fn decide(&self, question: &Question, budget: Budget) -> Result<Reply, Cause> {
        let CoreClient { rehearsals, seen, .. } = self.core;
        let (link, seen) = (Some(Arc::clone(rehearsals)), Arc::clone(seen));
        let (merchant, asked) = (question.merchant.clone(), Instant::now());
        let request = within(budget, wire::DecideRequest::from(question));
        let rehearse = |mut stub: Stub| async move {
            let mut reply = stub.rehearse(request).await?;
            // Which keeps a stack warm that serves nobody.
            seen.remember(&merchant, asked, std::mem::take(&mut reply.get_mut().history));
            Ok(reply)
        };
        let reply = self.core.exchange(budget, link, rehearse).await?;
        self.core.read(question, reply)
    }
}
