//! The guide for the people who write the rules, read to the letter: its files are written, its commands run,
//! and what it says they print is what they print.

mod system;

use std::path::Path;
use std::process::Command;

use system::binary;

const GUIDE: &str = "lua/README.md";

/// A command of the guide that takes longer never ends: it waits for an `up` that has failed.
const COMMAND_SECONDS_MAX: &str = "300";

/// A block of the guide: what stands behind its fence, its lines, and where it begins.
struct Block {
    info: String,
    lines: Vec<String>,
    line: usize,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (place, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some(_) if is_open => is_open = false,
            Some(info) => {
                is_open = true;
                blocks.push(Block { info: info.to_owned(), lines: Vec::new(), line: place + 1 });
            }
            None if is_open => blocks.last_mut().unwrap().lines.push(line.to_owned()),
            None => {}
        }
    }
    blocks
}

/// A command of the guide, how it must end, and lines that it must print in this order.
struct Step {
    command: String,
    code: i32,
    prints: Vec<String>,
}

fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in &block.lines {
        if let Some(command) = line.strip_prefix("$ ") {
            let (command, code) = match command.split_once("# exits with ") {
                Some((command, code)) => (command, code.trim().parse().unwrap()),
                None => (command, 0),
            };
            steps.push(Step { command: command.trim().to_owned(), code, prints: Vec::new() });
        } else {
            steps.last_mut().expect("a command first").prints.push(line.clone());
        }
    }
    steps
}

/// Whether a line is what the guide says, where `…` stands for anything and spaces may be more.
fn is_as_told(line: &str, told: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (line, told) = (words(line), words(told));
    let mut rest = line.as_str();
    let parts: Vec<&str> = told.split('…').map(str::trim).collect();
    for part in &parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    line.starts_with(parts[0]) && (told.ends_with('…') || rest.is_empty() || parts.len() == 1)
}

fn run(step: &Step, folder: &Path) -> String {
    let path = format!(
        "{}:{}",
        binary("backstop").parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("timeout")
        .args([COMMAND_SECONDS_MAX, "bash", "-c", &step.command])
        .current_dir(folder)
        .env("PATH", path)
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let log = std::fs::read_to_string(folder.join("up.log")).unwrap_or_default();
    assert_eq!(output.status.code(), Some(step.code), "{}\n{said}\n{log}", step.command);
    said
}

/// What the guide leaves running when one of its lines is not true.
struct Left<'a>(&'a Path);

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.0.join("up.pid")).ok();
        if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ended = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
    }
}

#[test]
fn every_line_of_the_authors_guide_is_true() {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(GUIDE)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let _left = Left(folder.path());
    let mut ran = 0;
    for block in blocks(&text) {
        let (kind, file) = block.info.split_once(' ').unwrap_or((&block.info, ""));
        if !file.is_empty() {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, block.lines.join("\n") + "\n").unwrap();
        } else if kind == "console" {
            for step in steps(&block) {
                let said = run(&step, folder.path());
                let mut lines = said.lines();
                for told in &step.prints {
                    assert!(
                        lines.any(|line| is_as_told(line, told)),
                        "{GUIDE}:{}: after `{}` there is no line\n{told}\nin\n{said}",
                        block.line,
                        step.command
                    );
                }
                ran += 1;
            }
        }
    }
    assert!(ran > 20, "only {ran} commands were found in {GUIDE}");
}

#[test]
fn a_folder_without_rules_and_a_name_that_is_taken_are_refused_with_two() {
    let folder = tempfile::tempdir().unwrap();
    let step = |command: &str| Step { command: command.to_owned(), code: 2, prints: Vec::new() };
    for (command, words) in [
        ("backstop rules check", "go to a folder that has policies/"),
        ("backstop rules check --rules nowhere", "nowhere: cannot be read"),
        ("backstop rules new Night", "use 1 to 64 of a-z"),
        (
            "backstop rules new night && backstop rules new night",
            "policies/night.lua is there already",
        ),
        ("rm tests/night.lua && backstop rules test", "no tests in tests"),
        ("echo '{' | backstop rules try -", "is no JSON"),
        ("echo '{}' | backstop rules try - --policy day", "there are night"),
        ("backstop rules backtest absent.csv", "cannot be read"),
    ] {
        let said = run(&step(command), folder.path());
        assert!(said.contains(words), "{command}: {said}");
    }
}
