//! Who runs and how: written by the keeper of each process, read by the control socket and the wait
//! for readiness. A copy lies in `run/`, for when `up` itself is silent or gone.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use backstop_settings::write_atomically;
use bytes::Bytes;
use hyper::Request;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::sleep;

use super::health::ANSWER_TIME_MAX;
use crate::exchange::{self, exchange};
use crate::running::{Process, State, Status};

/// How often the edge is asked which stack is active.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// How often in a row a process has to refuse before it counts: the other stack's start may have been
/// in its way once.
const REFUSALS_MIN: u32 = 2;

/// What is known of every process. Clones share it.
#[derive(Clone, Debug)]
pub struct Board {
    known: watch::Sender<Known>,
}

#[derive(Debug)]
struct Known {
    status: Status,
    refusals: Vec<Refusal>,
}

/// How often in a row a process ended because it could not run, and what it said last.
#[derive(Clone, Debug, Default)]
struct Refusal {
    times: u32,
    words: String,
}

/// One process on the board.
#[derive(Clone, Debug)]
pub struct Place {
    board: Board,
    index: usize,
}

impl Board {
    /// A board on which nothing runs yet.
    pub fn new(status: Status) -> Self {
        let refusals = vec![Refusal::default(); status.processes.len()];
        Self { known: watch::Sender::new(Known { status, refusals }) }
    }

    /// The place of each process.
    pub fn places(&self) -> Vec<(Process, Place)> {
        let processes = self.status().processes.into_iter().enumerate();
        processes.map(|(index, process)| (process, Place { board: self.clone(), index })).collect()
    }

    /// What runs now.
    pub fn status(&self) -> Status {
        self.known.borrow().status.clone()
    }

    /// The name and last words of a process that again and again could not run.
    pub fn refusal(&self, of: impl Fn(&Process) -> bool) -> Option<(String, String)> {
        let known = self.known.borrow();
        let mut all = known.status.processes.iter().zip(&known.refusals);
        all.find(|(process, refusal)| refusal.times >= REFUSALS_MIN && of(process))
            .map(|(process, refusal)| (process.name(), refusal.words.clone()))
    }

    /// Keeps note of which stack is active, for ever, as the edge at `admin` says.
    pub async fn follow(self, admin: SocketAddr) {
        loop {
            self.look(admin).await;
            sleep(FOLLOW_EVERY).await;
        }
    }

    /// Asks the edge at `admin` which stack is active. One that does not answer has not changed it.
    pub async fn look(&self, admin: SocketAddr) {
        #[derive(Deserialize)]
        struct Ready {
            active: String,
        }
        let request = Request::get("/readyz").header("host", "localhost").body(Bytes::new());
        if let Ok(request) = request
            && let Ok((_status, body)) =
                exchange(&exchange::Place::Address(admin), request, ANSWER_TIME_MAX).await
            && let Ok(Ready { active }) = serde_json::from_slice(&body)
        {
            self.known.send_if_modified(|known| {
                let is_news = known.status.active != active;
                known.status.active = active;
                is_news
            });
        }
    }

    /// Keeps a copy in `file`, for ever. A disk that hangs holds up the copy and nothing else.
    pub async fn copy_to(self, file: PathBuf) {
        let mut changes = self.known.subscribe();
        loop {
            let status = changes.borrow_and_update().status.clone();
            let file = file.clone();
            let write = move || {
                let json = serde_json::to_vec(&status).unwrap_or_default();
                write_atomically(&file, &json, 0o600)
            };
            // Without the copy all runs on; the next change writes it again.
            let _ = tokio::task::spawn_blocking(write).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Place {
    /// Changes what the board says of this process.
    pub fn set(&self, change: impl FnOnce(&mut Process)) {
        self.board.known.send_modify(|known| {
            if let Some(process) = known.status.processes.get_mut(self.index) {
                change(process);
            }
        });
    }

    /// Notes how the process is.
    pub fn set_state(&self, state: State) {
        self.set(|process| process.state = state);
    }

    /// Notes that it could not run and why, or with `None` that it ended in another way.
    pub fn note_refusal(&self, words: Option<String>) {
        self.board.known.send_modify(|known| {
            if let Some(refusal) = known.refusals.get_mut(self.index) {
                *refusal = words.map_or_else(Refusal::default, |words| Refusal {
                    times: refusal.times + 1,
                    words,
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use backstop_settings::Layout;

    use super::*;

    #[test]
    fn a_refusal_counts_when_it_is_repeated_and_until_the_process_ends_otherwise() {
        let board = Board::new(Status::stopped(&Layout::new("."), "127.0.0.1:8443"));
        let places = board.places();
        let (_, core) = places.iter().find(|(process, _)| process.tier == "core").unwrap();
        let refusal = || board.refusal(|process| process.tier != "proxy");
        core.note_refusal(Some("no database".into()));
        assert_eq!(refusal(), None);
        core.note_refusal(Some("no database".into()));
        assert_eq!(refusal(), Some(("core-prod".into(), "no database".into())));
        assert_eq!(board.refusal(|process| process.tier == "proxy"), None);
        core.note_refusal(None);
        assert_eq!(refusal(), None);
    }

    #[tokio::test]
    async fn the_copy_follows_the_board() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        std::fs::create_dir(layout.run()).unwrap();
        let board = Board::new(Status::stopped(&layout, "127.0.0.1:8443"));
        let copying = tokio::spawn(board.clone().copy_to(layout.processes()));
        for (process, place) in board.places() {
            place.set(|process| (process.pid, process.state) = (Some(7), State::Up));
            drop(process);
        }
        for _ in 0..1_000 {
            if Status::last_known(&layout) == Some(board.status()) {
                copying.abort();
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        panic!("{:?}", Status::last_known(&layout));
    }
}
