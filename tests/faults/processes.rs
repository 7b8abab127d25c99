//! Faults of what runs behind the edge: processes that die, freeze or starve, a database that is held.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use super::scene::{Outcome, Scene};
use crate::system::until;

/// The byte of the `-shm` file that is SQLite's write lock in WAL mode (wal.c, `WAL_WRITE_LOCK`).
const SQLITE_WRITE_LOCK: libc::off_t = 120;
/// Twice the cores that most of our machines have.
const SPINNERS: usize = 4;

pub fn kill_core(scene: &Scene) -> Outcome {
    kill_twice(scene, "core")
}

pub fn kill_api(scene: &Scene) -> Outcome {
    kill_twice(scene, "api")
}

/// The first restart comes at once: between two requests, it might pass unseen. The second takes longer.
fn kill_twice(scene: &Scene, tier: &str) -> Outcome {
    let first = scene.system().pid_of(tier, "prod");
    send(Signal::SIGKILL, first)?;
    let second = until("it was restarted", || {
        Some(scene.system().pid_of(tier, "prod")).filter(|pid| *pid != first)
    });
    send(Signal::SIGKILL, second)
}

fn send(signal: Signal, pid: i32) -> Outcome {
    kill(Pid::from_raw(pid), signal).map_err(|error| format!("{signal} to {pid}: {error}"))
}

pub fn stop_core(scene: &Scene) -> Outcome {
    stop(scene, &["core"])
}

pub fn stop_api(scene: &Scene) -> Outcome {
    stop(scene, &["api"])
}

pub fn stop_both(scene: &Scene) -> Outcome {
    stop(scene, &["core", "api"])
}

/// Freezes processes for as long as the scene holds: alive, listening, silent.
fn stop(scene: &Scene, tiers: &[&str]) -> Outcome {
    let pids: Vec<_> = tiers.iter().map(|tier| scene.system().pid_of(tier, "prod")).collect();
    pids.iter().try_for_each(|pid| send(Signal::SIGSTOP, *pid))?;
    scene.hold();
    pids.iter().try_for_each(|pid| send(Signal::SIGCONT, *pid))
}

/// Kills core and api again whenever they are back, as long as the scene holds.
pub fn kill_in_a_loop(scene: &Scene) -> Outcome {
    let end = Instant::now() + scene.hold;
    let mut kills = 0;
    while Instant::now() < end {
        for tier in ["core", "api"] {
            let process = scene.system().process(tier, "prod");
            let Some(pid) = process["pid"].as_i64() else { continue };
            let pid = i32::try_from(pid).map_err(|error| error.to_string())?;
            // It may have ended since the status was told.
            kills += usize::from(send(Signal::SIGKILL, pid).is_ok());
        }
    }
    if kills > 2 { Ok(()) } else { Err(format!("only {kills} kills: this was no loop")) }
}

/// Holds the write lock of the database, as another process would that never commits.
pub fn hold_the_write_lock(scene: &Scene) -> Outcome {
    let file = scene.dir().join("backstop.db-shm");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(file);
    let file = file.map_err(|error| format!("no database to lock: {error}"))?;
    let lock = libc::flock {
        l_type: i16::try_from(libc::F_WRLCK).map_err(|error| error.to_string())?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(|error| error.to_string())?,
        l_start: SQLITE_WRITE_LOCK,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(&file, FcntlArg::F_SETLKW(&lock)).map_err(|error| format!("no lock: {error}"))?;
    scene.hold();
    Ok(())
}

/// Other work on every core, until this is dropped.
pub struct Busy {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Busy {
    pub fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..SPINNERS).map(spin).collect();
        Self { stop, threads }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
