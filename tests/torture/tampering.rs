//! Books that somebody has touched: the audit sees each of it, or it would see nothing.

use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use super::audit::Audit;
use super::demand::Demand;
use super::ground::{Ground, Store};
use super::notes::Notes;
use super::settled::settled;
use super::traffic::Traffic;
use super::watch::Watch;

/// What is done to the books, and what the audit says then.
const DEEDS: [(&str, &str); 9] = [
    ("UPDATE decisions SET score = score + 1 WHERE id = 'order-0'", "rows that differ"),
    ("DELETE FROM decisions WHERE id = 'order-1'", "answers without a row"),
    ("UPDATE decisions SET id = 'order-9999' WHERE id = 'order-2'", "nobody was told"),
    ("DELETE FROM outbox WHERE id = 'order-3'", "not once in the outbox"),
    ("UPDATE decisions SET standing = 'conflict' WHERE id = 'order-4'", "as they should not"),
    ("UPDATE stock SET remaining = remaining + 1 WHERE key = 'sku:ample-0'", "stocks"),
    (
        "UPDATE balances SET balance = balance + 1 \
         WHERE account = (SELECT min(account) FROM balances)",
        "balances",
    ),
    (
        "UPDATE ledger SET amount = amount + 1 WHERE seq = (SELECT min(seq) FROM ledger)",
        "sums of the ledger",
    ),
    (
        "DELETE FROM history WHERE merchant = 'demo' AND key = \
         (SELECT min(key) FROM history WHERE merchant = 'demo')",
        "histories",
    ),
];

/// Lets in a calm load, and audits; does all of these deeds, and audits again. What the first said, and
/// what the second did not see.
pub fn unseen(demand: Demand) -> (Vec<String>, Vec<&'static str>) {
    let ground = Ground::open(Store::Sqlite, &[]);
    let stock = Demand::stock(1_000);
    ground.stock_up(&stock);
    ground.recover();
    let (watch, key) = (Arc::new(Watch::default()), ground.system.key(false));
    let again_within = Duration::from_secs(1);
    let door = ground.system.plain;
    let traffic = Traffic { door, key, demand, first: 0, rate: 80, connections: 16, again_within };
    let running = traffic.start(Notes::default(), watch.clone());
    sleep(Duration::from_secs(2));
    let (notes, asked) = running.stop();
    settled(&ground.system);
    let (watch, ground) = (&*watch, &ground);
    let audit = Audit { demand, notes: &notes, watch, ground, stock: &stock, asked };
    let calm = [notes.complaints(), audit.pass().complaints].concat();

    for (deed, _) in DEEDS {
        ground.books.alter(deed);
    }
    let complaints = audit.pass().complaints.join("\n");
    let is_unseen = |said: &&str| !complaints.contains(*said);
    (calm, DEEDS.map(|(_, said)| said).into_iter().filter(is_unseen).collect())
}
