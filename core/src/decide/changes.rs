//! What a set leaves to be written, in the order of keys.

use std::collections::BTreeSet;

use backstop_engine::effects::Line;

use super::{Booked, Set, Touched};
use crate::store::settled::{PutArrivals, PutDecision, SequenceKey, Was};
use crate::store::{Changes, DecisionKey, Entry, Put, RowKey};

impl Set<'_> {
    /// All that there is to write.
    pub fn changes(&self) -> Changes<'_> {
        // What a later request of the set changed of a new decision is in its row already.
        let new: BTreeSet<&DecisionKey> = self.new.iter().map(|new| &new.key).collect();
        let mut changes = Changes {
            history: self.rows.iter().map(|(key, row)| self.put_history(key, row)).collect(),
            stock: self.holdings.puts_of_stock().collect(),
            balances: self.holdings.puts_of_balances().collect(),
            ledger: self.booked.iter().flat_map(entries).collect(),
            revised: self.revised.iter().map(|(key, at)| (key, *at)).collect(),
            discrepancies: self.discrepancies.iter().collect(),
            arrivals: self.arrived.iter().filter_map(|key| self.put_arrivals(key)).collect(),
            ..Changes::default()
        };
        for new in &self.new {
            let decided = self.known.get(&new.key).map(|decided| (new.question, decided));
            changes.decided.extend(decided);
        }
        changes.decided.sort_unstable_by_key(|(asked, _)| (&asked.merchant, &asked.request.id));
        for (key, was) in self.touched.iter().filter(|(key, _)| !new.contains(key)) {
            let Some(decided) = self.known.get(key) else { continue };
            let Touched { standing, cancelled_by, fraud, is_restated } = was;
            let cancelled_by = cancelled_by.as_deref();
            let was = Was { standing: *standing, cancelled_by, fraud: *fraud };
            let put = PutDecision { key, decided, was };
            if *is_restated {
                changes.restated.push(put);
            } else if (cancelled_by, *fraud) != (decided.cancelled_by.as_deref(), decided.fraud) {
                changes.marked.push(put);
            }
        }
        changes
    }

    fn put_history<'s>(&'s self, key: &'s RowKey, row: &'s [u8]) -> Put<'s, [u8]> {
        let was = self.history.get(key).map_or(0, |loaded| loaded.version);
        Put { merchant: &key.merchant, key: &key.key, value: row, was }
    }

    fn put_arrivals<'s>(&'s self, key: &'s SequenceKey) -> Option<PutArrivals<'s>> {
        let arrivals = self.arrivals.get(key)?;
        Some(PutArrivals { key, arrivals: &arrivals.value, was: arrivals.version })
    }
}

/// What moved, as lines of the ledger.
fn entries(booked: &Booked) -> impl Iterator<Item = Entry<'_>> {
    let Booked { by, account, moves, is_undone, at } = booked;
    let made = (!is_undone).then(|| moves.lines(account));
    let undone = is_undone.then(|| moves.opposite_lines(account));
    let lines = made.into_iter().flatten().chain(undone.into_iter().flatten());
    lines.map(|Line { debit, credit, unit, amount }| Entry {
        merchant: &by.merchant,
        id: &by.id,
        debit,
        credit,
        unit,
        // Moves are made within ±(2^53 - 1), or not at all.
        amount: amount.cast_signed(),
        at: *at,
    })
}
