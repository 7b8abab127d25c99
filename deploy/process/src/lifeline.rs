//! When to stop: on a signal, or when whoever started this process is gone.
//!
//! The supervisor holds a pipe that is each child's stdin. However the supervisor ends, the kernel
//! closes that pipe, so no child outlives it.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// Resolves when the process is to stop: SIGTERM, SIGINT, or the end of stdin where that is a pipe or
/// a socket. A terminal, a file or `/dev/null` on stdin is nobody's lifeline: its end means nothing.
pub async fn lifeline() {
    tokio::select! {
        () = signalled(SignalKind::terminate()) => {}
        () = signalled(SignalKind::interrupt()) => {}
        () = stdin_closed() => {}
    }
}

async fn signalled(kind: SignalKind) {
    match signal(kind) {
        Ok(mut signals) => {
            if signals.recv().await.is_some() {
                return;
            }
        }
        Err(error) => tracing::warn!(%error, "a signal cannot be waited for"),
    }
    std::future::pending::<()>().await;
}

async fn stdin_closed() {
    if stdin_is_held() {
        let (closed, wait) = oneshot::channel::<()>();
        // A thread, since the runtime would wait at its end for a read that may never return.
        let reader = std::thread::Builder::new().name("lifeline".into());
        let read = move || {
            read_to_end();
            drop(closed);
        };
        if reader.spawn(read).is_ok() {
            let _ = wait.await;
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn read_to_end() {
    let mut buffer = [0; 64];
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return,
            Ok(_) | Err(_) => {}
        }
    }
}

fn stdin_is_held() -> bool {
    let stdin = io::stdin().as_fd().try_clone_to_owned().map(std::fs::File::from);
    stdin.and_then(|stdin| stdin.metadata()).is_ok_and(|stdin| {
        let kind = stdin.file_type();
        kind.is_fifo() || kind.is_socket()
    })
}
