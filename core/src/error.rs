//! What can go wrong in core, an operation each.

use std::io;
use std::path::PathBuf;

use backstop_engine::DecodeError;

/// Why core could not start, or could not serve one request.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] backstop_settings::SettingsError),
    /// The database is named in a way that this release does not read.
    #[error(
        "a database of kind {0:?} cannot be used: it must be sqlite:FILE or postgres://USER@HOST/NAME"
    )]
    DatabaseName(String),
    /// The rules cannot be used, and there is no earlier copy of them.
    #[error(transparent)]
    Rules(#[from] backstop_lua::BundleError),
    /// A metric could not be made.
    #[error(transparent)]
    Metrics(#[from] backstop_process::metrics::MetricsError),
    /// The socket could not be made.
    #[error("{}: no socket could be made here: {source}", path.display())]
    Bind {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The runtime could not be started.
    #[error("the runtime could not be started: {0}")]
    Thread(#[source] io::Error),

    /// The database could not be opened.
    #[error("{database}: the database cannot be opened: {source}")]
    Open {
        /// Which one.
        database: String,
        /// Why.
        source: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("{database}: the tables cannot be brought up to date: {source}")]
    Migrate {
        /// Which one.
        database: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// A transaction could not be begun.
    #[error("no transaction could be begun: {0}")]
    Begin(#[source] sqlx::Error),
    /// Rows could not be read.
    #[error("rows could not be read: {0}")]
    Read(#[source] sqlx::Error),
    /// Rows could not be written.
    #[error("rows could not be written: {0}")]
    Write(#[source] sqlx::Error),
    /// The commit failed, or its outcome is unknown.
    #[error("the transaction was not seen to commit: {0}")]
    Commit(#[source] sqlx::Error),
    /// The database refused one of the requests; others may pass.
    #[error("the database refused: {0}")]
    Refused(#[source] sqlx::Error),
    /// Somebody holds a row that one of the requests wants; others may pass.
    #[error("somebody holds a row: {0}")]
    Held(#[source] sqlx::Error),
    /// Somebody else changed a row since it was loaded, or goes on holding it. Nothing was written, and another try may fare better.
    #[error("somebody else changes the same rows")]
    Conflict,
    /// A row of history cannot be read. It is left as it is: a newer release may have written it.
    #[error("a row of history cannot be read: {0}")]
    History(#[source] DecodeError),
    /// A stored decision cannot be read. It is left as it is: a newer release may have written it.
    #[error("a stored decision has an unreadable {0}")]
    Decision(&'static str),
    /// The request holds a number that no column can.
    #[error("the request holds a number beyond 2^63 - 1")]
    Number,

    /// Less time was left than a decision takes. Nothing was written.
    #[error("too little time was left to begin")]
    TooLate,
    /// As many requests wait as may. Nothing was written.
    #[error("the queue is full")]
    QueueFull,
    /// The database is out of reach; what it did with this request is for a retry to find out.
    #[error("the database is out of reach")]
    Unusable,
    /// This request failed, others need not.
    #[error("the request could not be decided")]
    Failed,
}

impl CoreError {
    /// Whether core could not start because of its database, rather than of its configuration.
    pub const fn is_of_the_database(&self) -> bool {
        matches!(self, Self::Open { .. } | Self::Migrate { .. })
    }

    /// Whether the database itself is at fault, so that another request would fare no better.
    pub(crate) fn is_unusable(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Migrate { .. } | Self::Begin(_) | Self::Commit(_) => true,
            Self::Read(source) | Self::Write(source) => !refuses_the_data(source),
            _ => false,
        }
    }
}

/// Whether the database refused what it was given, and not to work at all.
fn refuses_the_data(source: &sqlx::Error) -> bool {
    match source {
        sqlx::Error::Database(database) => database.kind() != sqlx::error::ErrorKind::Other,
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
        _ => false,
    }
}
