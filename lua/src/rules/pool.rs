//! The virtual machines that wait for a call. More are made when calls come at once; few are kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sandbox::Machine;

/// The most machines kept waiting; each holds under 1 MiB.
const MACHINES_KEPT_MAX: usize = 8;

/// Machines that wait. Nobody waits for one.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Machine>>);

impl Pool {
    /// A machine, if one waits. The last one back is the first to go: it is still in the caches.
    pub(super) fn take(&self) -> Option<Machine> {
        self.waiting().pop()
    }

    /// Keeps a machine for the next call, or drops it when enough wait.
    pub(super) fn put_back(&self, machine: Machine) {
        let mut waiting = self.waiting();
        if waiting.len() < MACHINES_KEPT_MAX {
            waiting.push(machine);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Machine>> {
        // A push or pop leaves the list whole even if its thread then panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
