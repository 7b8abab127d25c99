//! What breaks, when, and how it is mended again.

use super::event::{Event, Fault, Place};
use super::world::{STACKS, World};

/// A process that was killed is back after this long, usually; other faults last as long.
const MENDED_AFTER: u64 = 300_000;

impl World {
    /// Foresees the first of each kind; each foresees the next.
    pub fn foresee_faults(&mut self) {
        for kind in 0..KINDS {
            self.foresee_next(kind);
        }
    }

    fn foresee_next(&mut self, kind: u64) {
        let faults = &self.plan.faults;
        let usual = match kind {
            0 => faults.edge_kill,
            1 => faults.power_cut,
            2 => faults.api_kill,
            3 => faults.core_kill,
            4 => faults.database_outage,
            5 => faults.partition,
            6 => faults.disk_full,
            7 => faults.disk_slow,
            8 => faults.sync_fails,
            _ => faults.switch,
        };
        if usual == 0 {
            return;
        }
        let edge = self.some(self.edges.len());
        let stack = self.some(STACKS);
        let fault = match kind {
            0 => Fault::Kill(Place::Edge(edge)),
            1 => Fault::PowerCut(edge),
            2 => Fault::Kill(Place::Api(stack)),
            3 => Fault::Kill(Place::Core(stack)),
            4 => Fault::Database,
            5 if self.dice.permille(500) => Fault::Partition(Place::Edge(edge), Place::Api(stack)),
            5 => Fault::Partition(Place::Api(stack), Place::Core(stack)),
            6 => Fault::DiskFull(edge),
            7 => Fault::DiskSlow(edge),
            8 => Fault::SyncFails(edge),
            _ => Fault::Switch,
        };
        let wait = self.dice.between(usual / 4, usual * 2);
        if self.now + wait < self.plan.lasts {
            self.foresee(wait, Event::Fault(fault));
        }
    }

    fn some(&mut self, of: usize) -> usize {
        usize::try_from(self.dice.below(of as u64)).unwrap()
    }

    /// A fault begins.
    pub fn strike(&mut self, fault: Fault) {
        if self.is_healed {
            return;
        }
        self.foresee_next(kind(fault));
        self.count(name(fault));
        match fault {
            Fault::Kill(Place::Edge(node)) => self.kill_edge(node, false),
            Fault::PowerCut(node) => self.kill_edge(node, true),
            Fault::Kill(Place::Api(stack)) => self.apis[stack].kill(),
            Fault::Kill(Place::Core(stack)) => self.cores[stack].kill(),
            Fault::Kill(Place::Clients) => {}
            Fault::Database => self.is_database_up = false,
            Fault::Partition(one, other) => drop(self.cut.insert((one, other))),
            Fault::DiskFull(node) => self.edges[node].disk.is_full = true,
            Fault::DiskSlow(node) => self.edges[node].disk.is_slow = true,
            Fault::SyncFails(node) => self.edges[node].disk.syncs_fail = true,
            Fault::Switch => self.active = (self.active + 1) % STACKS,
        }
        let lasts = self.dice.wait(MENDED_AFTER);
        self.foresee(lasts, Event::Heal(fault));
    }

    /// It ends.
    pub fn mend(&mut self, fault: Fault) -> Result<(), String> {
        match fault {
            Fault::Kill(Place::Edge(node)) | Fault::PowerCut(node) => {
                if !self.edges[node].is_up() {
                    self.start_edge(node)?;
                }
            }
            Fault::Kill(Place::Api(stack)) if !self.apis[stack].is_up => self.apis[stack].restart(),
            Fault::Kill(Place::Core(stack)) if !self.cores[stack].is_up => {
                self.cores[stack].restart();
            }
            Fault::Kill(_) | Fault::Switch => {}
            Fault::Database => self.is_database_up = true,
            Fault::Partition(one, other) => drop(self.cut.remove(&(one, other))),
            Fault::DiskFull(node) => self.edges[node].disk.is_full = false,
            Fault::DiskSlow(node) => self.edges[node].disk.is_slow = false,
            Fault::SyncFails(node) => self.edges[node].disk.syncs_fail = false,
        }
        Ok(())
    }

    /// All of it ends, and nothing breaks any more.
    pub fn heal(&mut self) -> Result<(), String> {
        self.is_healed = true;
        self.trace(|| "everything heals".to_owned());
        self.cut.clear();
        self.is_database_up = true;
        for stack in 0..STACKS {
            self.mend(Fault::Kill(Place::Api(stack)))?;
            self.mend(Fault::Kill(Place::Core(stack)))?;
        }
        for node in 0..self.edges.len() {
            self.mend(Fault::DiskFull(node))?;
            self.mend(Fault::DiskSlow(node))?;
            self.mend(Fault::SyncFails(node))?;
            self.mend(Fault::Kill(Place::Edge(node)))?;
        }
        Ok(())
    }
}

const KINDS: u64 = 10;

const fn kind(fault: Fault) -> u64 {
    match fault {
        Fault::Kill(Place::Edge(_)) => 0,
        Fault::PowerCut(_) => 1,
        Fault::Kill(Place::Api(_) | Place::Clients) => 2,
        Fault::Kill(Place::Core(_)) => 3,
        Fault::Database => 4,
        Fault::Partition(..) => 5,
        Fault::DiskFull(_) => 6,
        Fault::DiskSlow(_) => 7,
        Fault::SyncFails(_) => 8,
        Fault::Switch => 9,
    }
}

const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Kill(Place::Edge(_)) => "edge killed",
        Fault::PowerCut(_) => "power cut",
        Fault::Kill(Place::Api(_) | Place::Clients) => "api killed",
        Fault::Kill(Place::Core(_)) => "core killed",
        Fault::Database => "database gone",
        Fault::Partition(..) => "partition",
        Fault::DiskFull(_) => "disk full",
        Fault::DiskSlow(_) => "disk slow",
        Fault::SyncFails(_) => "sync fails",
        Fault::Switch => "switch of stacks",
    }
}
