//! The socket on which `up` says what runs, and takes orders: whoever connects gets the status, one line of
//! JSON. An order, one line too, is answered by a line for each step.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use backstop_settings::Layout;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use super::board::Board;
use super::upgrade::{Order, Told, Upgrader};

/// Whoever does not read by then goes without.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// An order is written as soon as the connection is open. A `status` of an earlier release, which reads to
/// the end, waits for as long.
const ORDER_TIME_MAX: Duration = Duration::from_millis(400);
/// A path has at most 4 KiB.
const ORDER_BYTES_MAX: u64 = 16_384;
/// After an accept that failed, such as for want of file descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Who is answered at a time.
const CALLERS_MAX: usize = 32;
/// Steps that the caller has not read yet.
const TOLD_MAX: usize = 16;

/// Listens; a socket that an earlier run left is replaced.
pub fn listen(layout: &Layout) -> io::Result<UnixListener> {
    let path = layout.up_socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// Answers for ever.
pub async fn serve(listener: UnixListener, board: Board, upgrader: Arc<Upgrader>) {
    let places = Arc::new(Semaphore::new(CALLERS_MAX));
    loop {
        let Ok((stream, _peer)) = listener.accept().await else {
            sleep(RETRY_AFTER).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        let (board, upgrader) = (board.clone(), upgrader.clone());
        tokio::spawn(async move {
            // A peer that went away is none of our concern.
            let _ = answer(stream, &board, upgrader).await;
            drop(place);
        });
    }
}

async fn answer(stream: UnixStream, board: &Board, upgrader: Arc<Upgrader>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let line = serde_json::to_string(&board.status()).unwrap_or_default() + "\n";
    timeout(ANSWER_TIME_MAX, write.write_all(line.as_bytes())).await??;
    let (mut order, mut read) = (String::new(), BufReader::new(read.take(ORDER_BYTES_MAX)));
    timeout(ORDER_TIME_MAX, read.read_line(&mut order)).await??;
    if order.is_empty() {
        return Ok(());
    }
    let (say, mut told) = mpsc::channel(TOLD_MAX);
    match serde_json::from_str::<Order>(&order) {
        // A task of its own: it goes on when its caller has gone.
        Ok(order) => drop(tokio::spawn(async move { upgrader.carry_out(&order, &say).await })),
        Err(error) => say.try_send(Told::Failed(format!("no order: {error}"))).unwrap_or_default(),
    }
    while let Some(told) = told.recv().await {
        let line = serde_json::to_string(&told).unwrap_or_default() + "\n";
        timeout(ANSWER_TIME_MAX, write.write_all(line.as_bytes())).await??;
    }
    Ok(())
}
