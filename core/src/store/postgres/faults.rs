//! What an error of PostgreSQL means for the set of requests that met it: one table, by SQLSTATE.

use std::io;

use sqlx::migrate::MigrateError;

use crate::error::CoreError;

/// Raised by a commit that found something changed; see [`super::commit`]. No statement of ours divides
/// anywhere else.
const DIVISION_BY_ZERO: &str = "22012";

/// The server was stopped, or told to end this connection.
const CLOSED: [&str; 3] = ["57P01", "57P02", "57P05"];
/// What is made is there already, or is just being made.
const RACES: [&str; 6] = ["23505", "42P07", "42701", "42710", "40", "XX000"];

const LOCK_TIMEOUT: &str = "55P03";

/// What becomes of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Somebody else was first. Nothing was written; the set begins again from what is there now.
    Conflict,
    /// One request of the set is refused; others may pass.
    Request,
    /// One request of the set waits for a row that somebody holds; others may pass.
    Held,
    /// No request would pass, or nobody knows what happened.
    Database,
}

/// By the first characters of the SQLSTATE; the first line that fits.
const FAULTS: [(&str, Fault); 9] = [
    (DIVISION_BY_ZERO, Fault::Conflict),
    ("23505", Fault::Conflict),  // the decision was made by somebody else
    ("40", Fault::Conflict),     // serialization failure, deadlock: rolled back as a whole
    ("22", Fault::Request),      // a value that its type cannot hold
    ("23", Fault::Request),      // a constraint
    ("54", Fault::Request),      // longer than an index or a row can hold
    (LOCK_TIMEOUT, Fault::Held), // somebody holds a row
    ("21", Fault::Request),      // one row twice in a statement
    ("", Fault::Database),       // shutdown, no space, no such table, read-only, statement_timeout
];

/// What a statement is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It only reads.
    Load,
    /// It writes everything or nothing; where it fails with the connection, nobody knows which.
    Commit,
}

impl Purpose {
    /// The error of core for an error of the statement.
    pub fn fault(self, source: sqlx::Error) -> CoreError {
        match (judge(&source), self) {
            (Fault::Conflict, _) => CoreError::Conflict,
            (Fault::Request, _) => CoreError::Refused(source),
            (Fault::Held, _) => CoreError::Held(source),
            (Fault::Database, Self::Load) => CoreError::Read(source),
            (Fault::Database, Self::Commit) => CoreError::Commit(source),
        }
    }
}

/// Whether the connection can serve on: the server answered in full, and says nothing against itself.
pub fn spares_the_connection(source: &sqlx::Error) -> bool {
    judge(source) != Fault::Database
}

/// Whether somebody held a row for longer than a wait for it may take.
pub fn is_of_a_held_row(source: &sqlx::Error) -> bool {
    let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == LOCK_TIMEOUT)
}

/// The server does not answer.
pub fn silent() -> sqlx::Error {
    sqlx::Error::Io(io::ErrorKind::TimedOut.into())
}

/// Whether the server had closed the connection before it was asked, so that a new one may serve.
pub fn is_of_a_closed_connection(error: &CoreError) -> bool {
    match error {
        CoreError::Read(sqlx::Error::Io(error)) => error.kind() != io::ErrorKind::TimedOut,
        CoreError::Read(sqlx::Error::Database(error)) => {
            error.code().is_some_and(|code| CLOSED.contains(&code.as_ref()))
        }
        _ => false,
    }
}

/// Whether two cores changed the tables at the same time, and this one was second.
pub fn is_of_a_race(error: &MigrateError) -> bool {
    let (MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _)) = error else {
        return false;
    };
    let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| RACES.iter().any(|race| code.starts_with(race)))
}

fn judge(source: &sqlx::Error) -> Fault {
    match source {
        sqlx::Error::Database(error) => error.code().map_or(Fault::Database, |code| of(&code)),
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => {
            Fault::Request
        }
        _ => Fault::Database,
    }
}

fn of(sqlstate: &str) -> Fault {
    let line = FAULTS.iter().find(|(prefix, _)| sqlstate.starts_with(prefix));
    line.map_or(Fault::Database, |(_, fault)| *fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sqlstate_says_whether_to_begin_again_to_blame_a_request_or_to_give_up() {
        for (fault, sqlstates) in [
            (Fault::Conflict, ["22012", "23505", "40001", "40P01"].as_slice()),
            (Fault::Request, &["23514", "22003", "22021", "22P05", "54000", "21000"]),
            (Fault::Held, &["55P03"]),
            (Fault::Database, &["57P01", "57014", "08006", "53100", "53300", "25006", "42P01"]),
            (Fault::Database, &["26000", "0A000", "XX000", "25P03", ""]),
        ] {
            for sqlstate in sqlstates {
                assert_eq!(of(sqlstate), fault, "{sqlstate}");
            }
        }
    }
}
