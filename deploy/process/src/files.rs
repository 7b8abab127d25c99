//! Open files: each connection is one, and the usual soft limit of 1,024 would stop the edge from
//! taking anybody long before `connections_max`.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit on open files to the hard one. Best effort: what it is then is logged.
pub fn raise_limit() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() {
        tracing::warn!(soft, hard, "the limit on open files could not be raised");
    }
}
