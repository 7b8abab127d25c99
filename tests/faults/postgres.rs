//! Faults of PostgreSQL, on which core keeps its books: it freezes, is restarted, or somebody holds rows
//! that everybody wants.

use super::load::EVERYBODY;
use super::scene::{Outcome, Scene};
use crate::postgres::Frozen;

/// Alive, listening, silent.
pub fn freeze(scene: &Scene) -> Outcome {
    let frozen = Frozen::stop(scene.books().cluster);
    scene.hold();
    if frozen.is_whole() { Ok(()) } else { Err("a process of the server went on".to_owned()) }
}

/// Ended and started again, as an operator does.
pub fn restart(scene: &Scene) -> Outcome {
    let (cluster, before) = (scene.books().cluster, scene.books().cluster.pid());
    cluster.restart();
    if cluster.pid() == before { Err("it is the same server".to_owned()) } else { Ok(()) }
}

/// Holds the history of everybody in the load, as a session would that never commits.
pub fn hold_history(scene: &Scene) -> Outcome {
    let all = "SELECT count(*) FROM (SELECT FROM history FOR UPDATE) AS row";
    let _locks = scene.books().lock(all);
    scene.hold();
    match scene.books().count("SELECT count(*) FROM history") {
        EVERYBODY.. => Ok(()),
        some => Err(format!("only {some} rows were there to be locked")),
    }
}
