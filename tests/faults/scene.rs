//! The time and place of a fault: which processes it strikes, and for how long.

use std::ops::Deref;
use std::time::Duration;

use super::ground::Ground;

/// What went wrong with the fault itself.
pub type Outcome = Result<(), String>;

/// One fault on its ground.
pub struct Scene<'a> {
    pub ground: &'a Ground,
    /// How long the fault lasts.
    pub hold: Duration,
    /// The long form: more of everything.
    pub is_full: bool,
}

impl Scene<'_> {
    /// Lets the fault last.
    pub fn hold(&self) {
        std::thread::sleep(self.hold);
    }

    /// The number for this form.
    pub const fn pick(&self, short: usize, full: usize) -> usize {
        if self.is_full { full } else { short }
    }
}

impl Deref for Scene<'_> {
    type Target = Ground;

    fn deref(&self) -> &Ground {
        self.ground
    }
}
