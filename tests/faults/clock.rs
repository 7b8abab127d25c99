//! The wall clock, stepped by an hour both ways under processes that serve. The machine's own clock is
//! everybody's: libfaketime stands between these processes and it.

use std::fs;
use std::path::{Path, PathBuf};

use super::scene::{Outcome, Scene};
use crate::system::{Wire, fresh_id, payment};

/// Where Debian keeps the libraries of each architecture.
const LIBRARIES: &str = "/usr/lib";
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";
const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;
/// Between a step and the answer that shows it, in seconds.
const LATE_MAX: i64 = 60;

/// The library, where it is installed.
pub fn library() -> Option<PathBuf> {
    let folders = fs::read_dir(LIBRARIES).ok()?.flatten();
    folders.map(|folder| folder.path().join(LIBRARY)).find(|library| library.is_file())
}

/// The file that says how far the clock is off.
pub fn file(dir: &Path) -> PathBuf {
    dir.join("clock")
}

/// What processes need in their environment whose clock is to be stepped. Only the wall clock is.
pub fn variables(library: &Path, dir: &Path) -> Vec<(&'static str, String)> {
    set(dir, 0).unwrap();
    vec![
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", file(dir).display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ]
}

fn set(dir: &Path, seconds: i64) -> Outcome {
    // Read at every look at the clock: it is never seen half written.
    let new = dir.join("clock.new");
    fs::write(&new, format!("{seconds:+}\n")).map_err(|error| error.to_string())?;
    fs::rename(new, file(dir)).map_err(|error| error.to_string())
}

/// An hour ahead, then an hour behind, then right again.
pub fn step(scene: &Scene) -> Outcome {
    let mut before = seconds_of_day(scene)?;
    let mut was = 0;
    for seconds in [HOUR, -HOUR, 0] {
        set(scene.dir(), seconds)?;
        let now = seconds_of_day(scene)?;
        let late = (now - before - (seconds - was)).rem_euclid(DAY);
        if late > LATE_MAX {
            return Err(format!("the clock went from {before} to {now}, not by {seconds} s"));
        }
        scene.hold();
        (before, was) = (seconds_of_day(scene)?, seconds);
    }
    Ok(())
}

/// When a decision was made, by the clock of whoever made it.
fn seconds_of_day(scene: &Scene) -> Result<i64, String> {
    let answer = Wire::connect(scene.plain()).decide(&scene.key, &payment(&fresh_id()));
    let decided_at = answer.json()["decided_at"].as_str().unwrap_or_default().to_owned();
    let digits = |at: std::ops::Range<usize>| decided_at.get(at)?.parse::<i64>().ok();
    match (digits(11..13), digits(14..16), digits(17..19)) {
        (Some(hours), Some(minutes), Some(seconds)) => Ok(hours * HOUR + minutes * 60 + seconds),
        _ => Err(format!("an answer without its time: {decided_at:?}")),
    }
}
