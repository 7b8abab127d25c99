//! One `up` in a directory, and nothing left of an earlier one.
//!
//! The children inherit the lock. So it is free only once all of them have ended too, and no core of
//! an earlier run can meet one of this run on the same socket.

use std::fs::{File, TryLockError};
use std::io::Write as _;
use std::time::Duration;

use backstop_settings::Layout;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::{UpError, at};
use crate::running::Status;

/// What an `up` that was killed leaves behind stops by itself in less.
const LEFT_BEHIND_TIME_MAX: Duration = Duration::from_secs(4);
/// A killed process is gone by then.
const KILLED_TIME_MAX: Duration = Duration::from_secs(1);
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// The lock on a directory, held until this process and its children have ended.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it. What an `up` that was killed left behind is waited for,
    /// and what of it does not stop, since it hangs, is killed.
    pub async fn take(layout: &Layout) -> Result<Self, UpError> {
        let path = layout.up_lock();
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(at(&path))?;
        if !is_ours(&file, layout)? {
            let pid = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
            let refused = || UpError::Running { pid: pid.clone(), dir: layout.root().to_owned() };
            if is_up(&pid) {
                return Err(refused());
            }
            tracing::warn!(pid, "an earlier run was killed; waiting for what it left to stop");
            if !is_ours_within(LEFT_BEHIND_TIME_MAX, &file, layout).await? {
                kill_left_behind(layout);
                if !is_ours_within(KILLED_TIME_MAX, &file, layout).await? {
                    return Err(refused());
                }
            }
        }
        fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|error| at(&path)(error.into()))?;
        let pid = std::process::id().to_string();
        file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(at(&path))?;
        Ok(Self { _file: file })
    }
}

fn is_ours(file: &File, layout: &Layout) -> Result<bool, UpError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(at(&layout.up_lock())(error)),
    }
}

async fn is_ours_within(time: Duration, file: &File, layout: &Layout) -> Result<bool, UpError> {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if is_ours(file, layout)? {
            return Ok(true);
        }
        sleep(RETRY_EVERY).await;
    }
    Ok(false)
}

/// Whether this is the id of a process that runs the same program as this one.
fn is_up(pid: &str) -> bool {
    let program = |pid: &str| std::fs::read(format!("/proc/{pid}/comm")).ok();
    !pid.is_empty() && program(pid).is_some_and(|other| Some(other) == program("self"))
}

fn kill_left_behind(layout: &Layout) {
    let left = Status::last_known(layout).map(|status| status.processes).unwrap_or_default();
    for process in left.into_iter().filter(crate::running::Process::is_alive) {
        if let Some(pid) = process.pid.and_then(|pid| i32::try_from(pid).ok()) {
            tracing::warn!(process = process.name(), pid, "left by an earlier run, silent: killed");
            // It may have ended just now.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::up::first_run::make_directories;

    // One test, since its child inherits every lock of this process.
    #[tokio::test]
    async fn a_second_up_is_refused_and_what_a_killed_one_left_behind_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        make_directories(&layout).unwrap();
        let first = Lock::take(&layout).await.unwrap();
        let error = Lock::take(&layout).await.unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");

        let mut left = tokio::process::Command::new("sleep").arg("0.3").spawn().unwrap();
        drop(first);
        // As an `up` that is gone would have written it.
        std::fs::write(layout.up_lock(), "999999999").unwrap();
        let _second = Lock::take(&layout).await.unwrap();
        assert!(left.try_wait().unwrap().is_some());
    }
}
