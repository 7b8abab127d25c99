//! When to stop: on a signal, or when whoever started this process is gone.
//!
//! The supervisor holds a pipe that is each child's stdin. However the supervisor ends, the kernel
//! closes that pipe, so no child outlives it.

use std::io::{self, BufRead as _, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// On the lifeline: let the successor take over.
pub const HAND_OVER: &str = "hand over";

/// Words in the pipe that nobody has heard yet. There is one at a time.
const WORDS_MAX: usize = 4;
/// A longer line is no word of ours.
const WORD_BYTES_MAX: u64 = 64;

/// What whoever started this process wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Let the successor that was started take over, and end when nothing is left to do.
    HandOver,
    /// Finish what is under way, and end.
    Stop,
}

/// The orders to this process: SIGTERM, SIGINT, or the end of stdin where that is a pipe or a socket
/// mean to stop; a line there may say something else. A terminal, a file or `/dev/null` on stdin is
/// nobody's lifeline: its end means nothing.
pub struct Orders {
    signals: [Option<Signal>; 2],
    words: Option<mpsc::Receiver<Order>>,
}

/// Resolves when the process is to stop.
pub async fn lifeline() {
    let mut orders = Orders::new();
    while orders.next().await != Order::Stop {}
}

impl Orders {
    /// Hears them from now on.
    pub fn new() -> Self {
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| {
            let listen = signal(kind);
            listen.inspect_err(|error| tracing::warn!(%error, "a signal cannot be waited for")).ok()
        });
        Self { signals, words: stdin_is_held().then(read_words).flatten() }
    }

    /// The next order.
    pub async fn next(&mut self) -> Order {
        let [terminate, interrupt] = &mut self.signals;
        tokio::select! {
            () = signalled(terminate) => Order::Stop,
            () = signalled(interrupt) => Order::Stop,
            order = word(&mut self.words) => order,
        }
    }
}

impl Default for Orders {
    fn default() -> Self {
        Self::new()
    }
}

async fn signalled(signals: &mut Option<Signal>) {
    if let Some(signals) = signals
        && signals.recv().await.is_some()
    {
        return;
    }
    std::future::pending::<()>().await;
}

async fn word(words: &mut Option<mpsc::Receiver<Order>>) -> Order {
    match words {
        Some(words) => words.recv().await.unwrap_or(Order::Stop),
        None => std::future::pending().await,
    }
}

/// `None` where there is no thread for it: then there is no end of it to hear of either.
fn read_words() -> Option<mpsc::Receiver<Order>> {
    let (heard, words) = mpsc::channel(WORDS_MAX);
    // A thread, since the runtime would wait at its end for a read that may never return.
    let reader = std::thread::Builder::new().name("lifeline".into());
    let read = move || {
        let mut stdin = io::stdin().lock();
        let mut line = Vec::new();
        while let Ok(1..) = (&mut stdin).take(WORD_BYTES_MAX).read_until(b'\n', &mut line) {
            if line.trim_ascii_end() == HAND_OVER.as_bytes() {
                // A full channel holds the same word already.
                let _ = heard.try_send(Order::HandOver);
            }
            line.clear();
        }
    };
    let spawned = reader.spawn(read);
    spawned.inspect_err(|error| tracing::warn!(%error, "the lifeline cannot be held")).ok()?;
    Some(words)
}

fn stdin_is_held() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stdin.and_then(|stdin| stdin.metadata()).is_ok_and(|stdin| {
        let kind = stdin.file_type();
        kind.is_fifo() || kind.is_socket()
    })
}
