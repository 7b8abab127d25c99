//! An upgrade: one process after another is replaced by its next release, those of the stack that is not
//! active first. The first that fails ends it: what was replaced before stays, the rest is as it was.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::board::Board;
use super::keeper::Replace;
use super::preflight::check_programs;
use crate::running::Process;

/// What is wished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The folder of the new programs; none: those that each process has, where others may lie by now.
    pub binaries: Option<PathBuf>,
    /// Only these processes: `proxy`, `api` or `core`.
    pub only: Option<String>,
    /// Only this stack, and no proxy.
    pub stack: Option<String>,
}

/// What `up` says of it, a line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// What was done.
    Said(String),
    /// It is over, and all went well.
    Done(String),
    /// It is over; this went wrong.
    Failed(String),
}

/// Carries upgrades out, one at a time.
pub struct Upgrader {
    board: Board,
    admin: SocketAddr,
    wishes: Vec<(Process, mpsc::Sender<Replace>)>,
    busy: Mutex<()>,
}

impl Upgrader {
    /// Of these processes, each with the way to its keeper. The edge at `admin` knows which stack is
    /// active.
    pub fn new(
        board: Board,
        admin: SocketAddr,
        wishes: Vec<(Process, mpsc::Sender<Replace>)>,
    ) -> Self {
        Self { board, admin, wishes, busy: Mutex::new(()) }
    }

    /// Carries an order out; `say` hears of each step. The last word is done or failed.
    pub async fn carry_out(&self, order: &Order, say: &mpsc::Sender<Told>) {
        let last = match self.try_carry_out(order, say).await {
            Ok(words) => Told::Done(words),
            Err(why) => Told::Failed(why),
        };
        // Whoever ordered it may have gone; it was carried out all the same.
        let _ = say.send(last).await;
    }

    async fn try_carry_out(
        &self,
        order: &Order,
        say: &mpsc::Sender<Told>,
    ) -> Result<String, String> {
        let Ok(_busy) = self.busy.try_lock() else {
            return Err("another upgrade is under way".to_owned());
        };
        self.board.look(self.admin).await;
        let chosen = self.chosen(order);
        if chosen.is_empty() {
            return Err("that names no process; nothing was replaced".to_owned());
        }
        if let Some(folder) = &order.binaries {
            for (process, _) in &chosen {
                let program = format!("backstop-{}", process.tier);
                check_programs(folder, &[&program]).map_err(|error| error.to_string())?;
            }
        }
        let start = Instant::now();
        for (process, wish) in &chosen {
            let begun = Instant::now();
            let (done, outcome) = oneshot::channel();
            let replace = Replace { programs: order.binaries.clone(), done };
            wish.send(replace).await.map_err(|_stopped| "`up` is about to stop".to_owned())?;
            let outcome = outcome.await.unwrap_or_else(|_dropped| {
                Err("it was about to be started; try again when it is up".to_owned())
            });
            let name = process.name();
            outcome.map_err(|why| format!("{name} was not replaced: {why}"))?;
            let took = begun.elapsed().as_secs_f64();
            let _ = say.send(Told::Said(format!("{name} replaced in {took:.2} s"))).await;
        }
        let (count, took) = (chosen.len(), start.elapsed().as_secs_f64());
        Ok(format!("{count} processes replaced in {took:.1} s"))
    }

    /// Which are to be replaced, in this order: the stack that is not active, the active one, the edge; of
    /// a stack core first, since an api of the next release may ask for what only that knows.
    fn chosen(&self, order: &Order) -> Vec<&(Process, mpsc::Sender<Replace>)> {
        let active = self.board.status().active;
        let is_chosen = |process: &Process| {
            order.only.as_ref().is_none_or(|only| *only == process.tier)
                && (order.stack.is_none() || order.stack == process.stack)
        };
        let rank = |process: &Process| {
            let of_stack = match &process.stack {
                Some(stack) if *stack != active => 0,
                Some(_active) => 1,
                None => 2,
            };
            (of_stack, process.tier != "core")
        };
        let mut chosen: Vec<_> = self.wishes.iter().filter(|(it, _)| is_chosen(it)).collect();
        chosen.sort_by_key(|(process, _)| rank(process));
        chosen
    }
}

#[cfg(test)]
mod tests {
    use backstop_settings::Layout;

    use super::*;
    use crate::running::Status;

    /// An address at which nobody says which stack is active.
    fn nobody() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[tokio::test]
    async fn the_stack_that_serves_comes_after_the_other_and_the_edge_last() {
        let mut status = Status::stopped(&Layout::new("."), "127.0.0.1:8443");
        for (active, expected) in [
            ("prod", ["core-old-prod", "api-old-prod", "core-prod", "api-prod", "proxy"]),
            ("old-prod", ["core-prod", "api-prod", "core-old-prod", "api-old-prod", "proxy"]),
        ] {
            status.active = active.to_owned();
            let wishes =
                status.processes.iter().cloned().map(|it| (it, mpsc::channel(1).0)).collect();
            let upgrader = Upgrader::new(Board::new(status.clone()), nobody(), wishes);
            let names = |order: &Order| {
                upgrader.chosen(order).iter().map(|(it, _)| it.name()).collect::<Vec<_>>()
            };
            assert_eq!(names(&Order::default()), expected);
            let only = Order { only: Some("api".into()), ..Order::default() };
            assert_eq!(names(&only), [expected[1], expected[3]]);
            let stack = Order { stack: Some("prod".into()), ..Order::default() };
            assert_eq!(names(&stack), ["core-prod", "api-prod"]);
        }
    }

    #[tokio::test]
    async fn a_folder_without_the_programs_is_refused_before_anything_is_replaced() {
        let status = Status::stopped(&Layout::new("."), "127.0.0.1:8443");
        let wishes = status.processes.iter().cloned().map(|it| (it, mpsc::channel(1).0)).collect();
        let upgrader = Upgrader::new(Board::new(status), nobody(), wishes);
        let folder = tempfile::tempdir().unwrap();
        let (say, mut told) = mpsc::channel(1);
        let order = Order { binaries: Some(folder.path().to_owned()), ..Order::default() };
        upgrader.carry_out(&order, &say).await;
        let Some(Told::Failed(why)) = told.recv().await else { panic!("not refused") };
        assert!(why.contains("backstop-core"), "{why}");
    }
}
