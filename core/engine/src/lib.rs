//! What a decision is computed from and what it changes, as arithmetic: no I/O, no SQL, no clock.
//!
//! Core runs it inside the transaction, api with the last history it has seen, tests against a list.
//!
//! | module | holds |
//! |---|---|
//! | [`arrivals`] | which advices of a node have arrived, and which are missing |
//! | [`effects`] | what a decision moves, and what is left then |
//! | [`history`] | sliding-window counts and sums of one entity, in a row of bounded size |
//! | [`settlement`] | what becomes of an answer that another tier gave |

pub mod arrivals;
pub mod effects;
pub mod history;
pub mod settlement;

pub use arrivals::Arrivals;
pub use effects::{Holdings, Moves, Shortage};
pub use history::{DecodeError, History};
