//! What ends a replay early. A request that goes unanswered does not: it is counted.

use std::path::PathBuf;

use crate::client::ClientError;

/// Why a file could not be replayed, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The file could not be opened or read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The file is not what can be replayed.
    #[error("{}: line {line}: {wrong}; {right}", .path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Counted from 1, the header included.
        line: u64,
        /// What is wrong there.
        wrong: String,
        /// What would be right.
        right: String,
    },
    /// Labels were asked for, and the file has none.
    #[error("{} has no column is_fraud; leave out --labels-after", .0.display())]
    NoLabels(PathBuf),
    /// More labels or cancellations wait for their time than are kept.
    #[error(
        "over {0} labels or cancellations wait for their time; give a shorter --labels-after, label \
         only frauds, or end earlier by --until"
    )]
    Waiting(usize),
    /// No way to the edge.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The file of answers could not be written.
    #[error("cannot write the answers to {}: {source}", .path.display())]
    Answers {
        /// The file.
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// The machine gave no thread, or one of the replay's own tasks broke.
    #[error("cannot go on: {0}")]
    Run(#[source] std::io::Error),
}
