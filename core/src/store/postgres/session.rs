//! One connection to the database, opened again after it failed.
//!
//! The connection is here only while nothing is under way on it. Whoever runs a statement takes it out and puts it back
//! once the server has answered in full; a statement that is given up or fails takes its connection along.
//! So none is ever reused in an unknown state.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Executor as _};
use tokio::time::{Instant, timeout};

use super::faults::{self, Purpose};
use super::statement::Statement;
use super::{Database, load};
use crate::error::CoreError;
use crate::store::{Loaded, Wanted};

/// What the way to the server and back may take beyond the server's own limits. After them, it is gone.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// After a wait for a row that was in vain, waits are this much shorter, for so long.
pub(super) const IMPATIENCE: u32 = 10;
const IMPATIENT_FOR: Duration = Duration::from_secs(1);

/// A connection, or the way to one.
pub struct Session {
    database: Database,
    pub(super) connection: Option<Connection>,
    /// Until then somebody is taken to hold a row for long.
    impatient_until: Option<Instant>,
}

/// A connection on which nothing is under way.
pub(super) struct Connection {
    pub(super) inner: PgConnection,
    /// The longest wait for a row, as the server knows it.
    pub(super) lock: Duration,
}

impl Session {
    /// A connection that is opened once it is needed.
    pub const fn with(database: Database) -> Self {
        Self { database, connection: None, impatient_until: None }
    }

    /// Another one to the same database.
    pub fn another(&self) -> Self {
        Self::with(self.database.clone())
    }

    /// Where it leads to.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// Opens it now.
    pub async fn open(&mut self) -> Result<(), CoreError> {
        self.connection = Some(self.connect().await?);
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, CoreError> {
        let inner = self.database.connect().await?;
        Ok(Connection { inner, lock: self.database.limits.lock })
    }

    /// Those of the rows that exist.
    pub async fn load(&mut self, wanted: &Wanted) -> Result<Loaded, CoreError> {
        let mut loaded = Loaded::default();
        let Some(statement) = load::statement(wanted)? else { return Ok(loaded) };
        let rows = match self.run(Purpose::Load, statement.clone()).await {
            // The server was restarted since the connection was last used. Reading twice is no harm.
            Err(error) if faults::is_of_a_closed_connection(&error) => {
                self.run(Purpose::Load, statement).await?
            }
            ended => ended?,
        };
        for row in &rows {
            load::take(row, &mut loaded)?;
        }
        Ok(loaded)
    }

    /// Runs a statement to its end, or loses the connection.
    pub async fn run(
        &mut self,
        purpose: Purpose,
        statement: Statement,
    ) -> Result<Vec<PgRow>, CoreError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let lock = self.lock_limit();
        let give_up = self.database.limits.statement + ROUND_TRIP_MAX;
        let ended = timeout(give_up, connection.run(statement, lock)).await;
        let ended = ended.unwrap_or_else(|_elapsed| Err(faults::silent()));
        if ended.as_ref().is_err_and(faults::is_of_a_held_row) {
            self.impatient_until = Some(Instant::now() + IMPATIENT_FOR);
        }
        if ended.as_ref().map_or_else(faults::spares_the_connection, |_| true) {
            self.connection = Some(connection);
        }
        ended.map_err(|source| purpose.fault(source))
    }

    /// A set that wants a row which somebody holds is halved until its request is alone: seven waits
    /// for a set of 64. Only the first is a long one, or all others would be late with it.
    fn lock_limit(&self) -> Duration {
        let usual = self.database.limits.lock;
        let is_impatient = self.impatient_until.is_some_and(|until| Instant::now() < until);
        if is_impatient { usual / IMPATIENCE } else { usual }
    }
}

impl Connection {
    async fn run(
        &mut self,
        statement: Statement,
        lock: Duration,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        if self.lock != lock {
            let set = format!("SET lock_timeout = {}", lock.as_millis());
            self.inner.execute(AssertSqlSafe(set)).await?;
            self.lock = lock;
        }
        let (sql, arguments) = statement.finish();
        sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut self.inner).await
    }
}
