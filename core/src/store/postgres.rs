//! The books in a PostgreSQL database, which any number of cores share.
//!
//! No core ever has a transaction open. A set loads in one statement and commits in one, and each is a
//! transaction by itself: a core that dies, freezes or is cut off leaves neither a lock nor half of
//! anything. What somebody else changed in between is told by versions ([`commit`]).
//!
//! A writer has two connections ([`session`]): where the set after this one is complete already, its rows are
//! read while this one commits ([`ahead`]).

mod ahead;
mod commit;
mod faults;
mod ids;
mod load;
mod records;
mod session;
mod statement;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use tokio::time::{sleep, timeout};

use self::ahead::{Ahead, Keys};
use self::faults::Purpose;
use self::ids::Ids;
use self::session::Session;
use crate::decide::decision_key;
use crate::error::CoreError;
use crate::store::{Changes, Fence, Loaded, Store, Unit, Wanted};

pub use self::records::PostgresRecords;

/// A set has eleven kinds of changes and five of rows to load, in few combinations.
const STATEMENTS_KEPT_MAX: usize = 256;
/// How long a connection may take to open.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long a core waits for another one that is changing the tables.
const MIGRATE_WITHIN: Duration = Duration::from_secs(30);
const MIGRATE_TRIES_MAX: u32 = 50;
const MIGRATE_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a statement may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// Of the whole statement, at the server.
    pub statement: Duration,
    /// Of the longest wait for one row, at the server.
    pub lock: Duration,
}

/// What one writer works with.
pub struct PostgresStore {
    session: Session,
    ahead: Ahead,
    ids: Ids,
}

/// A database and how to get there.
#[derive(Clone)]
struct Database {
    options: PgConnectOptions,
    /// As an operator knows it, without user and password.
    name: String,
    limits: TimeLimits,
}

impl PostgresStore {
    /// Opens the database at `url` and brings its tables up to date.
    pub async fn open(url: &str, limits: TimeLimits) -> Result<Self, CoreError> {
        let database = Database::parse(url, limits)?;
        database.migrate().await?;
        let mut session = Session::with(database);
        session.open().await?;
        Ok(Self::over(session))
    }

    fn over(session: Session) -> Self {
        let ahead = Ahead::over(session.another());
        Self { session, ahead, ids: Ids::default() }
    }

    /// The database as an operator knows it, without user and password.
    pub fn name(&self) -> &str {
        &self.session.database().name
    }

    /// A store for another writer of the same database.
    #[must_use]
    pub fn another(&self) -> Self {
        Self::over(self.session.another())
    }

    /// Readers of the same database.
    pub fn records(&self) -> PostgresRecords {
        PostgresRecords::of(&self.session.database().options)
    }

    fn learn(&mut self, changes: &Changes<'_>) {
        for (question, _) in &changes.decided {
            self.ids.learn(&decision_key(question));
        }
    }
}

impl Database {
    fn parse(url: &str, limits: TimeLimits) -> Result<Self, CoreError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|_unreadable| CoreError::DatabaseName("postgres".to_owned()))?;
        let place = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        let name = format!("postgres://{place}/{database}");
        let options = options
            .application_name("backstop-core")
            .statement_cache_capacity(STATEMENTS_KEPT_MAX)
            .options(session(limits));
        Ok(Self { options, name, limits })
    }

    async fn connect(&self) -> Result<PgConnection, CoreError> {
        connect(&self.options).await.map_err(|source| self.open_failed(source))
    }

    /// Several cores start at once, of several releases. A migration is a transaction, so that one of
    /// them makes it; the others fail where they meet it, begin again and find it made.
    async fn migrate(&self) -> Result<(), CoreError> {
        let patience = format!("{}s", MIGRATE_WITHIN.as_secs());
        let patient = [("statement_timeout", &patience), ("lock_timeout", &patience)];
        let options = self.options.clone().options(patient);
        let mut migrations = sqlx::migrate!("./migrations-postgres");
        // The other stack may be newer, and its migrations have run.
        migrations.set_ignore_missing(true).set_locking(false);
        for tries in 1.. {
            let connection = connect(&options).await;
            let mut connection = connection.map_err(|source| self.open_failed(source))?;
            match migrations.run_direct(None, &mut connection, false).await {
                Ok(()) => break,
                Err(source) if tries < MIGRATE_TRIES_MAX && faults::is_of_a_race(&source) => {
                    sleep(MIGRATE_AGAIN_AFTER).await;
                }
                Err(source) => {
                    return Err(CoreError::Migrate { database: self.name.clone(), source });
                }
            }
        }
        Ok(())
    }

    fn open_failed(&self, source: sqlx::Error) -> CoreError {
        CoreError::Open { database: self.name.clone(), source }
    }
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let connection = PgConnection::connect_with(options);
    timeout(CONNECT_WITHIN, connection).await.unwrap_or_else(|_| Err(faults::silent()))
}

/// What holds for a connection from its first moment, whatever the server's own defaults are.
fn session(limits: TimeLimits) -> [(&'static str, String); 14] {
    let millis = |time: Duration| format!("{}ms", time.as_millis());
    [
        ("statement_timeout", millis(limits.statement)),
        ("lock_timeout", millis(limits.lock)),
        // Nothing here opens a transaction; should anything ever, a frozen core must not hold its locks.
        ("idle_in_transaction_session_timeout", "1s".to_owned()),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("client_min_messages", "warning".to_owned()),
        // Every statement finds its rows by their keys, in the order it was given them. A plan for few
        // rows, made while tables were small, would read all of them for ever after.
        ("plan_cache_mode", "force_generic_plan".to_owned()),
        ("enable_seqscan", "off".to_owned()),
        ("enable_bitmapscan", "off".to_owned()),
        ("enable_hashjoin", "off".to_owned()),
        ("enable_mergejoin", "off".to_owned()),
        ("enable_memoize", "off".to_owned()),
        ("enable_material", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

impl Store for PostgresStore {
    type Unit<'a> = PostgresUnit<'a>;

    const READS_AHEAD: bool = true;

    async fn begin(&mut self) -> Result<PostgresUnit<'_>, CoreError> {
        Ok(PostgresUnit { store: self })
    }

    fn forget(&mut self) {
        *self = Self { ids: std::mem::take(&mut self.ids), ..self.another() };
    }

    fn skip(&mut self) {
        self.ahead.skip();
    }
}

/// Nothing at the server; two statements here.
pub struct PostgresUnit<'a> {
    store: &'a mut PostgresStore,
}

impl Unit for PostgresUnit<'_> {
    async fn load(&mut self, mut wanted: Wanted) -> Result<Loaded, CoreError> {
        let PostgresStore { session, ahead, ids } = &mut *self.store;
        let ready = ahead.take(&mut wanted).await;
        let mut loaded = session.load(&ids.narrow(wanted)).await?;
        loaded.extend(ready);
        for key in loaded.decisions.keys() {
            ids.learn(key);
        }
        Ok(loaded)
    }

    async fn read_ahead(&mut self, mut wanted: Wanted) {
        let PostgresStore { ahead, ids, .. } = &mut *self.store;
        // What these lead to is read after them, and must not be later than they are.
        wanted.decisions.clear();
        ahead.begin(Keys::of(&wanted), ids.narrow(wanted)).await;
    }

    async fn commit(self, changes: &Changes<'_>, is_in_time: &Fence<'_>) -> Result<(), CoreError> {
        let Some(statement) = commit::statement(changes)? else { return Ok(()) };
        if !is_in_time() {
            return Err(CoreError::TooLate);
        }
        let store = self.store;
        // However it ends: what is being read may have been before it, or after.
        store.ahead.outdate(changes);
        let ended = store.session.run(Purpose::Commit, statement).await.map(drop);
        match &ended {
            Ok(()) => store.learn(changes),
            Err(_) => store.ids.doubt(),
        }
        ended
    }
}

#[cfg(test)]
mod tests;
