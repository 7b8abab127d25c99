//! What a rule may not do, and where it did it.

use std::fmt;
use std::time::Duration;

use crate::sandbox::PRELUDE;

/// What a breach tells of the rule's own message, at most.
const MESSAGE_BYTES_MAX: usize = 256;

/// A file and, where Luau gives one, a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Such as `policies/payment.lua`.
    pub file: String,
    /// From 1.
    pub line: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// Why a rule's own answer was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// It ran longer than it may.
    #[error("{place}: still running after {time_max:?}")]
    OutOfTime {
        /// Where it was then.
        place: Place,
        /// How long it had.
        time_max: Duration,
    },
    /// It asked for more memory than it may.
    #[error("{place}: needs more than {bytes_max} bytes of memory")]
    OutOfMemory {
        /// The file.
        place: Place,
        /// How much it had.
        bytes_max: usize,
    },
    /// It raised an error.
    #[error("{place}: {message}")]
    Raised {
        /// Where.
        place: Place,
        /// In Luau's words, or the rule's.
        message: String,
    },
    /// It returned something that is not an answer.
    #[error("{place}: {message}")]
    Nonsense {
        /// The file.
        place: Place,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// No file decides for this policy.
    #[error("there is no policy {policy:?}")]
    NoPolicy {
        /// The name that was asked for.
        policy: String,
    },
    /// The sandbox itself failed. A bug here, not in the rule.
    #[error("{place}: the sandbox failed: {message}")]
    Sandbox {
        /// The file that ran.
        place: Place,
        /// What went wrong.
        message: String,
    },
}

impl Breach {
    /// One word for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::OutOfTime { .. } => "time",
            Self::OutOfMemory { .. } => "memory",
            Self::Raised { .. } => "raised",
            Self::Nonsense { .. } => "nonsense",
            Self::NoPolicy { .. } => "no_policy",
            Self::Sandbox { .. } => "sandbox",
        }
    }

    /// Whether the virtual machine it happened on may serve again.
    pub(crate) const fn spares_the_machine(&self) -> bool {
        matches!(self, Self::Raised { .. } | Self::Nonsense { .. } | Self::NoPolicy { .. })
    }

    /// What an error of Lua means. Time is not seen here: the stopwatch knows it better.
    pub(crate) fn from_lua(error: &mlua::Error, file: &str, bytes_max: usize) -> Self {
        let (text, stack) = words_of(error);
        let message = text.lines().next().unwrap_or_default();
        let (line, message) = match at_line(message, file) {
            Some((line, rest)) => (Some(line), rest.trim_start_matches([':', ' '])),
            None => (at_line(stack, file).map(|(line, _)| line), message),
        };
        // Where in our own prelude it was raised helps no author.
        let message = at_line(message, PRELUDE)
            .map_or(message, |(_, rest)| rest.trim_start_matches([':', ' ']));
        let place = Place { file: file.to_owned(), line };
        if matches!(error, mlua::Error::MemoryError(_)) || message == "not enough memory" {
            return Self::OutOfMemory { place, bytes_max };
        }
        Self::Raised { place, message: shortened(message).to_owned() }
    }
}

/// The message of an error and the text that may hold its call stack.
fn words_of(error: &mlua::Error) -> (String, &str) {
    match error {
        mlua::Error::SyntaxError { message, .. }
        | mlua::Error::RuntimeError(message)
        | mlua::Error::MemoryError(message) => (message.clone(), message),
        mlua::Error::CallbackError { traceback, cause } => (words_of(cause).0, traceback),
        mlua::Error::BadArgument { cause, .. } => words_of(cause),
        unusual => (unusual.to_string(), ""),
    }
}

/// The first `file:line` in a text, and what follows it.
fn at_line<'a>(text: &'a str, file: &str) -> Option<(u32, &'a str)> {
    let (_, after) = text.split_once(file)?;
    let after = after.strip_prefix(':')?;
    let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
    let (line, rest) = after.split_at_checked(digits)?;
    Some((line.parse().ok()?, rest))
}

fn shortened(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MESSAGE_BYTES_MAX)).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(error: &mlua::Error) -> String {
        Breach::from_lua(error, "policies/a.lua", 9).to_string()
    }

    #[test]
    fn the_place_is_found_in_the_message_or_else_in_the_stack() {
        let runtime = |text: &str| mlua::Error::RuntimeError(text.to_owned());
        let thrown = mlua::Error::CallbackError {
            traceback: "[C] in count\npolicies/a.lua:31 function decide".into(),
            cause: std::sync::Arc::new(runtime("no window")),
        };
        for (error, expected) in [
            (runtime("policies/a.lua:7: boom\nstack"), "policies/a.lua:7: boom"),
            (runtime("boom\nstack\npolicies/a.lua:9 in f"), "policies/a.lua:9: boom"),
            (runtime("boom"), "policies/a.lua: boom"),
            (runtime("backstop:7: boom\npolicies/a.lua:3"), "policies/a.lua:3: boom"),
            (runtime("policies/a.lua:x: boom"), "policies/a.lua: policies/a.lua:x: boom"),
            (thrown, "policies/a.lua:31: no window"),
            (
                mlua::Error::MemoryError("not enough memory".into()),
                "policies/a.lua: needs more than 9 bytes of memory",
            ),
        ] {
            assert_eq!(read(&error), expected);
        }
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let long = mlua::Error::RuntimeError("é".repeat(1000));
        assert_eq!(read(&long).len(), "policies/a.lua: ".len() + MESSAGE_BYTES_MAX);
    }
}
