//! What can go wrong with an operator's file, said so that the operator can put it right.

use std::io;
use std::path::PathBuf;

/// Why a file of settings or merchants could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file could not be replaced; it is as it was.
    #[error("{}: cannot be written: {source}", file.display())]
    Write {
        /// Which one.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that it may not.
    #[error("{}:{line}: {what}", file.display())]
    Wrong {
        /// Which one.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The edit asks for something that may not be; the file is as it was.
    #[error("{what}")]
    Refused {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// The system gave no random bytes for a key.
    #[error("no key could be made: the system gave no random bytes")]
    Random,
}
