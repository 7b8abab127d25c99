//! One walk over a file, statement by statement.

mod expression;
mod repetition;

use full_moon::ast::{
    Assignment, Block, Expression, FunctionBody, FunctionDeclaration, LastStmt, LocalAssignment,
    Parameter, Stmt, Var,
};
use full_moon::node::Node;
use full_moon::tokenizer::TokenReference;

use super::scope::{Meaning, Place, Scopes};
use super::{Finding, Known, Learned, Reading};

/// How deep blocks and expressions may lie in one another; Luau refuses much deeper ones itself.
const DEPTH_MAX: usize = 200;

/// What is known and found on the way.
pub struct Walk<'a> {
    file: &'a str,
    known: &'a Known<'a>,
    scopes: Scopes,
    learned: Learned,
    reading: Reading,
    /// Whether each function around is one whose answer is the decision.
    deciding: Vec<bool>,
    depth: usize,
}

impl<'a> Walk<'a> {
    /// A walk with what earlier ones have learned.
    pub fn new(file: &'a str, known: &'a Known<'a>, learned: Learned) -> Self {
        let (scopes, reading) = (Scopes::new(), Reading::default());
        Self { file, known, scopes, learned, reading, deciding: vec![false], depth: 0 }
    }

    /// What was found, and what is known now.
    pub fn end(mut self) -> (Reading, Learned) {
        self.reading.findings.sort();
        self.reading.findings.dedup();
        (self.reading, self.learned)
    }

    /// Walks a block within the scope that is there.
    pub fn statements(&mut self, block: &Block) {
        if self.depth >= DEPTH_MAX {
            return;
        }
        self.depth += 1;
        for statement in block.stmts() {
            self.statement(statement);
        }
        if let Some(LastStmt::Return(last)) = block.last_stmt() {
            self.returns(last);
        }
        self.depth -= 1;
    }

    fn find(&mut self, at: &TokenReference, wrong: impl Into<String>, right: impl Into<String>) {
        self.reading.findings.push(Finding::new(self.file, line_of(at), wrong, right));
    }

    fn block(&mut self, block: &Block) {
        self.scopes.enter();
        self.statements(block);
        self.scopes.leave();
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Assignment(assignment) => self.assignment(assignment),
            Stmt::Do(inner) => self.block(inner.block()),
            Stmt::FunctionCall(call) => self.call(call),
            Stmt::FunctionDeclaration(declaration) => self.declaration(declaration),
            Stmt::LocalAssignment(assignment) => self.local(assignment),
            Stmt::LocalFunction(function) => {
                let place = place_of(function.body());
                self.scopes.declare(name_of(function.name()), Meaning::Function(place));
                self.function(function.body(), false);
            }
            Stmt::If(choice) => {
                self.expression(choice.condition());
                self.block(choice.block());
                for other in choice.else_if().into_iter().flatten() {
                    self.expression(other.condition());
                    self.block(other.block());
                }
                if let Some(block) = choice.else_block() {
                    self.block(block);
                }
            }
            Stmt::NumericFor(_) | Stmt::GenericFor(_) | Stmt::Repeat(_) | Stmt::While(_) => {
                self.repetition(statement);
            }
            // Lua 5.1 has no others.
            _ => {}
        }
    }

    fn assignment(&mut self, assignment: &Assignment) {
        assignment.expressions().iter().for_each(|expression| self.expression(expression));
        for variable in assignment.variables() {
            match variable {
                Var::Name(name) => self.assigned(name),
                other => self.variable(other),
            }
        }
    }

    fn assigned(&mut self, at: &TokenReference) {
        let name = name_of(at);
        if self.scopes.find(&name).is_none() {
            let wrong = format!("{name} is a global, and no global can be written");
            self.find(at, wrong, format!("write local {name}"));
            self.learned.assigned.insert(name);
        }
    }

    fn declaration(&mut self, declaration: &FunctionDeclaration) {
        let name = declaration.name();
        let simple = name.names().len() == 1 && name.method_name().is_none();
        if let Some(first) = name.names().iter().next() {
            if simple {
                self.assigned(first);
            } else {
                self.named(first);
            }
        }
        if let Some(method) = name.method_name().or_else(|| name.names().iter().last()) {
            self.learned.methods.insert(name_of(method));
        }
        self.function(declaration.body(), name.method_name().is_some());
    }

    fn local(&mut self, assignment: &LocalAssignment) {
        let values: Vec<&Expression> = assignment.expressions().iter().collect();
        for value in &values {
            self.expression(value);
        }
        let meant: Vec<Meaning> = values.iter().map(|value| self.meaning(value)).collect();
        for (place, name) in assignment.names().iter().enumerate() {
            let meaning = meant.get(place).copied().unwrap_or_default();
            self.scopes.declare(name_of(name), meaning);
        }
    }

    fn function(&mut self, body: &FunctionBody, is_method: bool) {
        let place = place_of(body);
        let meant = self.learned.parameters.get(&place).cloned().unwrap_or_default();
        self.scopes.enter();
        if is_method {
            self.scopes.declare("self".to_owned(), Meaning::Plain);
        }
        for (number, parameter) in body.parameters().iter().enumerate() {
            if let Parameter::Name(name) = parameter {
                let meaning = meant.get(number).copied().unwrap_or_default();
                self.scopes.declare(name_of(name), meaning);
            }
        }
        self.deciding.push(self.learned.decides.contains(&place));
        self.statements(body.block());
        self.deciding.pop();
        self.scopes.leave();
    }
}

fn place_of(body: &FunctionBody) -> Place {
    body.parameters_parentheses().tokens().0.token().start_position().bytes()
}

fn name_of(token: &TokenReference) -> String {
    token.token().to_string()
}

fn line_of(token: &TokenReference) -> Option<u32> {
    token.token().start_position().line().try_into().ok()
}

fn line_of_node(node: &impl Node) -> Option<u32> {
    node.start_position()?.line().try_into().ok()
}
