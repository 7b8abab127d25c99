//! The open loop. Every request is due at a moment that nothing can move; a server that stalls makes
//! its own answers late, and everything that fell due meanwhile, as it would for a merchant.
//!
//! One task sends and counts. A step that is due takes the connection that was idle for the shortest
//! time, or waits, in due order, for the next one that comes free.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use hyper::header::CONNECTION;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::error::ReplayError;
use super::outcome::{self, Landed, Outcome, Unanswered};
use super::pace::Pace;
use super::schedule::{About, Schedule, Step};
use crate::client::{Answer, Broken, Call, Client, ClientError, Connection};

/// A connection idle for longer is not used again: the edge closes it at some such age, and a request
/// sent into that moment would be lost.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// Between two tries of one request, so that a few retries outlast a restart.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What is put under load.
pub trait Peer: Clone + Send + 'static {
    /// One of its connections.
    type Line: Line;
    /// Opens a connection.
    fn open(&self) -> impl Future<Output = Result<Self::Line, ClientError>> + Send;
}

/// A connection; it carries one call at a time.
pub trait Line: Send + 'static {
    /// Whether the other side has not hung up, as far as is known here.
    fn is_open(&self) -> bool;
    /// Sends a call and waits for the whole answer.
    fn exchange(&mut self, call: &Call) -> impl Future<Output = Result<Answer, Broken>> + Send;
}

impl Peer for Client {
    type Line = Connection;

    fn open(&self) -> impl Future<Output = Result<Connection, ClientError>> + Send {
        Client::open(self)
    }
}

impl Line for Connection {
    fn is_open(&self) -> bool {
        Connection::is_open(self)
    }

    fn exchange(&mut self, call: &Call) -> impl Future<Output = Result<Answer, Broken>> + Send {
        Connection::exchange(self, call)
    }
}

/// What a replay may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections open at once.
    pub connections: usize,
    /// How often a request without an answer is sent again.
    pub retries: u64,
    /// The longest wait for one answer.
    pub give_up: Duration,
}

/// How a replay went with its connections, and how it ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// Connections opened before the first request.
    pub opened: u64,
    /// Idle connections that the other side closed.
    pub lost: u64,
    /// From the first moment due to the last answer.
    pub elapsed: Duration,
    /// Whether it was stopped before the end of the file.
    pub stopped: bool,
    /// What was wrong with the file; what was sent before has been answered and counted.
    pub error: Option<ReplayError>,
}

/// Sends everything at the moment it is due until the schedule ends or `enough` resolves, then waits for
/// the answers still on their way. `record` hears of every step once, when it is over.
pub async fn drive<P: Peer>(
    peer: &P,
    schedule: &mut Schedule,
    bounds: Bounds,
    pace: &mut Pace,
    enough: impl Future<Output = ()>,
    mut record: impl FnMut(&Schedule, &Landed),
) -> Result<Ending, ReplayError> {
    let mut enough = pin!(enough);
    let mut ending = Ending::default();
    let mut lines = open_all(peer, bounds.connections).await?;
    ending.opened = lines.idle.len() as u64;
    let mut flights: JoinSet<(Landed, Option<P::Line>)> = JoinSet::new();
    let mut next = None;
    let mut more = true;
    let start = Instant::now();
    schedule.begin(start);
    loop {
        if more && next.is_none() {
            match schedule.next().await {
                Ok(ahead) => next = ahead,
                Err(error) => ending.error = Some(error),
            }
            more = next.is_some();
        }
        let due = next.as_ref().map(|step| step.due).filter(|_| flights.len() < bounds.connections);
        tokio::select! {
            biased;
            () = &mut enough, if more => (next, more, ending.stopped) = (None, false, true),
            Some(flight) = flights.join_next() => {
                let (landed, line) = flight.map_err(|lost| ReplayError::Run(lost.into()))?;
                lines.take_back(line, landed.ended);
                note(schedule, &landed);
                record(schedule, &landed);
            }
            () = pace.until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                if let Some(step) = next.take() {
                    let line = lines.lend(Instant::now(), &mut ending.lost);
                    flights.spawn(fly(peer.clone(), line, step, bounds));
                }
            }
            else => break,
        }
    }
    ending.elapsed = start.elapsed();
    Ok(ending)
}

/// A label says later what its request was answered with, so the schedule must know.
fn note(schedule: &mut Schedule, landed: &Landed) {
    let About::Decision(ticket) = &landed.step.about else { return };
    if !matches!(&landed.outcome, Outcome::Decided(brief) if brief.is_final) {
        schedule.not_final(ticket);
    }
}

/// Connections that carry nothing, the one last used on top.
struct Lines<L> {
    idle: Vec<(L, Instant)>,
}

impl<L: Line> Lines<L> {
    /// The freshest idle connection that is open; none, when a new one must be opened.
    fn lend(&mut self, now: Instant, lost: &mut u64) -> Option<L> {
        while let Some((line, since)) = self.idle.pop() {
            if now.saturating_duration_since(since) > IDLE_MAX {
                // All below it are older still.
                self.idle.clear();
            } else if line.is_open() {
                return Some(line);
            } else {
                *lost += 1;
            }
        }
        None
    }

    fn take_back(&mut self, line: Option<L>, now: Instant) {
        self.idle.extend(line.map(|line| (line, now)));
    }
}

/// Opens every connection before the first request is due, so that no answer waits for a handshake.
async fn open_all<P: Peer>(peer: &P, connections: usize) -> Result<Lines<P::Line>, ReplayError> {
    let mut opening = JoinSet::new();
    for _ in 0..connections {
        let peer = peer.clone();
        opening.spawn(async move { peer.open().await });
    }
    let mut lines = Lines { idle: Vec::with_capacity(connections) };
    while let Some(line) = opening.join_next().await {
        let line = line.map_err(|lost| ReplayError::Run(lost.into()))??;
        lines.idle.push((line, Instant::now()));
    }
    Ok(lines)
}

/// One step from the moment it is sent until it is over, with the connection if it can be used again.
async fn fly<P: Peer>(
    peer: P,
    mut line: Option<P::Line>,
    step: Step,
    bounds: Bounds,
) -> (Landed, Option<P::Line>) {
    let (mut sent, mut retries, mut opened, mut lost) = (None, 0, 0, 0);
    loop {
        let reused = line.is_some();
        let why = match line.take() {
            Some(line) => Ok(line),
            None => peer.open().await.inspect(|_line| opened += 1),
        };
        let why = match why {
            Err(_not_opened) => Unanswered::NoConnection,
            Ok(mut line) => {
                sent = Some(Instant::now());
                match timeout(bounds.give_up, line.exchange(&step.call)).await {
                    Ok(Ok(answer)) => {
                        let ended = Instant::now();
                        let outcome = outcome::read(&step.about, &answer);
                        let landed = Landed { step, outcome, sent, ended, retries, opened, lost };
                        // One that the edge said it would close is not lost.
                        return (landed, Some(line).filter(|_| !is_last(&answer)));
                    }
                    // It never left, so another connection repeats nothing. A new one that does this
                    // too counts as broken, or this would never end.
                    Ok(Err(Broken::NeverSent)) if reused => {
                        lost += 1;
                        continue;
                    }
                    Ok(Err(_broken)) => Unanswered::ConnectionBroke,
                    Err(_elapsed) => Unanswered::GaveUp,
                }
            }
        };
        lost += u64::from(why != Unanswered::NoConnection);
        if retries == bounds.retries {
            let (ended, outcome) = (Instant::now(), Outcome::Unanswered(why));
            return (Landed { step, outcome, sent, ended, retries, opened, lost }, None);
        }
        retries += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether this was the last answer on its connection (RFC 9112, section 9.6).
fn is_last(answer: &Answer) -> bool {
    let said = answer.headers.get(CONNECTION).and_then(|value| value.to_str().ok());
    said.is_some_and(|said| said.eq_ignore_ascii_case("close"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};
    use tokio::sync::mpsc;

    use super::super::file::Batch;
    use super::super::row::Row;
    use super::super::schedule::Pacing;
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// What a server does with one call.
    #[derive(Clone, Copy)]
    enum Does {
        /// Answers after so long.
        Answers(Duration),
        /// Hangs up after so long.
        HangsUp(Duration),
        /// Had hung up before.
        HasHungUp,
    }

    /// A server that does to a call what it is told, by the call's number and the time since the start.
    #[derive(Clone)]
    struct Server {
        start: Instant,
        calls: Arc<AtomicU64>,
        does: fn(u64, Duration) -> Does,
    }

    impl Peer for Server {
        type Line = Self;

        async fn open(&self) -> Result<Self, ClientError> {
            Ok(self.clone())
        }
    }

    impl Line for Server {
        fn is_open(&self) -> bool {
            true
        }

        async fn exchange(&mut self, call: &Call) -> Result<Answer, Broken> {
            let number = self.calls.fetch_add(1, Ordering::Relaxed);
            match (self.does)(number, self.start.elapsed()) {
                Does::Answers(after) => tokio::time::sleep(after).await,
                Does::HasHungUp => return Err(Broken::NeverSent),
                Does::HangsUp(after) => {
                    tokio::time::sleep(after).await;
                    return Err(Broken::Midway);
                }
            }
            let id = String::from_utf8_lossy(&call.body);
            let body = format!(
                r#"{{"id":"{id}","decision":"approve","decided_by":"core","cause":null,"final":true,
                    "budget_ms":300,"elapsed_ms":1}}"#
            );
            Ok(Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() })
        }
    }

    const BOUNDS: Bounds = Bounds { connections: 4, retries: 0, give_up: ms(30_000) };

    /// Sends `requests` at 1,000 a second. The body of a request is its id.
    async fn replay(
        requests: u64,
        bounds: Bounds,
        enough: impl Future<Output = ()>,
        does: fn(u64, Duration) -> Does,
    ) -> (Ending, Vec<Landed>) {
        let (sender, batches) = mpsc::channel(1);
        let row = |number: u64| {
            let id = format!("txn-{number}");
            Row { at: None, body: Bytes::from(id.clone()), id, later: None }
        };
        let rows = (0..requests).map(row).collect();
        sender.try_send(Ok(Batch { rows, ..Batch::default() })).unwrap();
        drop(sender);
        let start = Instant::now();
        let mut schedule = Schedule::new(batches, Pacing::Rate(1000.0), None, start);
        let server = Server { start, calls: Arc::default(), does };
        let mut landed = Vec::new();
        let ending =
            drive(&server, &mut schedule, bounds, &mut Pace::Coarse, enough, |_, flight| {
                let (step, outcome) = (flight.step.clone(), flight.outcome.clone());
                landed.push(Landed { step, outcome, ..*flight });
            })
            .await
            .unwrap();
        (ending, landed)
    }

    fn number(landed: &Landed) -> u64 {
        match &landed.step.about {
            About::Decision(ticket) => ticket.number,
            About::Label { .. } => panic!("a label"),
        }
    }

    fn answered(landed: &Landed) -> bool {
        matches!(landed.outcome, Outcome::Decided(_))
    }

    /// A load generator that waits for an answer before it sends the next request would see four slow
    /// answers here and call the server fast. A merchant's customers would not.
    #[tokio::test(start_paused = true)]
    async fn a_stall_shows_in_everything_that_fell_due_meanwhile() {
        let (_, landed) = replay(1000, BOUNDS, std::future::pending(), |_, at| {
            let stalled = at >= ms(200) && at < ms(700);
            Does::Answers(if stalled { ms(701).saturating_sub(at) } else { ms(1) })
        })
        .await;
        assert!(landed.len() == 1000 && landed.iter().all(answered));
        let late = |took: Duration| took > ms(100);
        let sent_into_it = landed.iter().filter(|landed| late(landed.service().unwrap())).count();
        assert_eq!(sent_into_it, BOUNDS.connections);
        let hurt = landed.iter().filter(|landed| late(landed.latency())).count();
        assert!((400..=600).contains(&hurt), "{hurt}");
        let worst = landed.iter().map(Landed::latency).max().unwrap();
        assert!((ms(500)..ms(504)).contains(&worst), "{worst:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_sent_in_the_order_in_which_it_was_due() {
        let does = |_, _| Does::Answers(ms(10));
        let (_, mut landed) = replay(200, BOUNDS, std::future::pending(), does).await;
        landed.sort_by_key(number);
        assert!(landed.is_sorted_by_key(|landed| landed.sent));
        let last = landed.last().unwrap();
        // The fourth connection begins after 3 ms and carries 50, 10 ms each; the last was due after 199.
        assert_eq!(last.latency(), ms(3 + 50 * 10 - 199));
        assert_eq!(last.service(), Some(ms(10)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_whose_connection_broke_is_unanswered_and_not_sent_again() {
        let does = |call, _| if call == 3 { Does::HangsUp(ms(5)) } else { Does::Answers(ms(1)) };
        let (_, landed) = replay(10, BOUNDS, std::future::pending(), does).await;
        let broken: Vec<_> = landed.iter().filter(|landed| !answered(landed)).collect();
        assert_eq!(broken.len(), 1);
        assert_eq!(broken[0].outcome, Outcome::Unanswered(Unanswered::ConnectionBroke));
        assert_eq!((number(broken[0]), broken[0].retries, broken[0].lost), (3, 0, 1));
        assert_eq!(landed.len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_retry_is_counted_and_its_latency_still_counts_from_when_it_was_due() {
        let does = |call, _| if call < 2 { Does::HangsUp(ms(5)) } else { Does::Answers(ms(1)) };
        let bounds = Bounds { retries: 2, ..BOUNDS };
        let (_, landed) = replay(1, bounds, std::future::pending(), does).await;
        assert!(answered(&landed[0]));
        assert_eq!((landed[0].retries, landed[0].lost, landed[0].opened), (2, 2, 2));
        assert_eq!(landed[0].latency(), ms(5 + 100 + 5 + 100 + 1));
        assert_eq!(landed[0].service(), Some(ms(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_left_goes_out_on_a_new_connection() {
        let does = |call, _| if call == 0 { Does::HasHungUp } else { Does::Answers(ms(1)) };
        let (_, landed) = replay(1, BOUNDS, std::future::pending(), does).await;
        assert!(answered(&landed[0]));
        assert_eq!((landed[0].retries, landed[0].lost, landed[0].opened), (0, 1, 1));

        let (_, landed) = replay(1, BOUNDS, std::future::pending(), |_, _| Does::HasHungUp).await;
        assert_eq!(landed[0].outcome, Outcome::Unanswered(Unanswered::ConnectionBroke));
        assert_eq!(landed[0].lost, 2, "the new connection is not forgiven");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_given_up_in_the_end() {
        let does = |call, _| Does::Answers(if call == 0 { ms(3_600_000) } else { ms(1) });
        let (_, landed) = replay(3, BOUNDS, std::future::pending(), does).await;
        let last = landed.last().unwrap();
        assert_eq!(last.outcome, Outcome::Unanswered(Unanswered::GaveUp));
        assert_eq!((number(last), last.latency()), (0, BOUNDS.give_up));
    }

    #[tokio::test(start_paused = true)]
    async fn when_stopped_it_sends_no_more_and_waits_for_what_it_sent() {
        let does = |_, _| Does::Answers(ms(50));
        let bounds = Bounds { connections: 64, ..BOUNDS };
        let (ending, landed) = replay(1000, bounds, tokio::time::sleep(ms(20)), does).await;
        assert!(ending.stopped && landed.iter().all(answered));
        assert!((19..=22).contains(&landed.len()), "{}", landed.len());
    }
}
