//! The books as others read them, beside the writers.

use std::collections::{BTreeMap, HashMap};

use backstop_contract::Attributes;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres};

use super::faults::Purpose;
use super::statement::{escaped, unescaped};
use super::{CONNECT_WITHIN, load};
use crate::error::CoreError;
use crate::store::rows::attributes;
use crate::store::{
    AccountKey, Decided, DecisionKey, Loaded, Records, RowKey, Span, StatementReply, Wanted,
    statement,
};

/// Connections that only read.
const READERS_MAX: u32 = 2;
/// What only people ask for.
const SELECT_ATTRIBUTES: &str = "SELECT attributes FROM decisions WHERE merchant = $1 AND id = $2";
/// A statement finds its rows by time, over many pages, and may take as long as a person waits.
const READS_OF_SPANS: [(&str, &str); 7] = [
    ("statement_timeout", "30s"),
    ("plan_cache_mode", "auto"),
    ("enable_seqscan", "on"),
    ("enable_bitmapscan", "on"),
    ("enable_hashjoin", "on"),
    ("enable_mergejoin", "on"),
    ("enable_material", "on"),
];

/// A few connections that only read.
#[derive(Clone, Debug)]
pub struct PostgresRecords {
    pool: PgPool,
    /// A statement reads for long: nobody who wants one record waits behind it.
    statements: PgPool,
}

impl PostgresRecords {
    /// Readers of a database.
    pub(super) fn of(options: &PgConnectOptions) -> Self {
        let pool = |connections_max, options: PgConnectOptions| {
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(CONNECT_WITHIN)
                .connect_lazy_with(options)
        };
        let patient = options.clone().options(READS_OF_SPANS);
        Self { pool: pool(READERS_MAX, options.clone()), statements: pool(1, patient) }
    }
}

impl Records for PostgresRecords {
    /// Loads on a task of its own: whoever waits may walk away, and the statement still ends.
    async fn load(&self, wanted: Wanted) -> Result<Loaded, CoreError> {
        let pool = self.pool.clone();
        let load = async move {
            let mut loaded = Loaded::default();
            let Some(statement) = load::statement(&wanted)? else { return Ok(loaded) };
            let (sql, arguments) = statement.finish();
            let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&pool).await;
            for row in &rows.map_err(|source| Purpose::Load.fault(source))? {
                load::take(row, &mut loaded)?;
            }
            Ok(loaded)
        };
        tokio::spawn(load).await.unwrap_or(Err(CoreError::Failed))
    }

    async fn find_many(
        &self,
        decisions: Vec<DecisionKey>,
    ) -> Result<HashMap<DecisionKey, Decided>, CoreError> {
        Ok(self.load(Wanted { decisions, ..Wanted::default() }).await?.decisions)
    }

    async fn attributes(&self, key: DecisionKey) -> Result<Option<Attributes>, CoreError> {
        let pool = self.pool.clone();
        let find = async move {
            let (merchant, id) = key.words();
            let found: Option<String> = sqlx::query_scalar(SELECT_ATTRIBUTES)
                .bind(escaped(merchant).as_ref())
                .bind(escaped(id).as_ref())
                .fetch_optional(&pool)
                .await
                .map_err(|source| Purpose::Load.fault(source))?;
            found.as_deref().map(attributes).transpose()
        };
        tokio::spawn(find).await.unwrap_or(Err(CoreError::Failed))
    }

    async fn statement(&self, of: Span) -> Result<StatementReply, CoreError> {
        let from = self.statements.clone();
        let read = tokio::spawn(async move { rows_of(&from, &of).await?.parse(&of) });
        read.await.unwrap_or(Err(CoreError::Failed))
    }

    async fn stock(&self, key: RowKey) -> Result<Option<i64>, CoreError> {
        let wanted = Wanted { stock: vec![key.clone()], ..Wanted::default() };
        Ok(self.load(wanted).await?.stock.remove(&key).map(|stock| stock.value))
    }

    async fn balances(&self, key: AccountKey) -> Result<Vec<(String, i64)>, CoreError> {
        let wanted = Wanted { accounts: vec![key.clone()], ..Wanted::default() };
        let balances = self.load(wanted).await?.balances.remove(&key).unwrap_or_default();
        let balances: BTreeMap<_, _> = balances.into_iter().collect();
        Ok(balances.into_iter().map(|(unit, balance)| (unit, balance.value)).collect())
    }
}

async fn rows_of(from: &PgPool, span: &Span) -> Result<statement::Rows, CoreError> {
    let (merchant, rows_max) = (escaped(&span.merchant), span.rows_max());
    let of_span = (merchant.as_ref(), span);
    let totals = select(statement::SELECT_TOTALS, of_span);
    let lines = select(statement::SELECT_LINES, of_span).bind(rows_max);
    let refused = select(statement::SELECT_REFUSED, of_span).bind(rows_max);
    let sequences = sqlx::query_as(statement::SELECT_SEQUENCES).bind(statement::GAPS_MAX);
    let failed = |source| Purpose::Load.fault(source);
    let mut rows = statement::Rows {
        totals: totals.fetch_all(from).await.map_err(failed)?,
        lines: lines.fetch_all(from).await.map_err(failed)?,
        refused: refused.fetch_all(from).await.map_err(failed)?,
        sequences: sequences.fetch_all(from).await.map_err(failed)?,
    };
    for line in &mut rows.lines {
        line.id = unescaped(std::mem::take(&mut line.id));
        line.why = line.why.take().map(unescaped);
    }
    for refused in &mut rows.refused {
        for text in [&mut refused.id, &mut refused.why] {
            *text = unescaped(std::mem::take(text));
        }
    }
    Ok(rows)
}

/// A statement that selects from a span of time.
fn select<'q, R>(
    select: &'static str,
    (merchant, span): (&'q str, &'q Span),
) -> QueryAs<'q, Postgres, R, PgArguments>
where
    R: for<'r> FromRow<'r, PgRow>,
{
    let query = sqlx::query_as(select).bind(merchant);
    query.bind(span.from.as_millis()).bind(span.to.as_millis())
}
