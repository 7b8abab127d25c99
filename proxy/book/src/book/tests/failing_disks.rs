//! The book on disks that are full or take no writes. Such a disk is a small file system of its own, which only root
//! can mount: without the right to, these tests fail and say so, and `BACKSTOP_NO_MOUNTS=1` skips them.

use std::path::{Path, PathBuf};

use backstop_contract::{Outcome, Tier, Verdict};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::support::{recalled, say, settle_next, stand_in, until};
use crate::{Book, Settings};

/// A file system in memory of a few hundred kilobytes, gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where it may not be mounted and the caller's environment says that this is known.
    fn new(kilobytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={kilobytes}k");
        let none: Option<&str> = None;
        let mounted =
            mount(none, folder.path(), Some("tmpfs"), MsFlags::empty(), Some(options.as_str()));
        match mounted {
            Ok(()) => Some(Self(folder)),
            Err(_) if std::env::var_os("BACKSTOP_NO_MOUNTS").is_some() => {
                eprintln!("SKIPPED: BACKSTOP_NO_MOUNTS is set");
                None
            }
            Err(error) => panic!("cannot mount a tmpfs ({error}); BACKSTOP_NO_MOUNTS=1 skips this"),
        }
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("book")
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4_096]).is_ok() {}
    }

    fn set_read_only(&self, is_read_only: bool) {
        let none: Option<&str> = None;
        let only = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        mount(none, self.0.path(), none, MsFlags::MS_REMOUNT | only, none).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Its files may be open still, where a test failed.
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}

fn settings() -> Settings {
    Settings { bytes_max: 1 << 19, segment_bytes: 1 << 16, ..Settings::default() }
}

fn open(folder: &Path) -> Book {
    Book::open(folder, settings()).unwrap().0
}

#[tokio::test]
async fn on_a_full_disk_answers_go_on_undurable_and_are_written_once_there_is_room() {
    let Some(disk) = SmallDisk::new(400) else { return };
    let book = open(&disk.path());
    assert!(stand_in(&book, "before").await.answer.durable);
    disk.fill();
    // What was set aside for the segments is used up first.
    let mut count = 0;
    while stand_in(&book, &format!("debt-{count}")).await.answer.durable {
        count += 1;
        assert!(count < 2_000, "the disk is never full");
    }
    let health = book.health();
    assert!(!health.trusted && health.since.is_some(), "{health:#?}");
    assert!(health.why.contains("No space left"), "{}", health.why);
    assert!(!say(&book, "core", Tier::Core, Verdict::Approve).await.answer.durable);
    let last = format!("debt-{count}");
    for id in ["before", &last, "core"] {
        assert_eq!(recalled(&book, id).await.answer.durable, id == "before", "{id}");
    }
    std::fs::remove_file(disk.filler()).unwrap();
    until(&book, "durable again", |it| it.trusted && it.undurable == 0).await;
    assert!(recalled(&book, &last).await.answer.durable);
    assert!(stand_in(&book, "after").await.answer.durable);
    drop(book);
    let (book, opened) = Book::open(&disk.path(), settings()).unwrap();
    assert_eq!((opened.unsettled, opened.entries), (count + 3, count + 4));
    let mut shipped = 0;
    while shipped < count + 3 {
        shipped += settle_next(&book, &Outcome::Match).await.len() as u64;
    }
    assert_eq!(recalled(&book, "core").await.answer.decision, Verdict::Approve);
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_answered_from_and_written_once_it_can_be() {
    let Some(disk) = SmallDisk::new(1_000) else { return };
    let book = open(&disk.path());
    stand_in(&book, "before").await;
    book.close().await;
    drop(book);
    disk.set_read_only(true);
    let (book, opened) = Book::open(&disk.path(), settings()).unwrap();
    assert_eq!((opened.entries, opened.unsettled), (1, 1));
    assert_eq!(recalled(&book, "before").await.answer.decision, Verdict::Decline);
    assert!(!stand_in(&book, "now").await.answer.durable);
    assert!(book.health().why.contains("Read-only"), "{}", book.health().why);
    disk.set_read_only(false);
    until(&book, "durable again", |it| it.trusted && it.undurable == 0).await;
    assert!(recalled(&book, "now").await.answer.durable);
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_named() {
    let parent = tempfile::tempdir().unwrap();
    let file = parent.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = Book::open(&file.join("book"), settings()).unwrap_err();
    assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
}
