//! A statement and what is bound to it, written side by side: columns of rows as arrays, so that one
//! prepared statement serves a set of any size.

use std::borrow::Cow;

use sqlx::postgres::{PgArguments, PgHasArrayType};
use sqlx::{Arguments as _, Encode, Postgres, Type};

use crate::error::CoreError;

/// A statement that is being written.
#[derive(Clone, Default)]
pub struct Statement {
    sql: String,
    arguments: PgArguments,
}

impl Statement {
    /// Adds to its text.
    pub fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Adds a column, such as `unnest($3::text[])`. In a select list the columns of one length go
    /// abreast, row by row; in FROM, PostgreSQL would first write each of them down in a table.
    pub fn column<'q, T>(&mut self, of: &str, values: Vec<T>) -> Result<(), CoreError>
    where
        T: PgHasArrayType + 'q,
        Vec<T>: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.sql.push_str("unnest(");
        self.bind(of, values)?;
        self.sql.push(')');
        Ok(())
    }

    /// Adds a value, such as `$3::bigint`.
    pub fn bind<'q, T>(&mut self, of: &str, value: T) -> Result<(), CoreError>
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        self.arguments
            .add(value)
            .map_err(|error| CoreError::Refused(sqlx::Error::Encode(error)))?;
        self.sql.push('$');
        self.sql.push_str(&self.arguments.len().to_string());
        self.sql.push_str("::");
        self.sql.push_str(of);
        Ok(())
    }

    /// What is to be run.
    pub fn finish(self) -> (String, PgArguments) {
        (self.sql, self.arguments)
    }
}

/// Stands before a character that PostgreSQL's text cannot hold, or that is this one.
const ESCAPE: char = '\u{1}';

/// A text that may hold any character, as one without NUL, which PostgreSQL refuses. Two texts that
/// differ stay different.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', ESCAPE]) {
        Cow::Owned(text.replace(ESCAPE, "\u{1}1").replace('\0', "\u{1}0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text that was [`escaped`].
pub fn unescaped(text: String) -> String {
    if text.contains(ESCAPE) {
        text.replace("\u{1}0", "\0").replace("\u{1}1", "\u{1}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_kept_and_texts_that_differ_stay_different() {
        let texts = ["", "a", "a\0", "\0", "\u{1}", "\u{1}0", "\u{1}1", "\u{1}\u{1}0\0", "ä\0ß"];
        for text in texts {
            assert!(!escaped(text).contains('\0'));
            assert_eq!(unescaped(escaped(text).into_owned()), text);
        }
        let different: std::collections::HashSet<_> = texts.into_iter().map(escaped).collect();
        assert_eq!(different.len(), texts.len());
    }
}
