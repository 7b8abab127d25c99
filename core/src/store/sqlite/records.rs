//! The books as others read them, beside the writer and without waiting for it.

use std::collections::HashMap;

use backstop_contract::Attributes;
use sqlx::query::QueryAs;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{FromRow, Sqlite, SqlitePool};

use super::rows::{self, BalanceRow, StockRow};
use super::{STATEMENT_ROWS_MAX, wanted};
use crate::error::CoreError;
use crate::store::rows::{DecisionRow, attributes};
use crate::store::{
    AccountKey, Decided, DecisionKey, Loaded, Records, RowKey, Span, StatementReply, Wanted,
    statement,
};

/// A few connections that only read.
#[derive(Clone, Debug)]
pub struct SqliteRecords {
    pub(super) pool: SqlitePool,
    pub(super) statements: SqlitePool,
}

impl SqliteRecords {
    /// The rows that two words name.
    async fn select<R>(
        &self,
        statement: &'static str,
        words: (&str, &str),
    ) -> Result<Vec<R>, CoreError>
    where
        R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let mut query = wanted([words].into_iter());
        let query = query.push(statement).build_query_as::<R>();
        query.fetch_all(&self.pool).await.map_err(CoreError::Read)
    }
}

impl Records for SqliteRecords {
    async fn find_many(
        &self,
        keys: Vec<DecisionKey>,
    ) -> Result<HashMap<DecisionKey, Decided>, CoreError> {
        let mut found = HashMap::with_capacity(keys.len());
        for keys in keys.chunks(STATEMENT_ROWS_MAX) {
            let mut query = wanted(keys.iter().map(DecisionKey::words));
            let query = query.push(rows::SELECT_DECISIONS).build_query_as::<DecisionRow>();
            for row in query.fetch_all(&self.pool).await.map_err(CoreError::Read)? {
                found.extend([row.parse()?]);
            }
        }
        Ok(found)
    }

    async fn attributes(&self, key: DecisionKey) -> Result<Option<Attributes>, CoreError> {
        let found: Vec<(String,)> = self.select(rows::SELECT_ATTRIBUTES, key.words()).await?;
        found.first().map(|(json,)| attributes(json)).transpose()
    }

    async fn load(&self, wanted: Wanted) -> Result<Loaded, CoreError> {
        let mut connection = self.pool.acquire().await.map_err(CoreError::Read)?;
        super::load(&mut connection, wanted).await
    }

    async fn statement(&self, of: Span) -> Result<StatementReply, CoreError> {
        let rows_max = of.rows_max();
        let (totals, lines) =
            (of_span(statement::SELECT_TOTALS, &of), of_span(statement::SELECT_LINES, &of));
        let refused = of_span(statement::SELECT_REFUSED, &of).bind(rows_max);
        let sequences = sqlx::query_as(statement::SELECT_SEQUENCES).bind(statement::GAPS_MAX);
        let from = &self.statements;
        let rows = statement::Rows {
            totals: totals.fetch_all(from).await.map_err(CoreError::Read)?,
            lines: lines.bind(rows_max).fetch_all(from).await.map_err(CoreError::Read)?,
            refused: refused.fetch_all(from).await.map_err(CoreError::Read)?,
            sequences: sequences.fetch_all(from).await.map_err(CoreError::Read)?,
        };
        rows.parse(&of)
    }

    async fn stock(&self, key: RowKey) -> Result<Option<i64>, CoreError> {
        let mut rows: Vec<StockRow> = self.select(rows::SELECT_STOCK, key.words()).await?;
        Ok(rows.pop().map(|row| row.parse().1.value))
    }

    async fn balances(&self, key: AccountKey) -> Result<Vec<(String, i64)>, CoreError> {
        let rows: Vec<BalanceRow> = self.select(rows::SELECT_BALANCES, key.words()).await?;
        let balance = |row: BalanceRow| {
            let (_, unit, balance) = row.parse();
            (unit, balance.value)
        };
        Ok(rows.into_iter().map(balance).collect())
    }
}

/// A statement that selects from a span of time.
fn of_span<'q, R>(select: &'static str, span: &'q Span) -> QueryAs<'q, Sqlite, R, SqliteArguments>
where
    R: for<'r> FromRow<'r, SqliteRow>,
{
    let query = sqlx::query_as(select).bind(&span.merchant);
    query.bind(span.from.as_millis()).bind(span.to.as_millis())
}
