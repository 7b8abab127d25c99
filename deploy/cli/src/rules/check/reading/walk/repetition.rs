//! Loops, and those that plainly never end.

use full_moon::ast::{Block, Expression, Stmt};
use full_moon::tokenizer::TokenReference;

use super::{Meaning, Walk, name_of};

impl Walk<'_> {
    pub(super) fn repetition(&mut self, statement: &Stmt) {
        match statement {
            Stmt::NumericFor(each) => {
                let bounds = [Some(each.start()), Some(each.end()), each.step()];
                for bound in bounds.into_iter().flatten() {
                    self.expression(bound);
                }
                if is_huge(each.end()) && !leaves(each.block()) {
                    self.endless(each.for_token());
                }
                self.scopes.enter();
                self.scopes.declare(name_of(each.index_variable()), Meaning::Plain);
                self.statements(each.block());
                self.scopes.leave();
            }
            Stmt::GenericFor(each) => {
                each.expressions().iter().for_each(|expression| self.expression(expression));
                self.scopes.enter();
                for name in each.names() {
                    self.scopes.declare(name_of(name), Meaning::Plain);
                }
                self.statements(each.block());
                self.scopes.leave();
            }
            Stmt::While(each) => {
                self.expression(each.condition());
                if is_always(each.condition(), true) && !leaves(each.block()) {
                    self.endless(each.while_token());
                }
                self.block(each.block());
            }
            Stmt::Repeat(each) => {
                // Its condition sees the locals of its block.
                self.scopes.enter();
                self.statements(each.block());
                self.expression(each.until());
                self.scopes.leave();
                if is_always(each.until(), false) && !leaves(each.block()) {
                    self.endless(each.repeat_token());
                }
            }
            _ => {}
        }
    }

    fn endless(&mut self, at: &TokenReference) {
        let right = "count with for i = 1, N do, or leave the loop by break or return";
        self.find(at, "this loop never ends", right);
    }
}

/// Whether a block may leave the loop around it: by break or return, or by an error that it raises.
fn leaves(block: &Block) -> bool {
    block.last_stmt().is_some() || block.stmts().any(statement_leaves)
}

fn statement_leaves(statement: &Stmt) -> bool {
    match statement {
        Stmt::Do(inner) => leaves(inner.block()),
        Stmt::If(choice) => {
            leaves(choice.block())
                || choice.else_if().into_iter().flatten().any(|other| leaves(other.block()))
                || choice.else_block().is_some_and(leaves)
        }
        // A break within ends only the inner one, yet a return ends both: better silent than wrong.
        Stmt::NumericFor(each) => leaves(each.block()),
        Stmt::GenericFor(each) => leaves(each.block()),
        Stmt::Repeat(each) => leaves(each.block()),
        Stmt::While(each) => leaves(each.block()),
        Stmt::FunctionCall(call) => ["error", "assert"].contains(&call.prefix().to_string().trim()),
        _ => false,
    }
}

fn is_always(condition: &Expression, wanted: bool) -> bool {
    match condition {
        Expression::Symbol(symbol) => match symbol.token().to_string().as_str() {
            "true" => wanted,
            "false" | "nil" => !wanted,
            _ => false,
        },
        Expression::Number(_) | Expression::String(_) => wanted,
        Expression::Parentheses { expression, .. } => is_always(expression, wanted),
        _ => false,
    }
}

fn is_huge(end: &Expression) -> bool {
    end.to_string().trim() == "math.huge"
}
