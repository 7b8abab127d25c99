//! `backstop logs`: the last lines of what the processes wrote, in the order of time, and what follows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use backstop_settings::{Layout, STACKS};
use clap::ValueEnum;

use crate::dir::Dir;
use crate::up::older;

/// The most that is read of the end of a log, and at a time when it is followed.
const TAIL_BYTES_MAX: u64 = 4 << 20;
const FOLLOW_EVERY: Duration = Duration::from_millis(200);

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Whose; by default everybody's
    process: Option<Tier>,
    /// Of which stack; by default of both
    #[arg(long, value_name = "STACK")]
    stack: Option<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// How many lines of the past
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tier {
    Proxy,
    Api,
    Core,
}

/// Prints the last lines, and with `--follow` what comes, until it is interrupted.
pub async fn run(args: Args) -> ExitCode {
    let files = files(&args.dir.layout(), args.process, args.stack.as_deref());
    if !files.iter().any(|file| file.exists()) {
        eprintln!("error: there is no such log in {}", args.dir.layout().logs().display());
        return ExitCode::FAILURE;
    }
    // Where each log ends now: what comes after is for following.
    let mut tails: Vec<Tail> = files.iter().map(|file| Tail::at_end(file)).collect();
    let past = tails.iter().map(|tail| last_lines(tail, args.lines)).collect();
    let mut is_read = print(&last(in_order(past), args.lines));
    while args.follow && is_read {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let fresh = tails.iter_mut().map(Tail::read).collect();
        is_read = print(&in_order(fresh));
    }
    ExitCode::SUCCESS
}

fn files(layout: &Layout, process: Option<Tier>, stack: Option<&str>) -> Vec<PathBuf> {
    let is_wanted = |tier| process.is_none_or(|process| process == tier);
    let mut files = Vec::new();
    if is_wanted(Tier::Proxy) && stack.is_none() {
        files.push(layout.log("proxy", None));
    }
    for (tier, name) in [(Tier::Api, "api"), (Tier::Core, "core")] {
        let stacks = STACKS.iter().filter(|known| stack.is_none_or(|stack| stack == **known));
        files.extend(stacks.filter(|_| is_wanted(tier)).map(|stack| layout.log(name, Some(stack))));
    }
    files
}

/// Whether somebody still reads what is printed.
fn print(lines: &[String]) -> bool {
    let mut out = io::stdout().lock();
    lines.iter().all(|line| writeln!(out, "{line}").is_ok()) && out.flush().is_ok()
}

/// The lines of several logs by the time they begin with. A line without one belongs to the line
/// before it.
fn in_order(logs: Vec<Vec<String>>) -> Vec<String> {
    let mut all: Vec<(String, String)> = Vec::new();
    for log in logs {
        let mut time = String::new();
        for line in log {
            if let Some((first, _)) = line.split_once(' ').filter(|(first, _)| is_time(first)) {
                first.clone_into(&mut time);
            }
            all.push((time.clone(), line));
        }
    }
    // Stable: lines of one log keep their order.
    all.sort_by(|(one, _), (other, _)| one.cmp(other));
    all.into_iter().map(|(_, line)| line).collect()
}

fn is_time(word: &str) -> bool {
    word.len() >= 20 && word.ends_with('Z') && word.as_bytes().get(10) == Some(&b'T')
}

fn last(mut lines: Vec<String>, count: usize) -> Vec<String> {
    lines.split_off(lines.len().saturating_sub(count))
}

/// The last lines of a log up to where its tail begins; of the older one too when they are few.
fn last_lines(tail: &Tail, count: usize) -> Vec<String> {
    let mut lines = end_of(&tail.file, tail.offset);
    if lines.len() < count {
        let older = older(&tail.file);
        let mut before = std::fs::metadata(&older).map_or(vec![], |log| end_of(&older, log.len()));
        before.append(&mut lines);
        lines = before;
    }
    last(lines, count)
}

/// The lines before `offset`, as far back as is read.
fn end_of(file: &Path, offset: u64) -> Vec<String> {
    let from = offset.saturating_sub(TAIL_BYTES_MAX);
    let text = read_at(file, from, offset - from).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    // The first line may be a part of one.
    text.lines().skip(usize::from(from > 0)).map(str::to_owned).collect()
}

/// A log that is followed over its rotations.
#[derive(Debug)]
struct Tail {
    file: PathBuf,
    inode: Option<u64>,
    offset: u64,
}

impl Tail {
    fn at_end(file: &Path) -> Self {
        let metadata = std::fs::metadata(file).ok();
        let inode = metadata.as_ref().map(std::fs::Metadata::ino);
        Self { file: file.to_owned(), inode, offset: metadata.map_or(0, |log| log.len()) }
    }

    /// The whole lines that were written since the last read.
    fn read(&mut self) -> Vec<String> {
        let Ok(metadata) = std::fs::metadata(&self.file) else { return vec![] };
        let mut lines = Vec::new();
        if self.inode != Some(metadata.ino()) {
            // Rotated: the rest of what was followed is in the older log now.
            if self.inode.is_some() {
                lines = self.whole_lines(&older(&self.file)).unwrap_or_default();
            }
            (self.inode, self.offset) = (Some(metadata.ino()), 0);
        }
        lines.extend(self.whole_lines(&self.file.clone()).unwrap_or_default());
        lines
    }

    fn whole_lines(&mut self, file: &Path) -> io::Result<Vec<String>> {
        let mut text = read_at(file, self.offset, TAIL_BYTES_MAX)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        text.truncate(whole);
        self.offset += whole as u64;
        Ok(String::from_utf8_lossy(&text).lines().map(str::to_owned).collect())
    }
}

fn read_at(file: &Path, offset: u64, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_several_logs_come_in_the_order_of_time() {
        let at =
            |second: u8, what: &str| format!("2026-11-22T10:00:0{second}.000000Z  INFO {what}");
        let core = vec![at(1, "core"), "without a time".into(), at(5, "core")];
        let api = vec![at(2, "api"), at(4, "api")];
        assert_eq!(
            in_order(vec![core, api]),
            [at(1, "core"), "without a time".into(), at(2, "api"), at(4, "api"), at(5, "core")]
        );
    }

    #[test]
    fn a_log_is_followed_over_a_rotation_without_a_gap() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("proxy.log");
        std::fs::write(&file, "old\nnew\npart").unwrap();
        let mut tail = Tail { inode: Tail::at_end(&file).inode, offset: 4, file: file.clone() };
        assert_eq!(tail.read(), ["new"]);
        assert!(tail.read().is_empty());
        std::fs::write(&file, "old\nnew\npart of it\n").unwrap();
        std::fs::rename(&file, older(&file)).unwrap();
        std::fs::write(&file, "first\n").unwrap();
        assert_eq!(tail.read(), ["part of it", "first"]);
        assert_eq!(last_lines(&tail, 2), ["part of it", "first"]);
        assert_eq!(last_lines(&tail, 9), ["old", "new", "part of it", "first"]);
    }

    #[test]
    fn the_logs_asked_for_are_the_ones_shown() {
        let layout = Layout::new("d");
        let names = |process, stack| -> Vec<String> {
            let names = files(&layout, process, stack);
            names.iter().map(|file| file.file_stem().unwrap().to_str().unwrap().into()).collect()
        };
        assert_eq!(names(None, None).len(), 5);
        assert_eq!(names(Some(Tier::Proxy), None), ["proxy"]);
        assert_eq!(names(Some(Tier::Core), Some("prod")), ["core-prod"]);
        assert_eq!(names(None, Some("old-prod")), ["api-old-prod", "core-old-prod"]);
        assert!(names(None, Some("nonesuch")).is_empty());
    }
}
