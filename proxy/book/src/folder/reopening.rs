//! Reading a folder again: cuts torn tails, removes what is empty, sets damaged files aside.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{Folder, new_file};
use crate::error::BookError;
use crate::health::Opened;
use crate::record::VERSION;
use crate::recovery::Recovery;
use crate::segment::{End, NewerVersion, sound};
use crate::settings::Settings;

/// What a folder holds.
#[derive(Debug, Default)]
struct Listing {
    segments: Vec<u32>,
    last: u32,
    corrupt_files: u64,
}

impl Folder {
    /// Reads every segment. Also: how many damaged files lie in the folder.
    pub(crate) fn reopen<W: Clone>(
        &self,
        settings: &Settings,
    ) -> Result<(Recovery<W>, Opened, u64), BookError> {
        let (mut recovery, mut opened) = (Recovery::new(settings), Opened::default());
        let listing = self.list()?;
        recovery.number_taken(listing.last);
        let mut bytes = Vec::new();
        for segment in listing.segments {
            self.take_in(segment, &mut bytes, &mut recovery, &mut opened)?;
        }
        let corrupt_files = listing.corrupt_files + opened.corrupt.len() as u64;
        opened.entries = recovery.entries() as u64;
        Ok((recovery, opened, corrupt_files))
    }

    /// The segments by number, once what a crash interrupted is finished.
    fn list(&self) -> Result<Listing, BookError> {
        let path = &self.path;
        let failed = |source| BookError::Folder { path: path.clone(), source };
        let mut listing = Listing::default();
        for file in fs::read_dir(path).map_err(failed)? {
            let file = file.map_err(failed)?.path();
            let number = file.file_stem().and_then(OsStr::to_str).and_then(|it| it.parse().ok());
            listing.last = std::cmp::max(listing.last, number.unwrap_or_default());
            match (number, file.extension().and_then(OsStr::to_str)) {
                (Some(number), Some("book")) => listing.segments.push(number),
                (Some(number), Some("new")) => {
                    if let Some(number) = self.finish_setting_aside(number, &file) {
                        listing.segments.push(number);
                    }
                }
                (_, Some("corrupt")) => listing.corrupt_files += 1,
                _ => {}
            }
        }
        listing.segments.sort_unstable();
        listing.segments.dedup();
        Ok(listing)
    }

    /// The process ended while it set a segment aside: before the renames, and it is done again, or in
    /// between, and what was written is the segment.
    fn finish_setting_aside(&self, number: u32, new: &PathBuf) -> Option<u32> {
        let segment = self.segment(number);
        let is_there = !segment.exists();
        let done = if is_there { fs::rename(new, segment) } else { fs::remove_file(new) };
        if let Err(error) = done {
            tracing::error!(%error, path = %new.display(), "cannot finish setting a segment aside");
            return None;
        }
        is_there.then_some(number)
    }

    /// Reads what was written to a segment; how long its file is.
    fn read_segment(&self, segment: u32, bytes: &mut Vec<u8>) -> Result<u64, BookError> {
        let path = self.segment(segment);
        let read = File::open(&path).and_then(|mut file| {
            let length = file.metadata()?.len();
            let written = written(&file, length);
            bytes.clear();
            bytes.reserve_exact(usize::try_from(written).map_err(io::Error::other)?);
            file.rewind()?;
            file.by_ref().take(written).read_to_end(bytes)?;
            self.keep(segment, file);
            Ok(length)
        });
        read.map_err(|source| BookError::Read { path, source })
    }

    fn take_in<W: Clone>(
        &self,
        segment: u32,
        bytes: &mut Vec<u8>,
        recovery: &mut Recovery<W>,
        opened: &mut Opened,
    ) -> Result<(), BookError> {
        let path = self.segment(segment);
        let newer =
            |NewerVersion(version)| BookError::Newer { path: path.clone(), version, max: VERSION };
        let mut length = self.read_segment(segment, bytes)?;
        let mut end = recovery.read(segment, bytes).map_err(newer)?;
        if let End::Corrupt { at, bytes: lost } = end {
            tracing::error!(path = %path.display(), at, lost, "a segment is damaged in its middle");
            opened.lost_bytes += lost as u64;
            let sound = sound(bytes);
            match self.set_aside(segment, &sound) {
                Ok(corrupt) => {
                    opened.corrupt.push(corrupt);
                    length = sound.len() as u64;
                    end = recovery.read(segment, &sound).map_err(newer)?;
                }
                // It is read as it is, around what is broken, and set aside another time.
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "cannot set a damaged segment aside");
                }
            }
        }
        recovery.resize(segment, length);
        opened.segments += 1;
        self.tidy(segment, length, &end, recovery, opened);
        Ok(())
    }

    /// Writes what is readable beside the damaged file, then puts it in its place.
    fn set_aside(&self, segment: u32, sound: &[u8]) -> io::Result<PathBuf> {
        let path = self.segment(segment);
        let (new, corrupt) = (path.with_extension("new"), self.name_for_corrupt(segment));
        let file = new_file(&new, true)?;
        file.write_all_at(sound, 0)?;
        file.sync_all()?;
        fs::rename(&path, &corrupt)?;
        fs::rename(&new, &path)?;
        self.sync()?;
        self.keep(segment, file);
        Ok(corrupt)
    }

    /// A segment may be damaged again: none of what was set aside is written over.
    fn name_for_corrupt(&self, segment: u32) -> PathBuf {
        let path = self.segment(segment);
        let mut names =
            (1..).map(|count| path.with_file_name(format!("{segment:08}-{count}.corrupt")));
        let first = path.with_extension("corrupt");
        if first.exists() { names.find(|it| !it.exists()).unwrap_or(first) } else { first }
    }

    /// Cuts what is behind the last record, and removes a segment with nothing in it. A disk that refuses is
    /// no reason to stop: it is read all the same.
    fn tidy<W: Clone>(
        &self,
        segment: u32,
        length: u64,
        end: &End,
        recovery: &mut Recovery<W>,
        opened: &mut Opened,
    ) {
        let at = match end {
            End::Clean { at } => *at,
            End::Torn { at, bytes } => {
                tracing::warn!(
                    segment,
                    at,
                    bytes,
                    "a torn tail is cut: nobody was told what it said"
                );
                opened.cut_bytes += *bytes as u64;
                *at
            }
            End::Corrupt { .. } => return,
        };
        if recovery.is_empty(segment) {
            recovery.remove(segment);
            self.delete(segment);
        } else if (at as u64) < length {
            let cut = OpenOptions::new().write(true).open(self.segment(segment));
            match cut.and_then(|file| file.set_len(at as u64)) {
                Ok(()) => recovery.resize(segment, at as u64),
                Err(error) => tracing::error!(%error, segment, "a tail can not be cut"),
            }
        }
    }
}

/// Where in a file the last byte ends that was ever written. Behind it is room that was kept free, which
/// reads as zeros; reading it all would take longer than reading what is there.
fn written(file: &File, length: u64) -> u64 {
    let mut end = 0;
    loop {
        let hole =
            lseek(file, end, Whence::SeekData).and_then(|data| lseek(file, data, Whence::SeekHole));
        match hole {
            Ok(hole) => end = hole,
            Err(Errno::ENXIO) => return u64::try_from(end).unwrap_or(length),
            // This file system does not say.
            Err(_) => return length,
        }
    }
}
