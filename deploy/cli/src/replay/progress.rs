//! The bar that a person watches. Not drawn where nobody does.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::report::{Counts, grouped};

/// Drawn at most so often: it costs the very machine that is measured.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// How far a replay is, by the bytes of its file.
pub struct Progress {
    bar: Option<ProgressBar>,
    drawn: Instant,
}

impl Progress {
    /// A bar on standard error, where that is a terminal.
    pub fn new(bytes: u64) -> Self {
        let style = ProgressStyle::with_template("{bar:30} {percent:>3} %  {elapsed}  {msg}");
        let bar = std::io::stderr().is_terminal().then(|| {
            ProgressBar::new(bytes)
                .with_style(style.unwrap_or_else(|_template| ProgressStyle::default_bar()))
        });
        Self { bar, drawn: Instant::now() }
    }

    /// Redraws, if it is time to.
    pub fn show(&mut self, bytes_read: u64, counts: &Counts) {
        let Some(bar) = &self.bar else { return };
        let now = Instant::now();
        if now.saturating_duration_since(self.drawn) < DRAW_EVERY {
            return;
        }
        self.drawn = now;
        bar.set_position(bytes_read);
        let [answered, not_final, unanswered] =
            [counts.answered, counts.not_final, counts.unanswered].map(grouped);
        bar.set_message(format!(
            "{answered} answered, {not_final} by stand-ins, {unanswered} unanswered"
        ));
    }

    /// Removes the bar; the report follows.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
