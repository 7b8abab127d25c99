//! PostgreSQL, as a set of books that can be opened again: a database in a cluster of this binary's own.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Books, Line};
use crate::cluster::Cluster;
use crate::store::postgres::{PostgresRecords, PostgresStore, TimeLimits};

/// Far more than a statement takes here, and little enough to wait for.
pub(crate) const LIMITS: TimeLimits =
    TimeLimits { statement: Duration::from_secs(5), lock: Duration::from_millis(200) };

pub(crate) struct PostgresBooks {
    pub(crate) url: String,
}

impl PostgresBooks {
    /// A connection of somebody else's.
    pub(crate) async fn somebody(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }
}

impl Books for PostgresBooks {
    type Store = PostgresStore;
    type Records = PostgresRecords;

    async fn new() -> Self {
        Self { url: Cluster::shared().database() }
    }

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url, LIMITS).await.unwrap()
    }

    fn records(store: &PostgresStore) -> PostgresRecords {
        store.records()
    }

    async fn ledger(&self) -> Vec<Line> {
        let lines = "SELECT merchant, id, debit, credit, unit, amount, at FROM ledger ORDER BY seq";
        sqlx::query_as(lines).fetch_all(&mut self.somebody().await).await.unwrap()
    }

    async fn outbox(&self) -> Vec<(String, String, String)> {
        let rows = "SELECT merchant, id, kind FROM outbox ORDER BY seq";
        sqlx::query_as(rows).fetch_all(&mut self.somebody().await).await.unwrap()
    }

    async fn rows(&self, table: &str) -> usize {
        let count = AssertSqlSafe(format!("SELECT count(*) FROM {table}"));
        let count = sqlx::query_scalar(count).fetch_one(&mut self.somebody().await).await;
        usize::try_from(count.unwrap_or(-1_i64)).unwrap()
    }
}

super::suite!(crate::store::tests::PostgresBooks);
