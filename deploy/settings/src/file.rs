//! Replacing a file so that a reader, or a crash, sees the old or the new one, never a part.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Replaces `file` by `bytes`, readable as `mode` says, and durable when this returns.
pub fn write_atomically(file: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let fresh = beside(file, "new");
    // What a crash left of an earlier attempt may have another mode.
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut open = OpenOptions::new().write(true).create_new(true).mode(mode).open(&fresh)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    fs::rename(&fresh, file)?;
    // The rename is durable only once its directory is.
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// Waits for the one lock on edits of `file`, and holds it until dropped.
pub fn lock(file: &Path) -> io::Result<File> {
    let path = beside(file, "lock");
    let lock =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    lock.lock()?;
    Ok(lock)
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(".");
    path.push(suffix);
    PathBuf::from(path)
}
