//! One life of a process: started with a lifeline, ended by letting go of it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstop_process::HAND_OVER;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::doors::Doors;
use super::log_file::{self, LogFile};

/// How long the last words of a process that ended are waited for.
const LAST_WORDS_TIME_MAX: Duration = Duration::from_secs(1);
/// A process that reads nothing may have its lifeline full.
const WORD_TIME_MAX: Duration = Duration::from_secs(1);

/// One life of a process. Dropped, it is killed.
pub struct Life {
    child: Child,
    /// Closed, it says to stop. Held here, since waiting for a child would close its stdin.
    lifeline: Option<ChildStdin>,
    last_words: Option<oneshot::Receiver<Option<String>>>,
}

impl Life {
    /// Starts `program`, handed these sockets, with its output in this log.
    pub fn start<A: AsRef<OsStr>>(
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        doors: &Doors,
        log: &Arc<Mutex<LogFile>>,
    ) -> io::Result<Self> {
        let (from, to) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(to.try_clone()?)
            .stderr(to)
            // Ctrl-C is for `up` alone: it ends the others in their order.
            .process_group(0)
            .kill_on_drop(true);
        doors.hand_to(&mut command)?;
        let mut child = command.spawn()?;
        // It holds ends of the pipe that the child has by now: the pipe would never be at its end.
        drop(command);
        let lifeline = child.stdin.take();
        let last_words = Some(log_file::copy(from, Arc::clone(log)));
        Ok(Self { child, lifeline, last_words })
    }

    /// Its process id, while it lives.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// What it said before it ended of why it could not run.
    pub async fn last_words(&mut self) -> Option<String> {
        let words = timeout(LAST_WORDS_TIME_MAX, self.last_words.take()?).await;
        words.ok().and_then(Result::ok).flatten()
    }

    /// Tells it to let its successor take over.
    pub async fn hand_over(&mut self) {
        let Some(lifeline) = &mut self.lifeline else { return };
        let word = format!("{HAND_OVER}\n");
        // One that does not hear it goes on, which its successor's wait shows.
        let _ = timeout(WORD_TIME_MAX, lifeline.write_all(word.as_bytes())).await;
    }

    /// Asks it to finish what is under way, and to end.
    pub fn ask_to_stop(&mut self) {
        self.lifeline = None;
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Ends it now. It is gone when this returns.
    pub async fn kill(&mut self, name: &str) {
        if let Err(error) = self.child.kill().await {
            tracing::error!(process = name, %error, "cannot be killed");
        }
    }
}
