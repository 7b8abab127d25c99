//! The socket on which `up` says what runs: one line of JSON to whoever connects.

use std::io;
use std::time::Duration;

use backstop_settings::Layout;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::time::{sleep, timeout};

use super::board::Board;

/// Whoever does not read by then goes without.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
/// After an accept that failed, such as for want of file descriptors.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Listens; a socket that an earlier run left is replaced.
pub fn listen(layout: &Layout) -> io::Result<UnixListener> {
    let path = layout.up_socket();
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => UnixListener::bind(path),
    }
}

/// Answers, one at a time, for ever.
pub async fn serve(listener: UnixListener, board: Board) {
    loop {
        let Ok((mut stream, _peer)) = listener.accept().await else {
            sleep(RETRY_AFTER).await;
            continue;
        };
        let line = serde_json::to_string(&board.status()).unwrap_or_default() + "\n";
        // The status fits the socket's buffer; a peer that went away is none of our concern.
        let _ = timeout(ANSWER_TIME_MAX, stream.write_all(line.as_bytes())).await;
    }
}
