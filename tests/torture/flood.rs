//! Payments as fast as they are answered, of which only the sums are kept.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::wire::{Reply, Wire};

const CUSTOMERS: usize = 10_000;

/// What is sent.
#[derive(Clone)]
pub struct Flood {
    pub door: SocketAddr,
    pub key: String,
    pub total: usize,
    pub connections: usize,
}

/// What came back.
#[derive(Debug, Default)]
pub struct Poured {
    /// Answers by decision, tier and cause.
    pub told: BTreeMap<(String, String, String), usize>,
    /// Answers with `durable: false`.
    pub undurable: usize,
    /// What came instead of an answer, once each.
    pub wrong: BTreeMap<String, usize>,
    pub took: Duration,
}

struct Shared {
    flood: Flood,
    next: RefCell<usize>,
    poured: RefCell<Poured>,
}

impl Flood {
    /// The id of this number.
    pub fn id(number: usize) -> String {
        format!("debt-{number}")
    }

    /// Sends all of it.
    pub fn pour(self) -> Poured {
        let start = Instant::now();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let connections = self.connections;
        let shared =
            Rc::new(Shared { flood: self, next: RefCell::default(), poured: RefCell::default() });
        let all = async {
            let worker = |_| tokio::task::spawn_local(work(shared.clone()));
            let workers: Vec<_> = (0..connections).map(worker).collect();
            for worker in workers {
                worker.await.unwrap();
            }
        };
        LocalSet::new().block_on(&runtime.unwrap(), all);
        let shared = Rc::into_inner(shared).expect("the workers have ended");
        Poured { took: start.elapsed(), ..shared.poured.into_inner() }
    }
}

/// Sends one after the other, on one connection.
async fn work(shared: Rc<Shared>) {
    let mut wire = Wire::to(shared.flood.door);
    loop {
        let number = shared.next.replace_with(|next| *next + 1);
        if number >= shared.flood.total {
            return;
        }
        let (id, customer) = (Flood::id(number), number % CUSTOMERS);
        let body = format!(
            r#"{{"id":"{id}","policy":"payment","account":"debtor-{customer}","amount":1000,"currency":"GBP","attributes":{{"terminal":"t{customer}"}}}}"#
        );
        let reply = wire.ask(&shared.flood.key, body.into()).await;
        shared.poured.borrow_mut().count(&id, reply);
    }
}

impl Poured {
    fn count(&mut self, id: &str, reply: Result<Reply, String>) {
        let answer = reply.and_then(|reply| {
            let body = String::from_utf8_lossy(&reply.body).into_owned();
            let answer: Value = serde_json::from_str(&body).unwrap_or_default();
            if reply.status == 200 && answer["id"] == id { Ok(answer) } else { Err(body) }
        });
        match answer {
            Ok(answer) => {
                let word = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                let kind = (word("decision"), word("decided_by"), word("cause"));
                *self.told.entry(kind).or_default() += 1;
                self.undurable += usize::from(answer["durable"] != true);
            }
            Err(what) => *self.wrong.entry(what).or_default() += 1,
        }
    }
}
