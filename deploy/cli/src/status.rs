//! `backstop status`: what runs, in under two seconds, whatever hangs.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use backstop_settings::Layout;
use comfy_table::{Table, presets};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::dir::Dir;
use crate::exchange;
use crate::running::{Process, Running, State, Status};
use crate::up::ANSWER_TIME_MAX;

/// `up` answers from memory. With what follows when it does not, the whole stays under two seconds.
const UP_TIME_MAX: Duration = Duration::from_millis(500);
/// A status is under 2 KiB.
const STATUS_BYTES_MAX: u64 = 65_536;

/// `up` does not run, or is silent.
const NOT_RUNNING: u8 = 1;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    dir: Dir,
    /// Print JSON, for machines
    #[arg(long)]
    json: bool,
}

/// Prints what runs. The exit code is 1 when `up` does not answer.
pub async fn run(args: Args) -> ExitCode {
    let layout = args.dir.layout();
    let asked = ask_up_in_time(&layout).await;
    let does_up_answer = asked.is_some();
    let status = match asked {
        Some(status) => status,
        None => look(&layout).await,
    };
    if args.json {
        println!("{}", serde_json::to_string(&status).unwrap_or_default());
    } else {
        println!("{}", table(&status));
    }
    if does_up_answer {
        return ExitCode::SUCCESS;
    }
    let is_anyone_left = status.processes.iter().any(|process| process.pid.is_some());
    let what = if is_anyone_left { "`backstop up` does not answer" } else { "nothing runs" };
    eprintln!("{what} in {}", layout.root().display());
    ExitCode::from(NOT_RUNNING)
}

/// What `up` says; `None` when it does not run, or is silent.
pub async fn ask_up_in_time(layout: &Layout) -> Option<Status> {
    timeout(UP_TIME_MAX, ask_up(layout)).await.ok().flatten()
}

async fn ask_up(layout: &Layout) -> Option<Status> {
    let stream = UnixStream::connect(layout.up_socket()).await.ok()?;
    let mut line = Vec::new();
    let mut stream = BufReader::new(stream.take(STATUS_BYTES_MAX));
    stream.read_until(b'\n', &mut line).await.ok()?;
    serde_json::from_slice(&line).ok()
}

/// Without `up`: what it knew last, put right by a look at each process.
async fn look(layout: &Layout) -> Status {
    let mut status = Status::last_known(layout).unwrap_or_else(|| Status::stopped(layout, ""));
    let admin = Running::load(layout).map(|running| running.admin);
    let mut looks = JoinSet::new();
    for (index, process) in status.processes.iter().enumerate() {
        let (process, layout) = (process.clone(), layout.clone());
        looks.spawn(async move { (index, state_of(&process, &layout, admin).await) });
    }
    while let Some(look) = looks.join_next().await {
        let Ok((index, state)) = look else { continue };
        if let Some(process) = status.processes.get_mut(index) {
            process.state = state;
            process.pid = process.pid.filter(|_| state != State::Stopped);
        }
    }
    status
}

async fn state_of(process: &Process, layout: &Layout, admin: Option<SocketAddr>) -> State {
    if !process.is_alive() {
        return State::Stopped;
    }
    let Some(admin) = admin else { return State::Hung };
    let (place, path) = process.health(layout, admin);
    let answer = exchange::get(&place, path, ANSWER_TIME_MAX).await;
    if answer.is_ok_and(|status| status.is_success()) { State::Up } else { State::Hung }
}

fn table(status: &Status) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["process", "stack", "state", "pid", "restarts", "address"]);
    for process in &status.processes {
        let is_active = process.stack.as_ref() == Some(&status.active);
        let stack = process.stack.as_deref().unwrap_or("-");
        table.add_row([
            process.tier.clone(),
            if is_active { format!("{stack} (active)") } else { stack.to_owned() },
            process.state.as_str().to_owned(),
            process.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
            process.restarts.to_string(),
            process.address.clone(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_up_everything_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(ask_up(&layout).await.is_none());
        let status = look(&layout).await;
        assert_eq!(status, Status::stopped(&layout, ""));
    }

    #[tokio::test]
    async fn a_process_id_that_is_another_program_now_is_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir(layout.run()).unwrap();
        let mut known = Status::stopped(&layout, "127.0.0.1:8443");
        for process in &mut known.processes {
            (process.pid, process.state) = (Some(std::process::id()), State::Up);
        }
        std::fs::write(layout.processes(), serde_json::to_vec(&known).unwrap()).unwrap();
        assert_eq!(look(&layout).await, Status::stopped(&layout, "127.0.0.1:8443"));
    }

    #[test]
    fn the_table_says_which_stack_is_active() {
        let text = table(&Status::stopped(&Layout::new("d"), "127.0.0.1:8443")).to_string();
        assert_eq!(text.matches("prod (active)").count(), 2, "{text}");
        assert!(text.contains("127.0.0.1:8443"), "{text}");
    }
}
