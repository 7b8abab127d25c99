//! An api: it passes on to its core, and stands in for it with the real policies. It keeps nothing.

use std::collections::BTreeMap;
use std::rc::Rc;

use backstop_contract::{Cause, Decision, Question, Tier};
use backstop_engine::History;

use super::clock::wall;
use super::event::{Alarm, Call, Letter, Message, Place};
use super::rules::{RULE_TIME_MAX, RULES};
use super::world::World;

/// What the api keeps back of its budget for its own answer and the way home, in microseconds.
const RESERVE: u64 = 20_000;

pub struct Api {
    stack: usize,
    pub is_up: bool,
    pub life: u32,
    /// Its exchanges with core, and whom each is for.
    calls: BTreeMap<Call, Asked>,
}

struct Asked {
    by: Place,
    call: Call,
    /// `None`: advices, for which nobody stands in.
    question: Option<Rc<Question>>,
}

impl Api {
    pub fn new(stack: usize) -> Self {
        Self { stack, is_up: true, life: 0, calls: BTreeMap::new() }
    }

    pub fn kill(&mut self) {
        self.is_up = false;
        self.calls.clear();
    }

    pub fn restart(&mut self) {
        self.is_up = true;
        self.life += 1;
    }

    /// Its own answer: the policy's, without history.
    fn stand_in(&self, question: &Question, cause: Cause, now: u64) -> Decision {
        let named = RULES.keys(question, RULE_TIME_MAX).map(|keys| keys.history);
        let named = named.into_iter().flatten();
        let histories = named.map(|(name, _)| (name, History::default())).collect();
        let stock = BTreeMap::new();
        let ruling = RULES.decide_by_policy(question, &histories, &stock, true, RULE_TIME_MAX);
        Decision {
            reasons: ruling.reasons,
            score: ruling.score,
            cause: Some(cause),
            stack: self.stack.to_string(),
            policy_version: RULES.version().to_owned(),
            decided_at: wall(now),
            ..Decision::by(Tier::Api, question.request.id.clone(), ruling.verdict)
        }
    }
}

impl World {
    pub fn api_hears(&mut self, stack: usize, letter: Letter) {
        let Letter { from, call, message, .. } = letter;
        let (here, core) = (Place::Api(stack), Place::Core(stack));
        match message {
            Message::Decide { question, budget } => {
                let inner = self.new_call();
                let left = budget.saturating_sub(RESERVE);
                let asked = Asked { by: from, call, question: Some(Rc::clone(&question)) };
                self.apis[stack].calls.insert(inner, asked);
                self.wake(here, left, Alarm::Timeout(inner));
                self.send(here, core, inner, Message::Decide { question, budget: left });
            }
            Message::Settle { advices } => {
                let inner = self.new_call();
                self.apis[stack].calls.insert(inner, Asked { by: from, call, question: None });
                self.send(here, core, inner, Message::Settle { advices });
            }
            Message::Failed => self.api_ends(stack, call, None, Cause::Unavailable),
            reply => self.api_ends(stack, call, Some(reply), Cause::Unavailable),
        }
    }

    pub fn api_wakes(&mut self, stack: usize, alarm: Alarm) {
        if let Alarm::Timeout(call) = alarm {
            self.api_ends(stack, call, None, Cause::Deadline);
        }
    }

    fn api_ends(&mut self, stack: usize, inner: Call, reply: Option<Message>, cause: Cause) {
        let Some(Asked { by, call, question }) = self.apis[stack].calls.remove(&inner) else {
            return;
        };
        let message = match (reply, question) {
            (Some(reply), _) => reply,
            (None, None) => Message::Failed,
            (None, Some(question)) => {
                self.count("stand-ins by the api");
                let answer = self.apis[stack].stand_in(&question, cause, self.now);
                Message::Decided(Box::new(answer))
            }
        };
        self.send(Place::Api(stack), by, call, message);
    }
}
