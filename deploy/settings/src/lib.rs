//! The files an operator writes, and where everything lies in `--dir`.
//!
//! | module | holds |
//! |---|---|
//! | [`layout`] | the paths in `--dir`: every process derives them here, so they agree |
//! | [`settings`] | `backstop.toml`: every setting, its default and its range |
//! | [`audit`] | the audit log: its lines, and whether they are a chain; written by the edge, verified by anybody |
//! | [`sealed`] | small files that a process keeps for the next one: never half a file, never a changed one |
//! | [`merchants`] | `merchants.toml`: who may ask, with which keys; read by the edge, edited by `backstop merchant` |
//!
//! A value in hand is a valid one: what is wrong in a file is said with file, line and what would be
//! right, before anything is built on it.

mod address;
pub mod audit;
mod document;
mod drain;
mod error;
mod file;
pub mod layout;
mod link;
pub mod merchants;
pub mod sealed;
pub mod settings;
mod token;
mod value;

pub use address::Address;
pub use drain::{DRAIN_TIME_MAX, DRAIN_TIME_MIN, drain_time};
pub use error::SettingsError;
pub use file::write_atomically;
pub use layout::{Layout, STACKS};
pub use merchants::{Merchant, Merchants};
pub use settings::{Api, Core, Edge, Settings, Switch, Up};
pub use token::Token;
pub use value::parse_duration;
