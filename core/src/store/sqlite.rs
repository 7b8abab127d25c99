//! The books in one SQLite file: the embedded default.
//!
//! Write-ahead log, `synchronous=FULL`: what was committed survives a power cut. Both stacks may have
//! the file open; they take turns writing.

mod records;
mod rows;

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection as _, FromRow, QueryBuilder, Sqlite};
use tokio::time::{Instant, sleep};

use self::rows::{ArrivedRow, BalanceRow, HistoryRow, StockRow};
use crate::error::CoreError;
use crate::store::rows::{ArrivalsRow, DecisionRow, DiscrepancyRow, NewRow, RestatedRow};
use crate::store::{AccountKey, Changes, DecisionKey, Fence, Loaded, RowKey, Store, Unit, Wanted};

pub use self::records::SqliteRecords;

/// The rows that one statement carries. A statement of each size is prepared once and kept.
const STATEMENT_ROWS_MAX: usize = 64;
/// Sixteen kinds of statements in every size.
const STATEMENTS_KEPT_MAX: usize = 16 * STATEMENT_ROWS_MAX;
/// Connections that only read.
const READERS_MAX: u32 = 2;
/// Between two tries to open a file that is locked for a moment.
const OPEN_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The one connection that writes, opened again after it failed.
pub struct SqliteStore {
    options: SqliteConnectOptions,
    file: PathBuf,
    busy_timeout: Duration,
    connection: Option<SqliteConnection>,
}

impl SqliteStore {
    /// Opens `file`, making it where there is none, and brings its tables up to date.
    pub async fn open(file: &Path, busy_timeout: Duration) -> Result<Self, CoreError> {
        create_for_this_user(file);
        let options = options(file, busy_timeout)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full);
        let connection = None;
        let mut store = Self { options, file: file.to_owned(), busy_timeout, connection };
        let mut connection = store.connect().await?;
        migrate(&mut connection, file).await?;
        store.connection = Some(connection);
        Ok(store)
    }

    /// Readers of the same file, which do not wait for the writer.
    pub fn records(&self) -> SqliteRecords {
        let options = options(&self.file, self.busy_timeout).read_only(true);
        let pool = |connections_max| {
            SqlitePoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(self.busy_timeout)
                .connect_lazy_with(options.clone())
        };
        // A statement reads for long: nobody who wants one record waits behind it.
        SqliteRecords { pool: pool(READERS_MAX), statements: pool(1) }
    }

    /// Turning on the write-ahead log needs the file alone, and SQLite does not wait for that.
    async fn connect(&self) -> Result<SqliteConnection, CoreError> {
        let give_up = Instant::now() + self.busy_timeout;
        loop {
            match SqliteConnection::connect_with(&self.options).await {
                Ok(connection) => return Ok(connection),
                Err(error) if is_busy(&error) && Instant::now() < give_up => {
                    sleep(OPEN_AGAIN_AFTER).await;
                }
                Err(source) => return Err(open_failed(&self.file, source)),
            }
        }
    }
}

/// The books are nobody else's to read, and SQLite gives its other files the mode of this one. What
/// keeps the file from being made, opening it will say better.
fn create_for_this_user(file: &Path) {
    let _opening_says_why = OpenOptions::new().append(true).create(true).mode(0o600).open(file);
}

/// The busy timeout is set before anything else is asked of a connection.
fn options(file: &Path, busy_timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .busy_timeout(busy_timeout)
        .foreign_keys(true)
        .statement_cache_capacity(STATEMENTS_KEPT_MAX)
}

/// Both stacks start at once on a new file: the migrations run under the write lock, so that the
/// second finds them done.
async fn migrate(connection: &mut SqliteConnection, file: &Path) -> Result<(), CoreError> {
    let open = |source| open_failed(file, source);
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(open)?;
    let database = file.display().to_string();
    let mut migrations = sqlx::migrate!("./migrations");
    // The other stack may be newer, and its migrations have run.
    migrations.set_ignore_missing(true);
    migrations
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(|source| CoreError::Migrate { database, source })?;
    transaction.commit().await.map_err(open)
}

fn open_failed(file: &Path, source: sqlx::Error) -> CoreError {
    CoreError::Open { database: file.display().to_string(), source }
}

/// `SQLITE_BUSY` or `SQLITE_LOCKED`, extended or not.
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let code: Option<u32> = code.and_then(|code| code.parse().ok());
    code.is_some_and(|code| matches!(code & 0xff, 5 | 6))
}

impl Store for SqliteStore {
    type Unit<'a> = SqliteUnit<'a>;

    async fn begin(&mut self) -> Result<SqliteUnit<'_>, CoreError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let connection = self.connection.insert(connection);
        let inner = connection.begin_with("BEGIN IMMEDIATE").await.map_err(CoreError::Begin)?;
        Ok(SqliteUnit { inner })
    }

    fn forget(&mut self) {
        self.connection = None;
    }
}

/// A transaction that has the write lock.
pub struct SqliteUnit<'a> {
    inner: sqlx::Transaction<'a, Sqlite>,
}

impl SqliteUnit<'_> {
    /// Writes rows in statements of a bounded size. A row that is left as it was is a conflict.
    async fn write<T>(
        &mut self,
        rows: &[T],
        statement: fn(&[T]) -> QueryBuilder<Sqlite>,
    ) -> Result<(), CoreError> {
        for rows in rows.chunks(STATEMENT_ROWS_MAX) {
            if self.execute(statement(rows)).await? != rows.len() {
                return Err(CoreError::Conflict);
            }
        }
        Ok(())
    }

    /// What advices changed.
    async fn write_settled(&mut self, changes: &Changes<'_>) -> Result<(), CoreError> {
        let restated: Vec<_> = changes.restated.iter().copied().map(RestatedRow::new).collect();
        self.write(&restated, rows::put_restated).await?;
        self.write(&changes.revised, rows::insert_revised).await?;
        let arrivals: Vec<_> = changes.arrivals.iter().copied().map(ArrivalsRow::new).collect();
        self.write(&arrivals, rows::put_arrivals).await?;
        let discrepancies = changes.discrepancies.iter().copied().map(DiscrepancyRow::new);
        let discrepancies = discrepancies.collect::<Result<Vec<_>, _>>()?;
        for rows in discrepancies.chunks(STATEMENT_ROWS_MAX) {
            // One that is on record already is no conflict.
            self.execute(rows::insert_discrepancies(rows)).await?;
        }
        Ok(())
    }

    /// Runs a statement, and says how many rows it wrote.
    async fn execute(&mut self, mut statement: QueryBuilder<Sqlite>) -> Result<usize, CoreError> {
        let done = statement.build().execute(&mut *self.inner).await.map_err(write_failed)?;
        Ok(usize::try_from(done.rows_affected()).unwrap_or(usize::MAX))
    }
}

/// The only rows that are never replaced are decisions: one that is there was made by somebody else.
fn write_failed(source: sqlx::Error) -> CoreError {
    match &source {
        sqlx::Error::Database(error) if error.is_unique_violation() => CoreError::Conflict,
        _ => CoreError::Write(source),
    }
}

impl Unit for SqliteUnit<'_> {
    async fn load(&mut self, wanted: Wanted) -> Result<Loaded, CoreError> {
        load(&mut self.inner, wanted).await
    }

    async fn commit(
        mut self,
        changes: &Changes<'_>,
        is_in_time: &Fence<'_>,
    ) -> Result<(), CoreError> {
        let Changes { decided, marked, history, stock, balances, ledger, .. } = changes;
        let decided = decided.iter().map(|(question, decided)| NewRow::new(question, decided));
        let decided = decided.collect::<Result<Vec<_>, _>>()?;
        self.write(&decided, rows::insert_decisions).await?;
        self.write(history, rows::put_history).await?;
        self.write(stock, rows::put_stock).await?;
        self.write(balances, rows::put_balances).await?;
        self.write(ledger, rows::insert_entries).await?;
        self.write(marked, rows::put_marked).await?;
        self.write_settled(changes).await?;
        if !is_in_time() {
            return Err(CoreError::TooLate);
        }
        self.inner.commit().await.map_err(CoreError::Commit)
    }
}

/// What is wanted and exists.
async fn load(from: &mut SqliteConnection, wanted: Wanted) -> Result<Loaded, CoreError> {
    let Wanted { decisions, history, stock, accounts, arrivals, .. } =
        wanted.with_asked_looked_for();
    let decisions: Vec<DecisionRow> =
        select(from, rows::SELECT_DECISIONS, &decisions, DecisionKey::words).await?;
    let history: Vec<HistoryRow> =
        select(from, rows::SELECT_HISTORY, &history, RowKey::words).await?;
    let stock: Vec<StockRow> = select(from, rows::SELECT_STOCK, &stock, RowKey::words).await?;
    let balances: Vec<BalanceRow> =
        select(from, rows::SELECT_BALANCES, &accounts, AccountKey::words).await?;
    let arrivals: Vec<_> =
        arrivals.iter().map(|of| (of.node.as_str(), of.epoch.cast_signed().to_string())).collect();
    let arrivals: Vec<ArrivedRow> =
        select(from, rows::SELECT_ARRIVALS, &arrivals, |(node, epoch)| (node, epoch.as_str()))
            .await?;
    let mut loaded = Loaded {
        decisions: decisions.into_iter().map(DecisionRow::parse).collect::<Result<_, _>>()?,
        history: history.into_iter().map(HistoryRow::parse).collect::<Result<_, _>>()?,
        stock: stock.into_iter().map(StockRow::parse).collect(),
        balances: HashMap::new(),
        arrivals: arrivals.into_iter().map(ArrivedRow::parse).collect::<Result<_, _>>()?,
    };
    for row in balances {
        let (account, unit, balance) = row.parse();
        loaded.balances.entry(account).or_default().insert(unit, balance);
    }
    Ok(loaded)
}

/// The rows that exist of those that two words each name.
async fn select<K, R>(
    from: &mut SqliteConnection,
    statement: &'static str,
    keys: &[K],
    words: fn(&K) -> (&str, &str),
) -> Result<Vec<R>, CoreError>
where
    R: for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
{
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(STATEMENT_ROWS_MAX) {
        let mut query = wanted(keys.iter().map(words));
        let query = query.push(statement).build_query_as::<R>();
        found.extend(query.fetch_all(&mut *from).await.map_err(CoreError::Read)?);
    }
    Ok(found)
}

/// Rows to look up, as a table for the rest of the statement to join.
fn wanted<'a>(keys: impl Iterator<Item = (&'a str, &'a str)>) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("WITH wanted (merchant, name) AS (");
    query.push_values(keys, |mut row, (merchant, name)| {
        row.push_bind(merchant).push_bind(name);
    });
    query
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;
    use crate::store::settled::{PutDecision, Was};
    use crate::store::tests::decided;

    fn put_again(key: &DecisionKey) -> [String; 2] {
        let decided = decided(&key.id);
        let put = PutDecision { key, decided: &decided, was: Was::default() };
        let rows = [RestatedRow::new(put), RestatedRow::new(put)];
        [rows::put_marked(&[put, put]), rows::put_restated(&rows)]
            .map(|it| it.sql().as_str().to_owned())
    }

    /// `WHERE (merchant, id) IN (VALUES ...)` reads well, and SQLite scans the whole table for it.
    #[tokio::test]
    async fn every_statement_finds_its_rows_by_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("backstop.db");
        let mut store = SqliteStore::open(&file, Duration::from_secs(2)).await.unwrap();
        let select = |rest| {
            let mut query = wanted([("m", "a"), ("m", "b")].into_iter());
            query.push(rest).sql().as_str().to_owned()
        };
        let key = DecisionKey { merchant: "m".to_owned(), id: "a".to_owned() };
        let [mark, restate] = put_again(&key);
        let statements = [
            select(rows::SELECT_DECISIONS),
            select(rows::SELECT_ATTRIBUTES),
            select(rows::SELECT_HISTORY),
            select(rows::SELECT_STOCK),
            select(rows::SELECT_BALANCES),
            select(rows::SELECT_ARRIVALS),
            mark,
            restate,
        ];
        for statement in statements {
            let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let mut unit = store.begin().await.unwrap();
            let plan = sqlx::query(explain).fetch_all(&mut *unit.inner).await.unwrap();
            let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            assert!(steps.iter().any(|step| step.starts_with("SEARCH")), "{statement}: {steps:?}");
            let scans =
                |step: &&String| step.starts_with("SCAN") && !step.contains("CONSTANT ROWS");
            for scan in steps.iter().filter(scans) {
                assert!(["SCAN wanted", "SCAN w"].contains(&scan.as_str()), "{steps:?}");
            }
        }
    }
}
