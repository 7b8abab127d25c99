//! What one tier says to the next: the request and when it is valid, the decision, the budget that
//! crosses the wire, and the one rule all tiers live by: *ask the next tier, or answer*.
//!
//! Nothing here opens a file or a socket, so every line can be tested with a value and a paused clock.
//!
//! | module | holds |
//! |---|---|
//! | [`budget`] | lengths of time that cross the wire, instants that do not, and the limits between them |
//! | [`ask`] | the heart: ask the next tier, or answer |
//! | [`link`] | the way to the next tier: limits [learned](learned) from its calls, and a [`breaker`] |
//! | [`ledger`] | the formula with its real numbers, call by call |
//! | [`request`], [`attributes`], [`validity`] | what a merchant sends, and the one function that says whether it may |
//! | [`decision`] | what a merchant gets |
//! | [`problem`] | what a merchant gets when its request must change first |
//! | [`class`], [`card`] | what data may do, and finding card numbers, so that none is stored |
//! | [`label`] | what a merchant says of a transaction later |
//! | [`advice`] | what the edge tells core of an answer that another tier gave, and what becomes of it |
//! | [`reconciliation`] | what a merchant was told and what the books say of it, side by side |
//! | [`stack`], [`canary`], [`order`] | which release serves whom, and what an operator may order of that |
//! | [`rollout`] | what may be ordered of the rules |
//! | [`fidelity`] | how often a fallback says what core says |
//! | [`currency`] | what a minor unit is |
//! | [`stock`] | how much is left of something that decisions take from |
//! | [`fingerprint`] | telling a retry from another request under the same id |
//! | [`header`] | the names of headers between the tiers |
//! | [`timestamp`] | points of time on the wire |
//! | [`wire`] | the messages between api and core |

pub mod advice;
pub mod ask;
pub mod attributes;
pub mod breaker;
pub mod budget;
pub mod canary;
pub mod card;
pub mod class;
pub mod currency;
pub mod decision;
pub mod fidelity;
pub mod fingerprint;
pub mod header;
mod json;
pub mod label;
pub mod learned;
pub mod ledger;
pub mod link;
mod one_field;
pub mod order;
pub mod problem;
pub mod reconciliation;
pub mod request;
pub mod rollout;
pub mod stack;
pub mod stock;
pub mod timestamp;
pub mod validity;
pub mod wire;

pub use advice::{Advice, Advices, Outcome, Settled, Standing};
pub use ask::{Fallback, NextTier, Question, Reply, decide};
pub use attributes::{Attributes, Value};
pub use budget::{Budget, Deadline, Limits};
pub use canary::Canary;
pub use decision::{Cause, Decision, Effects, Tier, Verdict};
pub use fingerprint::{HashKey, RequestHash};
pub use link::Link;
pub use order::Order;
pub use problem::Problem;
pub use request::{EventTime, Request};
pub use rollout::Rollout;
pub use stack::Stack;
pub use timestamp::Timestamp;
