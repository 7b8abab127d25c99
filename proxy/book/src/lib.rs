//! The book: every answer that was released, durably, and what core has yet to be told of them.
//!
//! An answer is appended here before it leaves the edge, so that an id has one answer over retries,
//! crashes and outages, and so that every answer that another tier gave for core reaches core in the end.
//!
//! | module | holds |
//! |---|---|
//! | [`place`] | the names of things: keys of answers, numbers of advices, positions in files |
//! | [`record`], [`segment`] | the bytes: one record, and what can be read of a file of them after any accident |
//! | [`register`] | in memory: who asks, what was said, where it is; the first proposal for a key wins |
//! | [`scribe`] | what to write, sync, create and delete, and what to do when the disk will not |
//! | [`shipping`] | the advices that core is owed: which are next, and when to try again |
//! | [`bookkeeper`] | the three machines as one: what a simulator runs |
//! | [`Book`] | the same with real files, threads and waiters |
//!
//! The machines do no I/O and read no clock: events and the time go in, actions come out. What runs in
//! production is what the simulator runs over a disk and a clock of its own.

mod batch;
mod book;
pub mod bookkeeper;
mod debt;
mod entry;
mod error;
mod folder;
mod health;
mod now;
pub mod place;
mod reading;
pub mod record;
pub mod recovery;
pub mod register;
pub mod scribe;
pub mod segment;
mod settings;
pub mod shipping;
mod slot;
mod threads;

pub use batch::Batch;
pub use book::{Asked, Book, Found, Recall, Said, Turn};
pub use debt::Debt;
pub use entry::Entry;
pub use error::BookError;
pub use health::{Count, Health, Opened};
pub use now::Now;
pub use settings::{Fsync, Settings};
