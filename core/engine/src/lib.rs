//! What a decision is computed from and what it changes, as arithmetic: no I/O, no SQL, no clock.
//!
//! Core runs it inside the transaction, api with the last history it has seen, tests against a list.
//!
//! | module | holds |
//! |---|---|
//! | [`effects`] | what a decision moves, and what is left then |
//! | [`history`] | sliding-window counts and sums of one entity, in a row of bounded size |

pub mod effects;
pub mod history;

pub use effects::{Holdings, Moves, Shortage};
pub use history::{DecodeError, History};
