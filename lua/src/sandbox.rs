//! One virtual machine: a closed world, a stopwatch that can stop it, a memory limit.
//!
//! Luau, because its interrupt also fires inside pattern matching, which stock Lua and `LuaJIT` can
//! not be stopped in. What C code does without asking (repeating a string, sorting) is capped by the
//! prelude and by memory: the memory limit is part of the time limit.

pub(crate) mod stopwatch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::{Question, Verdict};
use backstop_engine::History;
use mlua::chunk::ChunkMode;
use mlua::{AnyUserData, Function, Lua, LuaOptions, LuaString, StdLib, Table, Value};

use crate::breach::{Breach, Place};
use crate::library;
use crate::library::regex::Patterns;
use crate::meter::Meter;
use crate::past::{self, Now};
use crate::rows::Rows;
use crate::transaction::{Maker, Time, View};
use stopwatch::{Outcome, Stopwatch};

/// The name under which Luau reports the lines of the prelude: no breach is theirs.
pub(crate) const PRELUDE: &str = "backstop";
const PRELUDE_TEXT: &str = include_str!("sandbox/prelude.lua");

/// A file, compiled, and what it sees of a transaction.
pub(crate) struct Program {
    /// Its place in every machine.
    pub index: usize,
    /// Such as `policies/payment.lua`.
    pub file: String,
    /// What Luau made of its text.
    pub bytecode: Vec<u8>,
    /// What it sees of a transaction.
    pub view: View,
}

/// What all machines of some rules share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    pub patterns: Patterns,
    pub rows: Rows,
    /// Where somebody wants to know what calls take.
    pub meter: Option<Arc<Meter>>,
}

/// How much one call may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    pub time_max: Duration,
    pub memory_bytes_max: usize,
}

/// A machine with every program loaded. Serves one call at a time.
pub(crate) struct Machine {
    lua: Lua,
    stopwatch: Stopwatch,
    meter: Option<Arc<Meter>>,
    now: Now,
    loaded: Vec<Loaded>,
    run: Function,
    timeless: Table,
    rows: Table,
    decide: LuaString,
    keys: LuaString,
    effects: LuaString,
}

struct Loaded {
    chunk: Function,
    transaction: Maker,
}

/// The three values a call may return.
pub(crate) type Returned = (Value, Value, Value);

impl Machine {
    /// A machine that has run nothing of the programs yet.
    pub(crate) fn new<'a>(
        programs: impl Iterator<Item = &'a Program>,
        around: &Surroundings,
    ) -> mlua::Result<Self> {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::new())?;
        library::register(&lua, &around.patterns)?;
        let (run, timeless) = lua.load(PRELUDE_TEXT).set_name(format!("={PRELUDE}")).eval()?;
        let now = Now::default();
        past::register(&lua, &now, around.meter.as_ref())?;
        lua.sandbox(true)?;
        // Luau gives each thread globals of its own to write to; a rule has none.
        lua.globals().set_readonly(true);
        let rows = around.rows.table(&lua)?;
        let load = |program: &Program| {
            let name = format!("={}", program.file);
            let chunk = lua.load(program.bytecode.as_slice()).set_name(name);
            Ok(Loaded {
                chunk: chunk.set_mode(ChunkMode::Binary).into_function()?,
                transaction: program.view.load(&lua)?,
            })
        };
        let loaded = programs.map(load).collect::<mlua::Result<_>>()?;
        let stopwatch = Stopwatch::install(&lua, around.meter.clone());
        let meter = around.meter.clone();
        let [decide, keys, effects] =
            ["decide", "keys", "effects"].map(|word| lua.create_string(word));
        let (decide, keys, effects) = (decide?, keys?, effects?);
        Ok(Self { lua, stopwatch, meter, now, loaded, run, timeless, rows, decide, keys, effects })
    }

    /// How many bytes it holds, what nobody refers to any more included.
    pub(crate) fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Each global and, where it is a library, the names in it.
    pub(crate) fn globals(&self) -> mlua::Result<BTreeMap<String, BTreeSet<String>>> {
        let globals: Table = self.lua.load("return _G").eval()?;
        let mut named = BTreeMap::new();
        for pair in globals.pairs::<String, Value>() {
            let (name, value) = pair?;
            let within = match &value {
                Value::Table(library) if name != "_G" => {
                    library.pairs::<String, Value>().map(|pair| Ok(pair?.0)).collect()
                }
                _ => mlua::Result::Ok(BTreeSet::new()),
            };
            named.insert(name, within?);
        }
        Ok(named)
    }

    /// Runs the file itself, and gives what it returns.
    pub(crate) fn top_level(&self, program: &Program, of: Allowance) -> Result<Value, Breach> {
        let loaded = self.loaded(program)?;
        self.limited(program, of, || loaded.chunk.call(()))
    }

    /// Asks a default.
    pub(crate) fn decide_alone(
        &self,
        program: &Program,
        question: &Question,
        of: Allowance,
    ) -> Result<Returned, Breach> {
        let loaded = self.loaded(program)?;
        let tx = self.tx(program, question, &Time::Guarded(&self.timeless))?;
        self.limited(program, of, || self.run.call((&loaded.chunk, &self.decide, tx)))
    }

    /// Asks a policy which history and stock it wants.
    pub(crate) fn keys(
        &self,
        program: &Program,
        question: &Question,
        of: Allowance,
    ) -> Result<Value, Breach> {
        let loaded = self.loaded(program)?;
        let tx = self.tx(program, question, &Time::OfReceipt)?;
        self.limited(program, of, || self.run.call((&loaded.chunk, &self.keys, tx)))
    }

    /// Asks a policy.
    pub(crate) fn decide(
        &self,
        program: &Program,
        question: &Question,
        histories: &BTreeMap<String, History>,
        stock: &BTreeMap<String, i64>,
        of: Allowance,
    ) -> Result<Returned, Breach> {
        let loaded = self.loaded(program)?;
        let failed = |error: mlua::Error| sandbox(program, &error);
        let tx = self.tx(program, question, &Time::OfReceipt)?;
        self.now.set(question.at());
        let levels = self.stock(stock).map_err(failed)?;
        let said = self.lua.scope(|scope| {
            let views = self.lua.create_table_with_capacity(0, histories.len())?;
            for (name, history) in histories {
                if let Some(meter) = &self.meter {
                    meter.names(history, name);
                }
                let view: AnyUserData = scope.create_any_userdata_ref(history)?;
                views.raw_set(name.as_str(), view)?;
            }
            let arguments = (&loaded.chunk, &self.decide, tx, views, levels, &self.rows);
            Ok(self.limited(program, of, || self.run.call(arguments)))
        });
        said.unwrap_or_else(|error| Err(failed(error)))
    }

    /// Asks a policy what its decision moves.
    pub(crate) fn effects(
        &self,
        program: &Program,
        question: &Question,
        decision: Verdict,
        of: Allowance,
    ) -> Result<Value, Breach> {
        let loaded = self.loaded(program)?;
        let tx = self.tx(program, question, &Time::OfReceipt)?;
        let arguments = (&loaded.chunk, &self.effects, tx, decision.as_str());
        self.limited(program, of, || self.run.call(arguments))
    }

    fn stock(&self, stock: &BTreeMap<String, i64>) -> mlua::Result<Table> {
        let levels = self.lua.create_table_with_capacity(0, stock.len())?;
        for (key, level) in stock {
            levels.raw_set(key.as_str(), *level as f64)?;
        }
        Ok(levels)
    }

    fn tx(&self, program: &Program, question: &Question, time: &Time<'_>) -> Result<Table, Breach> {
        let made = self.loaded(program)?.transaction.table(question, time);
        made.map_err(|error| sandbox(program, &error))
    }

    fn loaded(&self, program: &Program) -> Result<&Loaded, Breach> {
        self.loaded.get(program.index).ok_or_else(|| Breach::Sandbox {
            place: Place { file: program.file.clone(), line: None },
            message: "it is not loaded".to_owned(),
        })
    }

    /// Runs something under both limits. They are armed only here: an armed memory limit makes every
    /// table that Rust builds two to three times as dear.
    fn limited<R>(
        &self,
        program: &Program,
        of: Allowance,
        call: impl FnOnce() -> mlua::Result<R>,
    ) -> Result<R, Breach> {
        let arm = |bytes: usize| self.lua.set_memory_limit(bytes);
        arm(of.memory_bytes_max).map_err(|error| sandbox(program, &error))?;
        let before = self.meter.as_ref().map(|meter| {
            // What others left is not this call's; a collection that fails leaves it counted.
            let _ = self.lua.gc_collect();
            let bytes = self.used_memory();
            meter.begin(bytes);
            (meter, bytes, stopwatch::computed_time())
        });
        self.stopwatch.start(of.time_max);
        let result = call();
        let outcome = self.stopwatch.stop();
        if let Some((meter, bytes, computed)) = before {
            let time = stopwatch::computed_time().saturating_sub(computed);
            meter.end(time, bytes, self.used_memory());
        }
        arm(0).map_err(|error| sandbox(program, &error))?;
        if let Outcome::RanOut { line } = outcome {
            let place = Place { file: program.file.clone(), line };
            return Err(Breach::OutOfTime { place, time_max: of.time_max });
        }
        result.map_err(|error| Breach::from_lua(&error, &program.file, of.memory_bytes_max))
    }
}

fn sandbox(program: &Program, error: &mlua::Error) -> Breach {
    let place = Place { file: program.file.clone(), line: None };
    Breach::Sandbox { place, message: error.to_string() }
}
