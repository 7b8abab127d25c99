//! A bundle ready to decide. Whatever a rule does, each decision here ends in a ruling.

mod pool;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use backstop_contract::{Question, Verdict};
use backstop_engine::{History, Moves};

use crate::answer;
use crate::breach::{Breach, Place};
use crate::bundle::{self, Bundle, BundleError, Role};
use crate::library::regex::Patterns;
use crate::meter::Meter;
use crate::ruling::{Keys, NO_DEFAULT, Ruling, SAFE};
use crate::sandbox::{Allowance, Machine, Program, Surroundings};
use crate::shape::Shape;
use crate::transaction::View;
use pool::Pool;

/// How long the top level of a file may run when the rules are loaded.
pub const LOAD_TIME_MAX: Duration = Duration::from_millis(250);

/// The rules of one bundle, compiled and checked. Calls are synchronous and may come from any thread.
pub struct Rules {
    bundle: Bundle,
    memory_bytes_max: usize,
    policies: BTreeMap<String, Rule>,
    defaults: BTreeMap<String, Rule>,
    around: Surroundings,
    pool: Pool,
}

/// A file that may decide.
struct Rule {
    program: Program,
    shape: Shape,
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Says<'a> {
    /// The attributes it reads.
    pub fields: &'a [String],
    /// Its answer when in doubt.
    pub safe: Verdict,
    /// No stand-in may approve; of a default, false.
    pub strict: bool,
    /// It has the function `effects`.
    pub moves: bool,
}

impl<'a> Says<'a> {
    fn of(Rule { shape, .. }: &'a Rule) -> Self {
        Self { fields: &shape.fields, safe: shape.safe, strict: shape.strict, moves: shape.moves }
    }
}

impl Rule {
    /// What one of its functions returned is no answer: the line is where that function begins.
    fn nonsense(&self, line: Option<u32>, message: String) -> Breach {
        Breach::Nonsense { place: Place { file: self.program.file.clone(), line }, message }
    }
}

impl Rules {
    /// Compiles a bundle and runs each file once, under the limits. `memory_bytes_max` is what one
    /// virtual machine may hold in a call.
    pub fn new(bundle: Bundle, memory_bytes_max: usize) -> Result<Self, BundleError> {
        Self::build(bundle, memory_bytes_max, None)
    }

    /// The same with a meter, for one thread at a time.
    pub fn metered(
        bundle: Bundle,
        memory_bytes_max: usize,
        meter: Arc<Meter>,
    ) -> Result<Self, BundleError> {
        Self::build(bundle, memory_bytes_max, Some(meter))
    }

    fn build(
        bundle: Bundle,
        memory_bytes_max: usize,
        meter: Option<Arc<Meter>>,
    ) -> Result<Self, BundleError> {
        let (patterns, rows) = (Patterns::default(), bundle.rows().clone());
        let mut rules = Self {
            policies: rules_of(&bundle, Role::Policy, 0)?,
            defaults: BTreeMap::new(),
            around: Surroundings { patterns, rows, meter },
            bundle,
            memory_bytes_max,
            pool: Pool::default(),
        };
        rules.defaults = rules_of(&rules.bundle, Role::Default, rules.policies.len())?;
        rules.read_shapes()?;
        // What each file sees is known only now, and a machine keeps it.
        let machine = rules.machine().map_err(BundleError::Sandbox)?;
        rules.pool.put_back(machine);
        Ok(rules)
    }

    /// The version of the bundle: twelve hexadecimal digits.
    pub fn version(&self) -> &str {
        self.bundle.version()
    }

    /// The bundle these rules were made of.
    pub const fn bundle(&self) -> &Bundle {
        &self.bundle
    }

    /// What the file of a policy says of itself.
    pub fn policy_says(&self, name: &str) -> Option<Says<'_>> {
        self.policies.get(name).map(Says::of)
    }

    /// What the file of a default says of itself.
    pub fn default_says(&self, name: &str) -> Option<Says<'_>> {
        self.defaults.get(name).map(Says::of)
    }

    /// Whether requests may ask for this policy.
    pub fn has_policy(&self, name: &str) -> bool {
        self.policies.contains_key(name)
    }

    /// The edge's answer, alone. A policy without a default is for people to review.
    pub fn decide_by_default(&self, question: &Question, time_max: Duration) -> Ruling {
        let policy = question.request.policy.as_str();
        let Some(rule) = self.defaults.get(policy) else {
            return Ruling::without_rule(Verdict::Review, NO_DEFAULT);
        };
        let said = self.on_a_machine(&rule.program, |machine| {
            let returned =
                machine.decide_alone(&rule.program, question, self.allowance(time_max))?;
            answer::ruling(&returned)
                .map_err(|message| rule.nonsense(rule.shape.lines.decide, message))
        });
        let ruling = Ruling::of(said, &rule.shape);
        if self.policies.get(policy).is_some_and(|policy| policy.shape.strict) {
            ruling.never_approving(rule.shape.safe)
        } else {
            ruling
        }
    }

    /// The edge's answer when stand-ins have approved as much as they may: the safe one of the default,
    /// or a review where that would approve.
    pub fn decide_capped(&self, question: &Question) -> Ruling {
        let rule = self.defaults.get(&question.request.policy);
        Ruling::capped(rule.map_or(Verdict::Review, |rule| rule.shape.safe))
    }

    /// Which history and stock the policy wants to see before it decides.
    pub fn keys(&self, question: &Question, time_max: Duration) -> Result<Keys, Breach> {
        let rule = self.policy(question)?;
        self.on_a_machine(&rule.program, |machine| {
            let returned = machine.keys(&rule.program, question, self.allowance(time_max))?;
            answer::keys(&returned).map_err(|message| rule.nonsense(rule.shape.lines.keys, message))
        })
    }

    /// The policy's answer, given the history and stock it asked for. With `stand_in`, it is given in
    /// core's place.
    pub fn decide_by_policy(
        &self,
        question: &Question,
        histories: &BTreeMap<String, History>,
        stock: &BTreeMap<String, i64>,
        stand_in: bool,
        time_max: Duration,
    ) -> Ruling {
        let rule = match self.policy(question) {
            Ok(rule) => rule,
            Err(breach) => return self.safe_answer(question, stand_in, breach),
        };
        let said = self.on_a_machine(&rule.program, |machine| {
            let of = self.allowance(time_max);
            let returned = machine.decide(&rule.program, question, histories, stock, of)?;
            answer::ruling(&returned)
                .map_err(|message| rule.nonsense(rule.shape.lines.decide, message))
        });
        let ruling = Ruling::of(said, &rule.shape);
        if stand_in && rule.shape.strict { ruling.never_approving(rule.shape.safe) } else { ruling }
    }

    /// Whether decisions of this policy may move something: it has a function `effects`.
    pub fn moves(&self, policy: &str) -> bool {
        self.policies.get(policy).is_some_and(|rule| rule.shape.moves)
    }

    /// What the policy moves for a decision of its own. It takes only stock that it asked for in
    /// `keys`. A review moves nothing, and is not asked about.
    pub fn effects(
        &self,
        question: &Question,
        keys: &Keys,
        decision: Verdict,
        time_max: Duration,
    ) -> Result<Moves, Breach> {
        let rule = self.policy(question)?;
        if !rule.shape.moves || decision == Verdict::Review {
            return Ok(Moves::default());
        }
        self.on_a_machine(&rule.program, |machine| {
            let of = self.allowance(time_max);
            let returned = machine.effects(&rule.program, question, decision, of)?;
            answer::moves(&returned, keys)
                .map_err(|message| rule.nonsense(rule.shape.lines.effects, message))
        })
    }

    /// The answer when a policy broke before or after it decided, in [`Rules::keys`] or
    /// [`Rules::effects`]: its safe one, or a review when there is no such policy.
    pub fn safe_answer(&self, question: &Question, stand_in: bool, breach: Breach) -> Ruling {
        let Some(rule) = self.policies.get(&question.request.policy) else {
            let nobody = Ruling::without_rule(Verdict::Review, SAFE);
            return Ruling { breach: Some(breach), ..nobody };
        };
        let ruling = Ruling::of(Err(breach), &rule.shape);
        if stand_in && rule.shape.strict { ruling.never_approving(rule.shape.safe) } else { ruling }
    }

    fn policy(&self, question: &Question) -> Result<&Rule, Breach> {
        let policy = &question.request.policy;
        let missing = || Breach::NoPolicy { policy: policy.clone() };
        self.policies.get(policy).ok_or_else(missing)
    }

    const fn allowance(&self, time_max: Duration) -> Allowance {
        Allowance { time_max, memory_bytes_max: self.memory_bytes_max }
    }

    /// Runs one call on a machine of its own. A machine that was stopped, or is half full, never
    /// serves again: so each call finds at least half of the memory free.
    fn on_a_machine<T>(
        &self,
        program: &Program,
        call: impl FnOnce(&Machine) -> Result<T, Breach>,
    ) -> Result<T, Breach> {
        let failed = |message: String| {
            let place = Place { file: program.file.clone(), line: None };
            Breach::Sandbox { place, message }
        };
        // A fallback has no way to fail: a bug in here costs this answer, not the process.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let machine = match self.pool.take() {
                Some(machine) => machine,
                None => self.machine().map_err(|error| failed(error.to_string()))?,
            };
            let outcome = call(&machine);
            let spared = outcome.as_ref().err().is_none_or(Breach::spares_the_machine);
            if spared && machine.used_memory() <= self.memory_bytes_max / 2 {
                self.pool.put_back(machine);
            }
            outcome
        }));
        outcome.unwrap_or_else(|_panic| Err(failed("it panicked".to_owned())))
    }

    fn machine(&self) -> mlua::Result<Machine> {
        // In the order of their indices.
        let rules = self.policies.values().chain(self.defaults.values());
        Machine::new(rules.map(|rule| &rule.program), &self.around)
    }

    /// Runs the top level of each file and takes down what it says of itself.
    fn read_shapes(&mut self) -> Result<(), BundleError> {
        let machine = self.machine().map_err(BundleError::Sandbox)?;
        let bytes_min = machine.used_memory().saturating_mul(2);
        if self.memory_bytes_max < bytes_min {
            let bytes_max = self.memory_bytes_max;
            return Err(BundleError::TooLittleMemory { bytes_max, bytes_min });
        }
        let of = self.allowance(LOAD_TIME_MAX);
        for (role, rules) in
            [(Role::Policy, &mut self.policies), (Role::Default, &mut self.defaults)]
        {
            for (name, source) in self.bundle.of(role) {
                let Some(rule) = rules.get_mut(name) else { continue };
                let shape = machine
                    .top_level(&rule.program, of)
                    .and_then(|value| Shape::read(&value, role, &rule.program.file, source))
                    .map_err(|breach| self.bundle.refused(breach))?;
                rule.program.view = View::new(&shape.fields).map_err(BundleError::Sandbox)?;
                rule.shape = shape;
            }
        }
        Ok(())
    }
}

/// The files of one role, compiled; their indices follow those of the files before them.
fn rules_of(
    bundle: &Bundle,
    role: Role,
    first: usize,
) -> Result<BTreeMap<String, Rule>, BundleError> {
    let files = bundle.of(role).enumerate();
    let compiled = |(place, (name, text)): (usize, (&str, &str))| {
        let file = role.file(name);
        let bytecode = bundle::compile(&file, text).map_err(|breach| bundle.refused(breach))?;
        let view = View::new(&[]).map_err(BundleError::Sandbox)?;
        let program = Program { index: first + place, file, bytecode, view };
        Ok((name.to_owned(), Rule { program, shape: Shape::unread() }))
    };
    files.map(compiled).collect()
}

impl std::fmt::Debug for Rules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules").field("version", &self.version()).finish_non_exhaustive()
    }
}
