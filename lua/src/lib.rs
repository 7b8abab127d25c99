//! The sandbox that policies and defaults run in: files in, rulings out, and no way for a file to
//! take a tier down with it.
//!
//! A rule is Lua that somebody else wrote, run in the path of a payment. So every call has a time
//! and a memory limit, sees only what it declared, and ends in a [`Ruling`], whatever the rule does:
//! what it may not do is a [`Breach`], and the answer is then the one the file calls `safe`.
//!
//! | module | holds |
//! |---|---|
//! | [`bundle`] | the files: shipped or loaded, named by their content |
//! | [`rules`] | a bundle ready to decide, and the few virtual machines it runs on |
//! | [`ruling`] | what comes of a call |
//! | [`publication`], [`shelf`] | which bundle is live, tried, or was live before, and where they lie |
//! | [`in_force`] | the rules that a tier decides by now; a new publication takes their place whole |
//! | [`meter`] | what a call took and asked, for its author |
//! | [`scene`] | one request and what is known when it comes, for tests and trials |
//! | [`spec`] | tests of rules, written in Lua |
//! | [`types`] | what a rule sees and may return, for editors |
//! | [`world`] | the names that a rule may use without making them |
//! | [`breach`] | what a rule may not do, and where it did |
//! | `sandbox` | one virtual machine: the closed world, the stopwatch, the memory limit |
//! | `shape` | what a file must return |
//! | `answer` | what its functions may return |
//! | `library`, `rows` | what rules need and Lua does not have, and the lists they read |
//! | `transaction`, `past` | what a rule sees of a request and of history |

pub mod breach;
pub mod bundle;
pub mod in_force;
pub mod meter;
pub mod publication;
pub mod rules;
pub mod ruling;
pub mod scene;
pub mod shelf;
pub mod spec;
pub mod types;
pub mod world;

mod answer;
mod library;
mod past;
mod rows;
mod sandbox;
mod shape;
mod transaction;

pub use breach::{Breach, Place};
pub use bundle::{Bundle, BundleError};
pub use in_force::{InForce, Standing};
pub use meter::{Meter, Price};
pub use publication::{Publication, Scope, Stage};
pub use rules::{Rules, Says};
pub use ruling::{CAPPED, Keys, Ruling};
pub use scene::{Scene, Slices};
pub use world::World;
