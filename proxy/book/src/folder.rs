//! The book's folder: real files, and what is done to them. The only place that touches the disk.
//!
//! | file | what |
//! |---|---|
//! | `00000001.book` … | the segments |
//! | `00000001.corrupt` | a segment as it was found damaged; what was readable in it is in the `.book` beside it |
//! | `node` | the name of this node, for life |
//! | `lock` | held by the process that has the book open |

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use uuid::Uuid;

use crate::error::BookError;
use crate::place::Position;
use crate::scribe::{Action, Done};

mod reopening;

/// The folder and its open files.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    files: RwLock<HashMap<u32, Arc<File>>>,
    /// Held until it is given up, or the folder dropped; `None` on a disk that takes no new file.
    lock: Option<File>,
}

impl Folder {
    /// Opens the folder for this process alone.
    pub(crate) fn open(path: &Path) -> Result<Self, BookError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        if let Err(source) = made.and_then(|()| fs::read_dir(path).map(drop)) {
            return Err(BookError::Folder { path: path.to_owned(), source });
        }
        let lock = lock(&path.join("lock"))?;
        Ok(Self { path: path.to_owned(), files: RwLock::default(), lock })
    }

    /// Lets another process have it. Nothing may be written from here any more.
    pub(crate) fn give_up(&self) {
        if let Some(Err(error)) = self.lock.as_ref().map(File::unlock) {
            tracing::error!(%error, path = %self.path.display(), "the book stays locked");
        }
    }

    /// The name of this node: the one in the folder, or a new one. On a disk that can not keep it, each
    /// start has a name of its own, which is as safe: names are never shared.
    pub(crate) fn node(&self) -> Uuid {
        let path = self.path.join("node");
        if let Some(node) = fs::read_to_string(&path).ok().and_then(|it| it.trim().parse().ok()) {
            return node;
        }
        let node = Uuid::now_v7();
        let written = new_file(&path, true).and_then(|mut file| {
            file.write_all(format!("{node}\n").as_bytes())?;
            file.sync_all()?;
            self.sync()
        });
        if let Err(error) = written {
            tracing::error!(%error, path = %path.display(), "the name of this node can not be kept");
        }
        node
    }

    /// Does what is to be done, and says how it went.
    pub(crate) fn perform(&self, action: Action) -> Done {
        match action {
            Action::Write { segment, offset, bytes } => {
                Done::Wrote(self.write(segment, offset, &bytes))
            }
            Action::Sync { segment } => {
                Done::Synced(segment, self.file(segment).and_then(|it| it.sync_data()))
            }
            Action::Create { segment, bytes, head } => {
                Done::Created(segment, self.create(segment, bytes, &head))
            }
            Action::Delete { segment } => {
                self.delete(segment);
                Done::Deleted(segment)
            }
            Action::Read { positions } => {
                Done::Read(positions.into_iter().map(|it| self.read(it).ok()).collect())
            }
        }
    }

    /// The bytes at a position, whatever they are.
    pub(crate) fn read(&self, position: Position) -> io::Result<Bytes> {
        let mut bytes = vec![0; position.length as usize];
        self.file(position.segment)?.read_exact_at(&mut bytes, u64::from(position.offset))?;
        Ok(bytes.into())
    }

    fn write(&self, segment: u32, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file(segment)?.write_all_at(bytes, offset)?;
        // The bytes are the system's now, and nobody was told yet.
        fail::fail_point!("book.after_append", |_| std::process::abort());
        Ok(())
    }

    fn create(&self, segment: u32, bytes: u64, head: &[u8]) -> io::Result<()> {
        let path = self.segment(segment);
        let begun = new_file(&path, true).and_then(|file| {
            preallocate(&file, bytes)?;
            file.write_all_at(head, 0)?;
            file.sync_all()?;
            self.sync()?;
            Ok(file)
        });
        match begun {
            Ok(file) => {
                self.keep(segment, file);
                Ok(())
            }
            Err(error) => {
                // What is left of it is empty, and would be removed at the next start.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn delete(&self, segment: u32) {
        let path = self.segment(segment);
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&segment);
        if let Err(error) = fs::remove_file(&path) {
            tracing::warn!(%error, path = %path.display(), "a file that is not needed stays");
        }
    }

    fn file(&self, segment: u32) -> io::Result<Arc<File>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&segment).cloned().ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn keep(&self, segment: u32, file: File) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(segment, Arc::new(file));
    }

    fn segment(&self, segment: u32) -> PathBuf {
        self.path.join(format!("{segment:08}.book"))
    }

    /// A file that was made, renamed or removed is so for good.
    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

fn new_file(path: &Path, is_new: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).create_new(is_new).truncate(false);
    options.mode(0o600).open(path)
}

/// Room on the disk, so that an append finds it. File systems without the call get a hole instead.
fn preallocate(file: &File, bytes: u64) -> io::Result<()> {
    let length = i64::try_from(bytes).map_err(io::Error::other)?;
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => file.set_len(bytes),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(()),
    }
}

fn lock(path: &Path) -> Result<Option<File>, BookError> {
    let file = match new_file(path, false).or_else(|_| File::open(path)) {
        Ok(file) => file,
        Err(error) => {
            tracing::error!(%error, path = %path.display(), "the book goes on without a lock");
            return Ok(None);
        }
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Err(BookError::Locked { path: path.to_owned() }),
        Err(fs::TryLockError::Error(error)) => {
            tracing::error!(%error, path = %path.display(), "the book goes on without a lock");
            Ok(None)
        }
    }
}
