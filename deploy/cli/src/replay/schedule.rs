//! What is due when: requests by rate or by the file's own time, and what is known of one only later, its
//! label or its cancellation, once the file's time has come to that.
//!
//! What is overdue waits here in due order, and most of it still in the file: a server that stalls
//! makes answers late, but the generator no larger.

use std::collections::btree_map::OccupiedEntry;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use backstop_contract::Timestamp;
use bytes::Bytes;
use hyper::Uri;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::error::ReplayError;
use super::file::Batch;
use super::row::{Later, Row};
use crate::client::Call;
use crate::report::LeftOut;

/// The most labels and cancellations that wait for their time, some 500 MB of them.
const WAITING_MAX: usize = 4_000_000;
/// What is due later, is due then: a century, which no replay lasts.
const REPLAY_SECONDS_MAX: f64 = 3.2e9;

/// How due times follow from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// So many requests a second, evenly.
    Rate(f64),
    /// The file's own time, so many times faster.
    Speedup(f64),
}

/// Which labels are sent, and how late.
#[derive(Clone, Copy, Debug)]
pub struct Labelling {
    /// After the transaction, in the file's time.
    pub after: Duration,
    /// Those of honest transactions too.
    pub honest_too: bool,
}

/// Something to send, and the moment it is due.
#[derive(Clone, Debug)]
pub struct Step {
    /// When it is due, whatever happened before.
    pub due: Instant,
    /// What is sent.
    pub call: Call,
    /// What it is about.
    pub about: About,
}

/// What a step is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// A request for a decision.
    Decision(Ticket),
    /// What a transaction turned out to be.
    Label {
        /// Whether the answer it labels was a stand-in, not final, when last heard of.
        stand_in: bool,
    },
}

/// A request, as it is known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Counted from 0 in the order in which they are due.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// When it happened, in the file's time; absent where that does not matter.
    pub at: Option<Timestamp>,
    /// What it turned out to be, where the file says so.
    pub fraud: Option<bool>,
}

/// What waits for its time.
enum Waiting {
    /// What a transaction turned out to be.
    Label { number: u64, id: String, fraud: bool },
    /// A request that cancels an earlier one.
    Cancel(Box<Row>),
}

/// Everything to send, in the order in which it is due.
pub struct Schedule {
    batches: mpsc::Receiver<Result<Batch, ReplayError>>,
    batch: std::vec::IntoIter<Row>,
    ahead: Option<Row>,
    pacing: Pacing,
    start: Instant,
    first_at: Option<Timestamp>,
    taken: u64,
    labelling: Option<Labelling>,
    /// By when it is due, and the number of the request that it is about.
    waiting: BTreeMap<(Timestamp, u64), Waiting>,
    stand_ins: HashSet<u64>,
    left_out: LeftOut,
    bytes_read: u64,
}

impl Schedule {
    /// A schedule of the rows that come, from `start` on.
    pub fn new(
        batches: mpsc::Receiver<Result<Batch, ReplayError>>,
        pacing: Pacing,
        labelling: Option<Labelling>,
        start: Instant,
    ) -> Self {
        Self {
            batches,
            batch: Vec::new().into_iter(),
            ahead: None,
            pacing,
            start,
            first_at: None,
            taken: 0,
            labelling,
            waiting: BTreeMap::new(),
            stand_ins: HashSet::new(),
            left_out: LeftOut::default(),
            bytes_read: 0,
        }
    }

    /// The next thing to send; `None` at the end of the file. Dropped while it waits, it loses nothing.
    pub async fn next(&mut self) -> Result<Option<Step>, ReplayError> {
        if self.ahead.is_none() {
            self.ahead = self.next_row().await?;
        }
        let Some(row) = &self.ahead else { return Ok(None) };
        // Without a time there is nothing that waits for one, and the pace is a rate.
        let row_at = row.at.unwrap_or_default();
        let first_at = *self.first_at.get_or_insert(row_at);
        let waited = self.waiting.first_entry().filter(|first| first.key().0 <= row_at);
        if let Some(((at, _), waited)) = waited.map(OccupiedEntry::remove_entry) {
            return Ok(Some(self.waited(waited, self.due(first_at, at))));
        }
        let Some(row) = self.ahead.take() else { return Ok(None) };
        let due = self.due(first_at, row_at);
        self.keep_later(&row)?;
        Ok(Some(self.request(row, due)))
    }

    /// A request takes its turn, a cancellation as any other.
    fn request(&mut self, row: Row, due: Instant) -> Step {
        let fraud = row.fraud();
        let ticket = Ticket { number: self.taken, id: row.id, at: row.at, fraud };
        self.taken += 1;
        Step { due, call: Call::decision(row.body), about: About::Decision(ticket) }
    }

    fn waited(&mut self, waited: Waiting, due: Instant) -> Step {
        match waited {
            Waiting::Cancel(row) => self.request(*row, due),
            Waiting::Label { number, id, fraud } => {
                let body: &[u8] = if fraud { br#"{"fraud":true}"# } else { br#"{"fraud":false}"# };
                let call = Call::post(label_path(&id), Bytes::from_static(body));
                let stand_in = self.stand_ins.remove(&number);
                Step { due, call, about: About::Label { stand_in } }
            }
        }
    }

    /// Hears that a request got no final answer, in case its label comes due.
    pub fn not_final(&mut self, ticket: &Ticket) {
        if self.is_labelled(ticket.fraud) {
            self.stand_ins.insert(ticket.number);
        }
    }

    /// Hears when the sending really begins, before the first step is taken.
    pub fn begin(&mut self, start: Instant) {
        self.start = start;
    }

    /// How long after the start this moment is.
    pub fn since_start(&self, moment: Instant) -> Duration {
        moment.saturating_duration_since(self.start)
    }

    /// What was left out so far, what still waits included.
    pub fn left_out(&self) -> LeftOut {
        let mut left_out = self.left_out;
        for waiting in self.waiting.values() {
            match waiting {
                Waiting::Label { .. } => left_out.labels += 1,
                Waiting::Cancel(_) => left_out.cancels += 1,
            }
        }
        left_out
    }

    /// How much of the file has been read, in bytes as it lies on disk.
    pub const fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    async fn next_row(&mut self) -> Result<Option<Row>, ReplayError> {
        loop {
            if let Some(row) = self.batch.next() {
                return Ok(Some(row));
            }
            let Some(batch) = self.batches.recv().await.transpose()? else { return Ok(None) };
            self.left_out.cancels += batch.cancels;
            self.left_out.adjusts += batch.adjusts;
            self.bytes_read = batch.bytes_read;
            self.batch = batch.rows.into_iter();
        }
    }

    fn due(&self, first_at: Timestamp, at: Timestamp) -> Instant {
        let seconds = match self.pacing {
            // A rate has no file time between two rows: a label goes right before the next of them.
            Pacing::Rate(rate) => self.taken as f64 / rate,
            Pacing::Speedup(speedup) => at.distance(first_at).as_secs_f64() / speedup,
        };
        self.start + Duration::from_secs_f64(seconds.clamp(0.0, REPLAY_SECONDS_MAX))
    }

    /// Whether a label will be sent of a request that turned out so.
    fn is_labelled(&self, fraud: Option<bool>) -> bool {
        let Some(labelling) = self.labelling else { return false };
        fraud.is_some_and(|fraud| fraud || labelling.honest_too)
    }

    /// Keeps what is known of a request only after it is sent.
    fn keep_later(&mut self, row: &Row) -> Result<(), ReplayError> {
        let (at, waiting) = match &row.later {
            Some(Later::Cancelled(cancel)) => (cancel.at, Waiting::Cancel(cancel.clone())),
            Some(Later::Fraud(fraud)) if self.is_labelled(Some(*fraud)) => {
                let (number, id) = (self.taken, row.id.clone());
                let label = Waiting::Label { number, id, fraud: *fraud };
                (row.at.map(|at| self.label_due(at)), label)
            }
            _ => return Ok(()),
        };
        if self.waiting.len() == WAITING_MAX {
            return Err(ReplayError::Waiting(WAITING_MAX));
        }
        self.waiting.insert((at.unwrap_or_default(), self.taken), waiting);
        Ok(())
    }

    fn label_due(&self, at: Timestamp) -> Timestamp {
        let after = self.labelling.map_or(Duration::ZERO, |labelling| labelling.after);
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        Timestamp::from_millis(at.as_millis().saturating_add(after))
    }
}

/// The path of an id's label. What a path may not hold is percent-encoded (RFC 3986, 2.1).
fn label_path(id: &str) -> Uri {
    let mut path = String::with_capacity(id.len() + 20);
    path.push_str("/v1/decisions/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.extend(['%', hex(byte >> 4), hex(byte & 15)]);
        }
    }
    path.push_str("/label");
    // Only characters that a path may hold are in it.
    Uri::try_from(path).unwrap_or_default()
}

fn hex(digit: u8) -> char {
    char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A schedule of rows at these seconds; a fraud where it says so.
    fn schedule(rows: &[(i64, bool)], pacing: Pacing, labelling: Option<Labelling>) -> Schedule {
        let (sender, batches) = mpsc::channel(rows.len() + 1);
        for (number, (second, fraud)) in rows.iter().enumerate() {
            let at = Timestamp::from_millis(second * 1000);
            let (id, body) = (format!("txn-{number}"), Bytes::new());
            let later = Some(Later::Fraud(*fraud));
            let row = Row { id, at: Some(at), body, later };
            sender.try_send(Ok(Batch { rows: vec![row], ..Batch::default() })).unwrap();
        }
        Schedule::new(batches, pacing, labelling, Instant::now())
    }

    /// Every step as "what@due in ms".
    async fn steps(schedule: &mut Schedule) -> Vec<String> {
        let mut steps = Vec::new();
        while let Some(step) = schedule.next().await.unwrap() {
            let due = step.due.duration_since(schedule.start).as_millis();
            steps.push(match step.about {
                About::Decision(ticket) => format!("{}@{due}", ticket.id),
                About::Label { .. } => format!("{}@{due}", step.call.path),
            });
        }
        steps
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_spaces_requests_evenly_whatever_the_file_says() {
        let rows = [(100, false), (100, false), (900, false)];
        let mut schedule = schedule(&rows, Pacing::Rate(500.0), None);
        assert_eq!(steps(&mut schedule).await, ["txn-0@0", "txn-1@2", "txn-2@4"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_speedup_keeps_the_rhythm_of_the_file() {
        let rows = [(100, false), (100, false), (160, false)];
        let mut schedule = schedule(&rows, Pacing::Speedup(60.0), None);
        assert_eq!(steps(&mut schedule).await, ["txn-0@0", "txn-1@0", "txn-2@1000"]);
    }

    #[tokio::test(start_paused = true)]
    async fn labels_of_frauds_come_between_the_requests_at_their_own_time() {
        let rows = [(0, true), (2, true), (5, false), (10, false), (11, true), (13, false)];
        let after = Duration::from_secs(8);
        let labelling = Some(Labelling { after, honest_too: false });
        let mut timed = schedule(&rows, Pacing::Speedup(1.0), labelling);
        let expected = [
            "txn-0@0",
            "txn-1@2000",
            "txn-2@5000",
            "/v1/decisions/txn-0/label@8000",
            "/v1/decisions/txn-1/label@10000",
            "txn-3@10000",
            "txn-4@11000",
            "txn-5@13000",
        ];
        assert_eq!(steps(&mut timed).await, expected);
        assert_eq!(timed.left_out().labels, 1, "the file ends before txn-4 is labelled");

        let mut even = schedule(&rows, Pacing::Rate(1.0), labelling);
        let expected = [
            "txn-0@0",
            "txn-1@1000",
            "txn-2@2000",
            "/v1/decisions/txn-0/label@3000",
            "/v1/decisions/txn-1/label@3000",
            "txn-3@3000",
            "txn-4@4000",
            "txn-5@5000",
        ];
        assert_eq!(steps(&mut even).await, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn honest_transactions_are_labelled_when_asked_for() {
        let labelling = Some(Labelling { after: ms(0), honest_too: true });
        let mut schedule = schedule(&[(0, false), (1, true)], Pacing::Speedup(1.0), labelling);
        let mut bodies = Vec::new();
        while let Some(step) = schedule.next().await.unwrap() {
            bodies.push(step.call.body);
        }
        assert_eq!(bodies, ["", r#"{"fraud":false}"#, ""]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_label_knows_whether_its_answer_was_a_stand_in() {
        let labelling = Some(Labelling { after: ms(1000), honest_too: false });
        let rows = [(0, true), (0, true), (9, false)];
        let mut schedule = schedule(&rows, Pacing::Rate(1.0), labelling);
        let mut labels = Vec::new();
        while let Some(step) = schedule.next().await.unwrap() {
            match step.about {
                About::Decision(ticket) if ticket.number == 1 => schedule.not_final(&ticket),
                About::Decision(_) => {}
                About::Label { stand_in } => labels.push(stand_in),
            }
        }
        assert_eq!(labels, [false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancellation_takes_its_turn_when_the_time_of_the_file_has_come_to_it() {
        let row = |id: &str, second: i64, later| Row {
            id: id.to_owned(),
            at: Some(Timestamp::from_millis(second * 1000)),
            body: Bytes::new(),
            later,
        };
        let booking = |number: u64, second, cancelled_at| {
            let cancel = row(&format!("cancel-{number}"), cancelled_at, None);
            let cancel = Some(Later::Cancelled(Box::new(cancel)));
            row(&format!("booking-{number}"), second, cancel)
        };
        let rows = [booking(0, 0, 9), booking(1, 0, 3), booking(2, 5, 90), row("d", 10, None)];
        for (pacing, expected) in [
            (Pacing::Rate(1.0), ["@0", "@1000", "@2000", "@3000", "@4000", "@5000"]),
            (Pacing::Speedup(1.0), ["@0", "@0", "@3000", "@5000", "@9000", "@10000"]),
        ] {
            let (sender, batches) = mpsc::channel(1);
            sender.try_send(Ok(Batch { rows: rows.to_vec(), ..Batch::default() })).unwrap();
            drop(sender);
            let mut schedule = Schedule::new(batches, pacing, None, Instant::now());
            let ids = ["booking-0", "booking-1", "cancel-1", "booking-2", "cancel-0", "d"];
            let expected: Vec<_> =
                ids.iter().zip(expected).map(|(id, due)| format!("{id}{due}")).collect();
            assert_eq!(steps(&mut schedule).await, expected);
            let left_out = LeftOut { cancels: 1, ..LeftOut::default() };
            assert_eq!(schedule.left_out(), left_out, "the file ends before its day");
        }
    }

    #[test]
    fn an_id_of_any_characters_makes_one_path_segment() {
        let cases = [
            ("txn-1", "/v1/decisions/txn-1/label"),
            ("a/b?c", "/v1/decisions/a%2Fb%3Fc/label"),
            ("é ", "/v1/decisions/%C3%A9%20/label"),
        ];
        for (id, path) in cases {
            assert_eq!(label_path(id).to_string(), path);
        }
    }
}
