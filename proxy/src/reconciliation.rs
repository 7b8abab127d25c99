//! What a merchant was told and what the books say of it: core's statement, and beside it what the edge
//! alone knows, which is what core has yet to hear of.

use std::collections::HashSet;

use bytes::Bytes;

use backstop_book::Debt;
use backstop_contract::Problem;
use backstop_contract::reconciliation::{
    Comparison, IDS_MAX, Ids, Inquiry, LINES_MAX, Line, Record, Records, Statement, Upload, compare,
};

use crate::edge::Edge;
use crate::pass_on::look_up;

impl Edge {
    /// The statement of a merchant over a span of time.
    pub(crate) async fn statement(
        &self,
        merchant: &str,
        inquiry: Inquiry,
    ) -> Result<Statement, Problem> {
        let span = inquiry.span;
        // What is settled while this is made is in core's part, or in both, and never in neither.
        let debts = self.book.unsettled(merchant, span.from(), span.to(), LINES_MAX).await;
        let path = format!("/v1/reconciliation?{}", span.to_query());
        let said = look_up(&self.stacks, ("GET", &path), merchant, Bytes::new()).await?;
        let mut statement: Statement = read(&said)?;
        if !debts.is_empty() {
            let records = self.records(merchant, debts.iter().map(|it| it.id.clone())).await?;
            statement.add(debts.into_iter().map(line).collect(), &records);
        }
        Ok(statement)
    }

    /// What a merchant says that it saw, against what core says and what the edge alone knows.
    pub(crate) async fn compared(
        &self,
        merchant: &str,
        upload: &Upload,
    ) -> Result<Comparison, Problem> {
        let ids: Vec<String> = upload.rows().iter().map(|row| row.id.clone()).collect();
        let own = self.book.owed(merchant, ids.clone()).await;
        let own = own.iter().map(|it| Record::unsettled(&it.answer, it.money.as_ref()));
        let mut records = self.records(merchant, ids.into_iter()).await?;
        // Of two records of one id the later counts: what is settled meanwhile stays core's.
        let settled: HashSet<String> =
            records.iter().filter(|it| it.is_settled()).map(|it| it.id.clone()).collect();
        records.extend(own.filter(|it| !settled.contains(&it.id)));
        Ok(compare(upload.rows(), records))
    }

    /// What core says of these decisions.
    async fn records(
        &self,
        merchant: &str,
        ids: impl Iterator<Item = String>,
    ) -> Result<Vec<Record>, Problem> {
        let ids: Vec<String> = ids.collect();
        let mut all = Vec::with_capacity(ids.len());
        for ids in ids.chunks(IDS_MAX) {
            let body = Ids { ids: ids.to_vec() }.to_json();
            let said =
                look_up(&self.stacks, ("POST", "/v1/records"), merchant, body.into()).await?;
            let Records { records } = read(&said)?;
            all.extend(records);
        }
        Ok(all)
    }
}

fn line(debt: Debt) -> Line {
    Line::unsettled(&debt.answer, debt.money.as_ref(), debt.why)
}

/// The api and the edge have the same words; an api that says something else is of no help.
fn read<T: serde::de::DeserializeOwned>(said: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(said).map_err(|error| {
        tracing::warn!(%error, "the api does not say what the books hold");
        Problem::unavailable()
    })
}
