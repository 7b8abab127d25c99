//! Tests of rules, written in Lua beside them. A test has a small world of its own; the rules it asks run in
//! theirs, under the limits of production.

#[cfg(test)]
mod tests;
mod values;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};

use crate::breach::Breach;
use crate::bundle::compile;
use crate::rules::Rules;
use crate::sandbox::stopwatch::{Outcome as Ended, Stopwatch, computed_time};
use crate::scene::{Scene, Slices};

/// The folder of the tests, within a folder of rules.
pub const FOLDER: &str = "tests";
/// What the tests of one file may take together.
const TIME_MAX: Duration = Duration::from_secs(30);
const MEMORY_BYTES_MAX: usize = 256 << 20;
/// The most bytes in a fixture.
const FIXTURE_BYTES_MAX: u64 = 16 << 20;

const PRELUDE_TEXT: &str = include_str!("spec/prelude.lua");
/// What a test finds around it, for editors.
pub(crate) const DEFINITIONS: &str = include_str!("spec/definitions.lua");

/// What became of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What it is called, with what it is part of.
    pub name: String,
    /// What it computed.
    pub time: Duration,
    /// Why it failed; `None` when it passed.
    pub failure: Option<Failure>,
}

/// Why a test failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Where, in the file of the test.
    pub line: Option<u32>,
    /// What went wrong.
    pub message: String,
}

/// Runs a file of tests, such as `tests/payment.lua`, whose cases ask the policy of the same name unless they
/// say otherwise. Fixtures lie in `folder`. An error means that it is no file of tests.
pub fn run(
    rules: &Arc<Rules>,
    slices: Slices,
    folder: &Path,
    file: &str,
    text: &str,
) -> Result<Vec<Outcome>, Breach> {
    let failed = |error: &mlua::Error| Breach::from_lua(error, file, MEMORY_BYTES_MAX);
    let bytecode = compile(file, text)?;
    let policy = file.rsplit('/').next().and_then(|name| name.strip_suffix(".lua"));
    let world = World {
        rules: Arc::clone(rules),
        slices,
        folder: folder.to_owned(),
        policy: policy.unwrap_or_default().to_owned(),
    };
    let (lua, stopwatch, run) = world.build(file).map_err(|error| failed(&error))?;
    let chunk: Function = lua
        .load(bytecode.as_slice())
        .set_name(format!("={file}"))
        .set_mode(mlua::chunk::ChunkMode::Binary)
        .into_function()
        .map_err(|error| failed(&error))?;
    stopwatch.start(TIME_MAX);
    let told: mlua::Result<Table> = run.call(chunk);
    if let Ended::RanOut { line } = stopwatch.stop() {
        let place = crate::breach::Place { file: file.to_owned(), line };
        return Err(Breach::OutOfTime { place, time_max: TIME_MAX });
    }
    let told = told.map_err(|error| failed(&error))?;
    let outcomes = told.sequence_values::<Table>().map(|one| outcome(&one?, file));
    outcomes.collect::<mlua::Result<_>>().map_err(|error| failed(&error))
}

fn outcome(told: &Table, file: &str) -> mlua::Result<Outcome> {
    let failure = match told.get::<Value>("failure")? {
        Value::Nil => None,
        // Raised by an expectation, which knows its line.
        Value::Table(failure) => {
            Some(Failure { line: failure.get("line")?, message: failure.get("message")? })
        }
        Value::Error(error) => Some(failure_of(&error, file)),
        other => Some(failure_of(&mlua::Error::runtime(other.to_string()?), file)),
    };
    let millis: f64 = told.get("millis")?;
    let time = Duration::from_secs_f64(millis.max(0.0) / 1000.0);
    Ok(Outcome { name: told.get("name")?, time, failure })
}

/// What a test did wrong itself, or a call of it did.
fn failure_of(error: &mlua::Error, file: &str) -> Failure {
    match Breach::from_lua(error, file, MEMORY_BYTES_MAX) {
        Breach::Raised { place, message } => Failure { line: place.line, message },
        other => Failure { line: None, message: other.to_string() },
    }
}

/// What the functions of a test reach.
struct World {
    rules: Arc<Rules>,
    slices: Slices,
    folder: PathBuf,
    policy: String,
}

impl World {
    fn build(self, file: &str) -> mlua::Result<(Lua, Stopwatch, Function)> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::DEBUG;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        let world = Arc::new(self);
        let native = lua.create_table()?;
        let asked = Arc::clone(&world);
        native.set("ask", lua.create_function(move |lua, case: Value| asked.ask(lua, &case))?)?;
        let asked = Arc::clone(&world);
        let by_default = move |lua: &Lua, case: Value| asked.ask_default(lua, &case);
        native.set("ask_default", lua.create_function(by_default)?)?;
        let fixtures = move |lua: &Lua, name: String| world.fixtures(lua, &name);
        native.set("fixtures", lua.create_function(fixtures)?)?;
        let clock = |_: &Lua, ()| Ok(computed_time().as_secs_f64() * 1000.0);
        native.set("clock", lua.create_function(clock)?)?;
        let run = lua.load(PRELUDE_TEXT).set_name("=backstop").call((native, file))?;
        lua.sandbox(true)?;
        lua.set_memory_limit(MEMORY_BYTES_MAX)?;
        let stopwatch = Stopwatch::install(&lua, None);
        Ok((lua, stopwatch, run))
    }

    fn scene(&self, case: &Value) -> mlua::Result<Scene> {
        let case = values::to_json(case, 0)?;
        let scene = Scene::read(&case, Some(&self.policy)).map_err(mlua::Error::runtime)?;
        let policy = &scene.question.request.policy;
        if !self.rules.has_policy(policy) {
            return Err(mlua::Error::runtime(format!(
                "there is no policy {policy:?}; name it in the request"
            )));
        }
        Ok(scene)
    }

    fn ask(&self, lua: &Lua, case: &Value) -> mlua::Result<Table> {
        let told = self.scene(case)?.ask_policy(&self.rules, self.slices);
        let answer = values::ruling(lua, &told.ruling)?;
        if let Ok(keys) = &told.keys {
            answer.set("keys", values::keys(lua, keys)?)?;
        }
        match &told.moves {
            Ok(moves) => answer.set("moves", values::moves(lua, moves)?)?,
            Err(breach) => answer.set("breach", breach.to_string())?,
        }
        Ok(answer)
    }

    fn ask_default(&self, lua: &Lua, case: &Value) -> mlua::Result<Table> {
        values::ruling(lua, &self.scene(case)?.ask_default(&self.rules, self.slices))
    }

    fn fixtures(&self, lua: &Lua, name: &str) -> mlua::Result<Value> {
        let wrong = |wrong: String| mlua::Error::runtime(format!("fixture {name}: {wrong}"));
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.chars().all(plain) || name.starts_with('.') {
            return Err(wrong(
                "is no name; write that of a file in tests/, such as night.json".to_owned(),
            ));
        }
        let path = self.folder.join(name);
        let bytes = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?.len();
        if bytes > FIXTURE_BYTES_MAX {
            return Err(wrong(format!("is over {FIXTURE_BYTES_MAX} bytes; split it")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let json = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        values::from_json(lua, &json)
    }
}
