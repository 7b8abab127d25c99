//! Why a book could not be opened. Everything later is answered, not failed: see [`crate::Health`].

use std::io;
use std::path::PathBuf;

/// A book that could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The folder is there and can not be read, or can not be made.
    #[error("cannot open the book's folder {path}", path = path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has the book open.
    #[error("another process has the book {path} open; stop it first", path = path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// A file of the book can not be read at all.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A newer release wrote this file. Reading on would misread what clients were told.
    #[error("{path} is of version {version}, and this release reads up to {max}; run the newer release", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u8,
        /// The newest version that this release reads.
        max: u8,
    },
    /// A thread of the book could not be started.
    #[error("cannot start a thread of the book")]
    Thread(#[source] io::Error),
}
