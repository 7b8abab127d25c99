//! What the switch does by itself, a few times a second: looks at the evidence and acts on it, ends what
//! has come to its end, and writes what the disk did not take at first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::MutexGuard;
use tokio::time::{Instant, MissedTickBehavior, interval};

use backstop_contract::{Stack, Timestamp};
use backstop_settings::audit::Record;

use crate::switch::charge::length;
use crate::switch::choice::{Choice, Course, Hand, Kind};
use crate::switch::orders::line_of;
use crate::switch::papers::{self, NOBODY};
use crate::switch::pilot::{Act, Finding, View};
use crate::switch::standing::Unready;
use crate::switch::{Switch, lock};

/// The switch as a service of the edge.
pub struct Routine(pub Arc<Switch>);

#[async_trait]
impl BackgroundService for Routine {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut looks = interval(self.0.settings.look_every);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = looks.tick() => self.0.look().await,
            }
        }
    }
}

impl Switch {
    /// One look.
    pub(super) async fn look(&self) {
        if self.is_closed() {
            return;
        }
        let at = Timestamp::now();
        let choice = self.stacks.choice();
        if let Some(finding) = self.find(&choice, at) {
            self.act(finding, &choice, at).await;
        }
        self.end_what_is_over(at).await;
        self.catch_up().await;
    }

    /// What the pilot finds in what was counted up to now, under this choice; and how much is mirrored from
    /// now on.
    fn find(&self, choice: &Choice, at: Timestamp) -> Option<Finding> {
        let now = Instant::now();
        let mut watch = lock(&self.watch);
        let watch = &mut *watch;
        for stack in Stack::ALL {
            let counts = stack.of(&self.tallies).take();
            watch.evidence.served(stack, counts, now);
            stack.of_mut(&mut watch.signs).bad_at = self.bad_at(stack);
        }
        watch.evidence.end_moment(now);
        let standings = self.standings(&watch.signs, now);
        let view = View { now, at, choice, evidence: &watch.evidence, standings: &standings };
        watch.doubt = watch.doubter.look(&view);
        let percent = watch.doubter.percent(watch.doubt);
        self.mirror_percent.store(percent, Ordering::Relaxed);
        let finding = watch.pilot.look(view)?;
        watch.finding = Some(finding.sentence.clone());
        Some(finding)
    }

    async fn act(&self, finding: Finding, choice: &Choice, at: Timestamp) {
        let what = match finding.act {
            Act::Take(course) => return self.go(course, finding, choice, at).await,
            Act::Recommend(_) => "recommended",
            Act::Stay => "stayed",
            Act::Recovered => "recovered",
        };
        let Finding { sentence, numbers, .. } = finding;
        tracing::warn!("{sentence}");
        let note = papers::note(what, choice, at, sentence);
        self.note(Record { numbers, ..note }).await;
    }

    /// Goes by itself, unless an order came before it: what was found was found under this choice, and is
    /// looked at anew under another.
    async fn go(&self, course: Course, finding: Finding, choice: &Choice, at: Timestamp) {
        let begun = Instant::now();
        let turn = self.own_turn().await;
        let before = self.stacks.choice();
        if turn.is_none() || before.generation != choice.generation {
            lock(&self.watch).finding = None;
            return;
        }
        let is_switch = course.active != before.course.active;
        let kind = if is_switch { Kind::Automatic } else { Kind::CanaryEnded };
        let hand = Hand { kind, at, who: NOBODY.to_owned(), reason: finding.sentence };
        let after = before.automatic(course, hand);
        let record = Record { numbers: finding.numbers, ..line_of(&before, &after) };
        // A disk that takes nothing is no reason to stay with a bad stack.
        let _it_holds = self.take(after, record, true, begun).await;
    }

    /// The turn to act, once no order is under way; none where a successor gives the orders by then.
    async fn own_turn(&self) -> Option<MutexGuard<'_, ()>> {
        let turn = self.turn.lock().await;
        (!self.is_closed()).then_some(turn)
    }

    /// Reverts what was ordered for a time that is over; where the stack to go back to is not ready, as
    /// soon as it is.
    async fn end_what_is_over(&self, at: Timestamp) {
        let is_over = |choice: &Choice| choice.until.is_some_and(|until| until.at <= at);
        if !is_over(&self.stacks.choice()) {
            return;
        }
        let begun = Instant::now();
        let Some(_turn) = self.own_turn().await else { return };
        let before = self.stacks.choice();
        let Some(until) = before.until.filter(|until| until.at <= at) else { return };
        if until.back.active != before.course.active
            && let Some(why) = self.unready(until.back.active)
        {
            return self.put_off(&before, until.back.active, &why, at).await;
        }
        let lasted = length(until.at.distance(before.since));
        let Choice { who, reason, .. } = &*before;
        let reason = format!("The {lasted} are over that {who} ordered: {reason}");
        let hand = Hand { kind: Kind::Revert, at, who: NOBODY.to_owned(), reason };
        if let Some(after) = before.reverted(hand) {
            let record = line_of(&before, &after);
            let _it_holds = self.take(after, record, true, begun).await;
        }
    }

    /// Says once that an end is put off.
    async fn put_off(&self, choice: &Choice, back: Stack, why: &Unready, at: Timestamp) {
        let put_off = lock(&self.watch).put_off.replace(choice.generation);
        if put_off == Some(choice.generation) {
            return;
        }
        let active = choice.course.active;
        let reason = format!(
            "The time is over for which {active} was to serve, but {back} is not ready: {why}; it follows as soon as it is."
        );
        tracing::warn!("{reason}");
        self.note(papers::note("put-off", choice, at, reason)).await;
    }

    /// Writes what the disk did not take at first.
    async fn catch_up(&self) {
        if !self.is_written.load(Ordering::Acquire)
            && let Ok(_turn) = self.turn.try_lock()
            && !self.is_closed()
            && self.write(self.stacks.choice()).await.is_ok()
        {
            self.is_written.store(true, Ordering::Release);
            tracing::info!("the choice is written");
        }
        let is_behind = self.papers.try_lock().is_ok_and(|papers| papers.is_behind());
        if is_behind || !lock(&self.lines).is_empty() {
            self.write_lines().await;
        }
    }
}
