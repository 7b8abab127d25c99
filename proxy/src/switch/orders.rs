//! What an operator orders, obeyed: checked, written down, in force, answered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use backstop_contract::order::What;
use backstop_contract::{Order, Problem, Stack, Timestamp};
use backstop_settings::audit::Record;

use crate::switch::choice::{Choice, Hand, Kind, NothingBefore};
use crate::switch::papers::Papers;
use crate::switch::standing::Unready;
use crate::switch::{Switch, lock};

/// An order that was obeyed, or would be.
#[derive(Debug)]
pub struct Done {
    /// What was in force.
    pub before: Arc<Choice>,
    /// What is now, or would be.
    pub after: Arc<Choice>,
    /// Whether it is only said what would be.
    pub is_dry_run: bool,
    /// From the order to the first request that it holds for.
    pub took: Duration,
    /// Whether it survives a restart.
    pub is_written: bool,
    /// Why a stack that now serves ought not to, though it was forced.
    pub unready: Option<(Stack, Unready)>,
}

/// Why an order was not obeyed.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The stack is cold or ill.
    #[error("{0} is not ready: {1}")]
    NotReady(Stack, Unready),
    /// There is nothing to undo.
    #[error("nothing was ever ordered")]
    NothingBefore,
    /// The stack serves all requests anyway.
    #[error("{0} is active, and has all requests but pinned ones anyway")]
    Active(Stack),
    /// As many merchants as may be are pinned.
    #[error("{0} merchants are pinned already")]
    Pins(usize),
    /// The disk did not take it.
    #[error("the choice could not be written: {0}")]
    Unwritten(#[source] io::Error),
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::NotReady(..) => Self::stack_not_ready(detail),
            Refused::NothingBefore => Self::nothing_to_undo(),
            Refused::Active(stack) => {
                Self::field("/to", detail, format!("send {}, or null for no canary", stack.other()))
            }
            Refused::Pins(_) => {
                let remedy = "take a pin away first, or raise pins_max in backstop.toml";
                Self::field("/merchant", detail, remedy)
            }
            Refused::Unwritten(_) => Self::unwritten(detail),
        }
    }
}

impl Switch {
    /// Does what an operator orders. It holds when this returns, for every request that comes after; an
    /// operator who goes away meanwhile cancels nothing.
    pub async fn obey(self: &Arc<Self>, order: Order) -> Result<Done, Refused> {
        let switch = self.clone();
        let obeying = tokio::spawn(async move { switch.obey_to_the_end(order).await });
        obeying.await.unwrap_or_else(|gone| Err(Refused::Unwritten(io::Error::other(gone))))
    }

    async fn obey_to_the_end(&self, order: Order) -> Result<Done, Refused> {
        let begun = Instant::now();
        let _turn = self.turn.lock().await;
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Refused::Unwritten(io::Error::other(
                "a successor of this edge takes orders",
            )));
        }
        let before = self.stacks.choice();
        let after = self.next(&before, &order)?;
        let unready = self.check(&before, &after, &order)?;
        if order.dry_run {
            let after = Arc::new(after);
            let took = Duration::ZERO;
            return Ok(Done { before, after, is_dry_run: true, took, is_written: true, unready });
        }
        let record = record(&before, &after, &order, unready.as_ref());
        self.take(after, record, order.force, begun).await.map(|(after, took, is_written)| Done {
            before,
            after,
            is_dry_run: false,
            took,
            is_written,
            unready,
        })
    }

    /// The choice that an order makes of this one.
    fn next(&self, before: &Choice, order: &Order) -> Result<Choice, Refused> {
        let kind = match order.what {
            What::Switch(_) => Kind::Switch,
            What::Undo => Kind::Undo,
            What::Canary(_) => Kind::Canary,
            What::Pin { .. } => Kind::Pin,
        };
        let reason = match (&order.what, order.reason.as_str()) {
            (What::Undo, "") => format!("undo of {}: {}", before.generation, before.reason),
            (_, reason) => reason.to_owned(),
        };
        let hand = Hand { kind, at: Timestamp::now(), who: order.who.clone(), reason };
        let next = before.ordered(&order.what, order.lasts, hand);
        let next = next.map_err(|NothingBefore| Refused::NothingBefore)?;
        if next.pins.len() > std::cmp::max(self.settings.pins_max, before.pins.len()) {
            return Err(Refused::Pins(self.settings.pins_max));
        }
        match order.what {
            What::Canary(Some(canary)) if canary.to == next.course.active => {
                Err(Refused::Active(canary.to))
            }
            _ => Ok(next),
        }
    }

    /// Whether every stack that gets more by it is ready. Why one is not, where that is forced.
    fn check(
        &self,
        before: &Choice,
        after: &Choice,
        order: &Order,
    ) -> Result<Option<(Stack, Unready)>, Refused> {
        let new_active = Some(after.course.active).filter(|it| *it != before.course.active);
        let is_new = after.course.canary != before.course.canary;
        let new_canary = after.course.canary.filter(|_| is_new).map(|canary| canary.to);
        let new_pin = match &order.what {
            What::Pin { to, .. } => *to,
            _ => None,
        };
        let unready = [new_active, new_canary, new_pin]
            .into_iter()
            .flatten()
            .find_map(|stack| self.unready(stack).map(|why| (stack, why)));
        match unready {
            Some((stack, why)) if !order.force => Err(Refused::NotReady(stack, why)),
            unready => Ok(unready),
        }
    }

    /// Why a stack is not warm and healthy; none where it is.
    pub fn unready(&self, stack: Stack) -> Option<Unready> {
        let (mut watch, now) = (lock(&self.watch), Instant::now());
        watch.evidence.advance(now);
        let standings = self.standings(&watch.signs, now);
        stack.of(&standings).unready(stack, &watch.evidence, &self.settings, now)
    }

    /// Writes a choice, puts it in force, and says so in the log. The turn is held by the caller. Where
    /// the disk does not take it, it holds all the same if that is forced, and is written later.
    pub(super) async fn take(
        &self,
        mut next: Choice,
        mut record: Record,
        is_forced: bool,
        begun: Instant,
    ) -> Result<(Arc<Choice>, Duration, bool), Refused> {
        next.generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        record.generation = next.generation;
        let next = Arc::new(next);
        let written = self.write(next.clone()).await;
        // Of a write that failed, or is still under way, nobody knows what the disk has: it is written
        // anew, until that succeeds.
        self.is_written.store(written.is_ok(), Ordering::Release);
        match written {
            Err(error) if !is_forced => return Err(Refused::Unwritten(error)),
            Err(ref error) => tracing::error!(%error, "the choice holds, and is not written"),
            Ok(()) => {}
        }
        self.stacks.set(next.clone());
        let took = begun.elapsed();
        self.metrics.switched(next.what.as_str());
        tracing::warn!(
            active = %next.course.active, next.generation, next.who, ?took, "{}", next.reason
        );
        self.note(record).await;
        if written.is_ok() {
            let kept = next.clone();
            let _without_it_the_last_copy_does =
                self.on_disk(move |papers| papers.keep(&kept)).await;
        }
        Ok((next, took, written.is_ok()))
    }

    /// Writes a choice to the disk, or gives up waiting for that.
    pub(super) async fn write(&self, choice: Arc<Choice>) -> io::Result<()> {
        self.on_disk(move |papers| papers.write(&choice)).await?
    }

    /// Appends to the log, and keeps the line in mind.
    pub(super) async fn note(&self, record: Record) {
        self.remember(record.clone());
        lock(&self.lines).push(record);
        self.write_lines().await;
    }

    /// Keeps a line of the log in mind.
    pub(crate) fn remember(&self, record: Record) {
        let mut history = lock(&self.history);
        while history.len() >= self.settings.history_max {
            history.pop_front();
        }
        history.push_back(record);
    }

    /// Hands the lines over that wait.
    pub(super) async fn write_lines(&self) {
        let lines = self.lines.clone();
        let written = self.on_disk(move |papers| {
            let lines = std::mem::take(&mut *lock(&lines));
            for line in lines {
                papers.note(line);
            }
            papers.flush();
        });
        if let Err(error) = written.await {
            tracing::error!(%error, "the audit log waits for the disk");
        }
    }

    /// Does something with the files where it holds nobody up. While one hangs on a disk, no other begins.
    pub(crate) async fn on_disk<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Papers) -> R + Send + 'static,
    ) -> io::Result<R> {
        let papers = self.papers.clone();
        let working = async move {
            let mut papers = papers.lock_owned().await;
            spawn_blocking(move || work(&mut papers)).await.map_err(io::Error::other)
        };
        timeout(self.settings.write_time_max, working).await?
    }
}

/// The line about an order.
fn record(
    before: &Choice,
    after: &Choice,
    order: &Order,
    unready: Option<&(Stack, Unready)>,
) -> Record {
    let mut numbers = Map::new();
    let mut add = |name: &str, value: Value| drop(numbers.insert(name.to_owned(), value));
    if let Some(lasts) = order.lasts {
        add("for_seconds", json!(lasts.as_secs()));
    }
    if let Some((stack, why)) = unready {
        add("forced", json!(format!("{stack} is not ready: {why}")));
    }
    if before.course.canary != after.course.canary {
        add("canary", json!(after.course.canary.map(|canary| canary.to_string())));
    }
    if let What::Pin { merchant, to } = &order.what {
        add("pin", json!({ "merchant": merchant, "to": to }));
    }
    Record { numbers, ..line_of(before, after) }
}

/// The line about a choice that takes the place of another.
pub(super) fn line_of(before: &Choice, after: &Choice) -> Record {
    Record {
        at: after.since,
        who: after.who.clone(),
        what: after.what.as_str().to_owned(),
        generation: after.generation,
        from: before.course.active.to_string(),
        to: after.course.active.to_string(),
        reason: after.reason.clone(),
        numbers: Map::new(),
    }
}
