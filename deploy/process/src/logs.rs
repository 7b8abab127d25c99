//! Logs: one line an event on stderr, such as
//! `2026-11-22T10:00:00.123456Z  INFO core-prod listening socket=…`.
//!
//! A log must never hold up a decision. So lines wait in a bounded queue for a thread of their own, and
//! when whoever reads stderr stalls, the surplus is dropped, and counted in the next line that goes out.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

/// Which events are logged, in the syntax of `RUST_LOG`; unset: from `INFO` up.
const FILTER: &str = "BACKSTOP_LOG";

/// Pingora calls it an error when a pooled connection turns out to be closed; the edge opens another.
const FILTER_DEFAULT: &str = "info,pingora_core::connectors=off";

/// Lines that wait to be written; the next are dropped.
const LINES_MAX: usize = 4_096;

/// What is longer is cut.
const LINE_BYTES_MAX: usize = 8_192;

/// How long the end of the process waits for the last lines.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// The open logs of this process.
#[derive(Debug)]
pub struct Logs {
    queue: Queue,
}

impl Drop for Logs {
    fn drop(&mut self) {
        let (written, wait) = sync_channel(1);
        // A full queue means that stderr stalls: there is nothing to wait for.
        if self.queue.lines.try_send(Line::Flush(written)).is_ok() {
            let _ = wait.recv_timeout(FLUSH_TIME_MAX);
        }
    }
}

/// Opens the logs of a process. A second call in one process changes nothing.
pub fn open(process: &str) -> Logs {
    let queue = Queue::start(io::stderr());
    let filter =
        EnvFilter::try_from_env(FILTER).unwrap_or_else(|_unset| EnvFilter::new(FILTER_DEFAULT));
    // Fails only where a test has its own subscriber, which then stays.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .event_format(OneLine { process: process.to_owned() })
        .with_writer(queue.clone())
        .try_init();
    Logs { queue }
}

/// The time as the logs write it.
pub fn now() -> String {
    let mut time = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time
}

enum Line {
    Text(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Clone, Debug)]
struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    fn start(out: impl Write + Send + 'static) -> Self {
        let (lines, waiting) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let queue = Self { lines, dropped: Arc::clone(&dropped) };
        let writer = std::thread::Builder::new().name("logs".into());
        // Without a thread the queue fills and drops: silent, but alive.
        let _ = writer.spawn(move || write_lines(out, &waiting, &dropped));
        queue
    }
}

fn write_lines(mut out: impl Write, lines: &Receiver<Line>, dropped: &AtomicU64) {
    for line in lines {
        // A stderr that is gone is no reason to stop: the process has other work.
        match line {
            Line::Text(text) => {
                let _ = out.write_all(&text);
            }
            Line::Flush(written) => {
                let _ = out.flush();
                let _ = written.try_send(());
            }
        }
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "{}  WARN logs: {lost} lines were dropped here", now());
        }
    }
}

impl Write for Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Line::Text(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Queue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

struct OneLine {
    process: String,
}

impl<S, N> FormatEvent<S, N> for OneLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = String::new();
        context.format_fields(Writer::new(&mut fields), event)?;
        let level = event.metadata().level();
        write!(writer, "{} {level:>5} {} ", now(), self.process)?;
        writeln!(writer, "{}", one_line(fields))
    }
}

/// The text without line breaks or other control characters, cut to its maximum.
fn one_line(mut text: String) -> String {
    if text.len() > LINE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        text.push('…');
    }
    if text.contains(char::is_control) { text.escape_debug().collect() } else { text }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log_into(page: &Page, events: impl FnOnce()) {
        let queue = Queue::start(page.clone());
        let logs = Logs { queue: queue.clone() };
        let subscriber = tracing_subscriber::fmt()
            .event_format(OneLine { process: "core-prod".into() })
            .with_writer(queue)
            .finish();
        tracing::subscriber::with_default(subscriber, events);
        drop(logs);
    }

    #[test]
    fn an_event_is_one_line_with_time_level_and_process() {
        let page = Page::default();
        log_into(&page, || tracing::warn!(id = "a\nb", "two\nlines"));
        let text = page.text();
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(text.contains("Z  WARN core-prod two\\nlines"), "{text}");
        assert!(text.starts_with("20"), "{text}");
    }

    #[test]
    fn a_long_line_is_cut() {
        assert_eq!(one_line("ä".repeat(LINE_BYTES_MAX)).len(), LINE_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_stalled_stderr_drops_lines_holds_nobody_up_and_says_how_many_were_lost() {
        let page = Page::default();
        let stalled = page.0.lock().unwrap();
        let mut queue = Queue::start(page.clone());
        for _ in 0..LINES_MAX * 2 {
            queue.write_all(b"line\n").unwrap();
        }
        drop(stalled);
        let written = || page.text().lines().count();
        for _ in 0..1_000 {
            if page.text().contains("dropped here") && written() > LINES_MAX {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("{} lines", written());
    }
}
