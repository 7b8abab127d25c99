//! The apis of one stack. Requests go to them in turn; one that fails or is slow is set aside, looked
//! at again from time to time, and taken back when it is well.
//!
//! The stack's own breaker and limits stand above them: with every peer set aside, none is, and it is
//! the stack that is left alone.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout};

use backstop_contract::breaker::{Breaker, BreakerSettings, Pass, State};
use backstop_contract::link::{End, Link};

use crate::exchange::{Call, Exchanges};
use crate::place::Place;

/// How long a peer that was set aside may take to say that it is well.
const LOOK_WAIT: Duration = Duration::from_secs(1);
/// A timer may end a wait this much too early by another clock reading.
const TIMER_ROUNDING: Duration = Duration::from_millis(1);

/// The apis of one stack, at least one.
pub struct Peers {
    all: Vec<Arc<Peer>>,
    turn: AtomicUsize,
    exchanges: Arc<Exchanges>,
}

/// One api.
pub struct Peer {
    stack: &'static str,
    place: Arc<Place>,
    standing: Mutex<Standing>,
}

/// Leave to ask one peer. It tells the peer's standing how that ended, even when it is dropped because
/// its caller gave up.
pub struct Leave<'a> {
    peer: &'a Peer,
    link: &'a Link,
    pass: Option<Pass>,
    began: Instant,
    wait: Duration,
    end: Option<End>,
}

/// The peers that one request may ask, one after the other, each at most once.
pub struct Turns<'a> {
    peers: &'a Peers,
    link: &'a Link,
    first: usize,
    offered: usize,
    given: bool,
}

impl Peers {
    /// These apis, all of them well until they show otherwise.
    pub fn new(
        stack: &'static str,
        places: Vec<Place>,
        breaker: BreakerSettings,
        exchanges: Arc<Exchanges>,
    ) -> Self {
        let now = Instant::now();
        let peer = |place| {
            let standing = Mutex::new(Standing::new(breaker, now));
            Arc::new(Peer { stack, place: Arc::new(place), standing })
        };
        let all = places.into_iter().map(peer).collect();
        Self { all, turn: AtomicUsize::new(0), exchanges }
    }

    /// Whom to ask now, and whom after that. The stack's `link` knows how long such calls take.
    pub fn in_turn<'a>(&'a self, link: &'a Link) -> Turns<'a> {
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        Turns { peers: self, link, first, offered: 0, given: false }
    }

    /// The name of each peer, and whether it is set aside. An only one never is.
    pub fn standings(&self, now: Instant) -> impl Iterator<Item = (String, bool)> {
        self.all.iter().map(move |peer| (peer.place.to_string(), peer.is_aside(now)))
    }

    /// Whether the stack has a single api, for which the stack's own breaker speaks.
    pub fn is_single(&self) -> bool {
        self.all.len() == 1
    }

    /// Leave to ask this peer now. One whose time has come to be looked at is, beside the requests.
    fn admit(&self, peer: &Arc<Peer>, now: Instant) -> Option<Pass> {
        match peer.change(now, |standing| standing.admit(now)) {
            Admission::Go(pass) => Some(pass),
            Admission::Wait => None,
            Admission::Look => {
                let (peer, exchanges) = (peer.clone(), self.exchanges.clone());
                tokio::spawn(async move {
                    let is_well = look(&exchanges, &peer.place).await;
                    let now = Instant::now();
                    peer.change(now, |standing| standing.looked(is_well, now));
                });
                None
            }
        }
    }
}

/// Asks an api for its health: no merchant has to find out that it still hangs.
async fn look(exchanges: &Arc<Exchanges>, place: &Arc<Place>) -> bool {
    let call = Call::new(("GET", "/healthz"), &[], Bytes::new(), (LOOK_WAIT, LOOK_WAIT));
    let Ok(call) = call else { return false };
    let Ok(answer) = exchanges.start(place, call, None) else { return false };
    matches!(timeout(LOOK_WAIT, answer).await, Ok(Ok(answered)) if answered.status == 200)
}

impl<'a> Turns<'a> {
    /// Leave to ask the next peer for an answer within `wait`; `None` when there is none left.
    pub fn next(&mut self, wait: Duration) -> Option<Leave<'a>> {
        let (peers, began) = (self.peers, Instant::now());
        let count = peers.all.len();
        // A second round is for when the first gave nobody: then none is the better for waiting.
        let rounds = if peers.is_single() || self.given { 1 } else { 2 };
        while self.offered < count * rounds {
            let index = self.first.wrapping_add(self.offered) % count;
            let is_checked = self.offered < count && !peers.is_single();
            self.offered += 1;
            let peer = peers.all.get(index)?;
            let pass = if is_checked { peers.admit(peer, began) } else { None };
            if !is_checked || pass.is_some() {
                self.given |= is_checked;
                let link = self.link;
                return Some(Leave { peer, link, pass, began, wait, end: None });
            }
        }
        None
    }

    /// How many peers, the one just given among them, may share the time that is left.
    pub fn sharers(&self) -> u32 {
        let count = self.peers.all.len();
        let left = count.saturating_sub((self.offered.saturating_sub(1)) % std::cmp::max(count, 1));
        u32::try_from(std::cmp::max(left, 1)).unwrap_or(u32::MAX)
    }
}

impl Peer {
    fn is_aside(&self, now: Instant) -> bool {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).is_aside(now)
    }

    /// Changes the standing, and says so when that sets the peer aside or takes it back.
    fn change<R>(&self, now: Instant, change: impl FnOnce(&mut Standing) -> R) -> R {
        // Each change is whole, even after a panic in another.
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let was_aside = standing.is_aside(now);
        let changed = change(&mut standing);
        let is_aside = standing.is_aside(now);
        drop(standing);
        match (was_aside, is_aside) {
            (false, true) => {
                tracing::warn!(stack = self.stack, peer = %self.place, "an api is set aside");
            }
            (true, false) => {
                tracing::info!(stack = self.stack, peer = %self.place, "an api is taken back");
            }
            _ => {}
        }
        changed
    }
}

impl Leave<'_> {
    /// Where the peer is.
    pub const fn place(&self) -> &Arc<Place> {
        &self.peer.place
    }

    /// Says how it ended.
    pub fn ended(mut self, end: End) {
        self.end = Some(end);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        let Some(pass) = self.pass.take() else { return };
        let now = Instant::now();
        let end = self.end.unwrap_or_else(|| {
            // Given up at its deadline, or before it, by a caller that went away. One with too little
            // time says nothing of the peer.
            let waited = now.saturating_duration_since(self.began) + TIMER_ROUNDING;
            let is_fair = waited >= self.wait && self.wait > self.link.bounds(now).min;
            if is_fair { End::Bad } else { End::Unfair }
        });
        self.peer.change(now, |standing| standing.ended(pass, end, now));
    }
}

/// What a request learns that wants to ask a peer.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Go(Pass),
    /// It is set aside.
    Wait,
    /// It is set aside, and whoever asks is to look whether it is well.
    Look,
}

/// Whether a peer may be asked: a breaker of its own, which opens sooner than the stack's and lets no
/// request through again before somebody has looked.
struct Standing {
    breaker: Breaker,
    /// So many bad calls in a row set it aside: as many as good ones bring it back.
    streak_max: u32,
    bad_in_a_row: u32,
    look: Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Due,
    UnderWay,
    /// It says that it is well. Requests are to find out whether that is so.
    Well,
}

impl Standing {
    fn new(settings: BreakerSettings, now: Instant) -> Self {
        let breaker = Breaker::new(settings, now);
        Self { breaker, streak_max: settings.probes, bad_in_a_row: 0, look: Look::Due }
    }

    fn is_aside(&self, now: Instant) -> bool {
        self.breaker.state(now) != State::Closed
    }

    fn admit(&mut self, now: Instant) -> Admission {
        match (self.breaker.state(now), self.look) {
            (State::Closed, _) | (State::HalfOpen, Look::Well) => {
                self.breaker.admit(now).map_or(Admission::Wait, Admission::Go)
            }
            (State::HalfOpen, Look::Due) => {
                self.look = Look::UnderWay;
                Admission::Look
            }
            (State::HalfOpen, Look::UnderWay) | (State::Open, _) => Admission::Wait,
        }
    }

    fn ended(&mut self, pass: Pass, end: End, now: Instant) {
        let was_closed = !self.is_aside(now);
        match end {
            End::Good => {
                self.bad_in_a_row = 0;
                self.breaker.ended(pass, true, now);
            }
            End::Bad => {
                self.bad_in_a_row += 1;
                self.breaker.ended(pass, false, now);
                if was_closed && self.bad_in_a_row >= self.streak_max {
                    self.breaker.trip(now);
                }
            }
            End::Unfair => self.breaker.forgotten(pass),
        }
        if self.breaker.state(now) == State::Open {
            (self.bad_in_a_row, self.look) = (0, Look::Due);
        }
    }

    fn looked(&mut self, is_well: bool, now: Instant) {
        self.look = if is_well { Look::Well } else { Look::Due };
        // It is as if a request had failed: the next look comes later.
        if !is_well && let Some(pass) = self.breaker.admit(now) {
            self.breaker.ended(pass, false, now);
        }
    }
}

#[cfg(test)]
mod tests;
