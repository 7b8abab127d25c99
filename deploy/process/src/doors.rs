//! Listening sockets that whoever started this process has opened for it, in the manner of systemd:
//! `LISTEN_FDS` says how many there are, from descriptor 3 on, and `LISTEN_FDNAMES` what each is for.
//!
//! Such a socket outlives the process that serves it. Whoever connects while that one is replaced, or is
//! dead, waits in the socket's backlog for the next one, and is not refused.

use std::net::TcpListener;

use listenfd::ListenFd;

/// How many sockets are handed over.
pub const COUNT: &str = "LISTEN_FDS";
/// What they are for, separated by colons.
pub const NAMES: &str = "LISTEN_FDNAMES";
/// The descriptor of the first; the others follow it.
pub const FIRST: i32 = 3;

/// Where merchants connect, over TLS.
pub const LISTEN: &str = "listen";
/// Where operators connect.
pub const ADMIN: &str = "admin";
/// Where a TLS-terminating balancer connects, without TLS.
pub const LISTEN_PLAIN: &str = "listen-plain";

/// The sockets that were handed to this process, each with its name. They can be taken once.
pub fn inherited() -> Vec<(String, TcpListener)> {
    let names = std::env::var(NAMES).unwrap_or_default();
    let mut handed = ListenFd::from_env();
    let mut doors = Vec::with_capacity(handed.len());
    for (index, name) in names.split(':').enumerate().take(handed.len()) {
        match handed.take_tcp_listener(index) {
            Ok(Some(door)) => doors.push((name.to_owned(), door)),
            Ok(None) => {}
            Err(error) => tracing::warn!(name, %error, "no socket to listen on was handed over"),
        }
    }
    doors
}
