//! What is named, called, built and returned.

use full_moon::ast::{
    Call, Expression, Field, FunctionArgs, FunctionCall, Index, Prefix, Return, Suffix,
    TableConstructor, Var,
};
use full_moon::tokenizer::{TokenReference, TokenType};

use super::super::{LITERAL_BYTES_MAX, Meaning, suggestion};
use super::{DEPTH_MAX, Finding, Walk, line_of, line_of_node, name_of, place_of};

/// What the functions of a rule are given, by their names.
const GIVEN: [(&str, &[Meaning]); 3] = [
    ("keys", &[Meaning::Transaction]),
    ("decide", &[Meaning::Transaction, Meaning::History, Meaning::Plain, Meaning::Rows]),
    ("effects", &[Meaning::Transaction, Meaning::Plain]),
];
/// What authors of other Lua look for, and what there is in its place.
const INSTEAD: [(&str, &str); 8] = [
    ("print", "a rule has no output: give a reason back, or see backstop rules try"),
    ("require", "a rule is one file: write the function here, above"),
    ("os", "the only clock is tx.at, and time tells its hour and weekday"),
    ("io", "a rule reads no file: lists lie in rows/, and decide gets them as rows"),
    ("math.random", "a rule is pure: hash.share(tx.account) is in [0, 1) and always the same"),
    ("math.randomseed", "a rule is pure: hash.share(tx.account) is in [0, 1) and always the same"),
    ("coroutine", "a call runs to its end, within its time"),
    ("loadstring", "code is only loaded from the files of the rules"),
];
const VERDICTS: [&str; 3] = ["approve", "decline", "review"];

impl Walk<'_> {
    pub(super) fn expression(&mut self, expression: &Expression) {
        if self.depth >= DEPTH_MAX {
            return;
        }
        self.depth += 1;
        match expression {
            Expression::BinaryOperator { lhs, rhs, .. } => {
                self.expression(lhs);
                self.expression(rhs);
            }
            Expression::Parentheses { expression, .. }
            | Expression::UnaryOperator { expression, .. } => self.expression(expression),
            Expression::Function(function) => self.function(function.body(), false),
            Expression::FunctionCall(call) => self.call(call),
            Expression::TableConstructor(table) => self.table(table),
            Expression::Var(variable) => self.variable(variable),
            Expression::String(token) => {
                let text = text_of(token).filter(|text| text.len() <= LITERAL_BYTES_MAX);
                self.reading.texts.extend(text);
            }
            Expression::Number(token) => {
                self.reading.numbers.extend(token.token().to_string().parse::<f64>());
            }
            _ => {}
        }
        self.depth -= 1;
    }

    /// What the value of an expression stands for, where that is plain to see.
    pub(super) fn meaning(&self, expression: &Expression) -> Meaning {
        match expression {
            Expression::Var(Var::Name(name)) => {
                self.scopes.find(&name_of(name)).unwrap_or_default()
            }
            Expression::Function(function) => Meaning::Function(place_of(function.body())),
            Expression::Parentheses { expression, .. } => self.meaning(expression),
            _ => Meaning::Plain,
        }
    }

    pub(super) fn variable(&mut self, variable: &Var) {
        match variable {
            Var::Name(name) => self.named(name),
            Var::Expression(chain) => {
                let suffixes: Vec<&Suffix> = chain.suffixes().collect();
                self.chain(chain.prefix(), &suffixes);
            }
            _ => {}
        }
    }

    /// A name that is read: a local, or a global that must be there.
    pub(super) fn named(&mut self, at: &TokenReference) {
        let name = name_of(at);
        let world = self.known.world;
        let is_there = self.scopes.find(&name).is_some() || world.globals.contains_key(&name);
        if is_there || self.learned.assigned.contains(&name) {
            return;
        }
        let right = instead(&name).unwrap_or_else(|| {
            suggestion(&name, world.globals.keys(), || {
                format!("declare it with local {name} = ..., above")
            })
        });
        self.find(at, format!("there is no {name} here"), right);
    }

    pub(super) fn call(&mut self, call: &FunctionCall) {
        let suffixes: Vec<&Suffix> = call.suffixes().collect();
        if let (Prefix::Name(name), Some(Suffix::Call(Call::AnonymousCall(arguments)))) =
            (call.prefix(), suffixes.first())
            && let Some(Meaning::Function(place)) = self.scopes.find(&name_of(name))
        {
            let meant = arguments_of(arguments).map(|it| self.meaning(it)).collect::<Vec<_>>();
            self.hands_over(place, &meant);
        }
        self.chain(call.prefix(), &suffixes);
    }

    /// That a function is called with these.
    fn hands_over(&mut self, place: usize, meant: &[Meaning]) {
        let known = self.learned.parameters.entry(place).or_default();
        if known.len() < meant.len() {
            known.resize(meant.len(), Meaning::Plain);
        }
        for (known, meaning) in known.iter_mut().zip(meant) {
            if *known == Meaning::Plain {
                *known = *meaning;
            }
        }
    }

    fn chain(&mut self, prefix: &Prefix, suffixes: &[&Suffix]) {
        match prefix {
            Prefix::Expression(expression) => self.expression(expression),
            Prefix::Name(name) => {
                self.named(name);
                if let Some(Suffix::Index(index)) = suffixes.first() {
                    self.field(name, index);
                }
            }
            _ => {}
        }
        for suffix in suffixes {
            match suffix {
                Suffix::Index(Index::Brackets { expression, .. }) => self.expression(expression),
                Suffix::Call(Call::AnonymousCall(arguments)) => self.arguments(arguments),
                Suffix::Call(Call::MethodCall(call)) => {
                    self.method(call.name());
                    self.arguments(call.args());
                }
                _ => {}
            }
        }
    }

    fn arguments(&mut self, arguments: &FunctionArgs) {
        match arguments {
            FunctionArgs::TableConstructor(table) => self.table(table),
            other => arguments_of(other).for_each(|argument| self.expression(argument)),
        }
    }

    /// What is read of a request, of the histories, of rule rows or of a library.
    fn field(&mut self, of: &TokenReference, index: &Index) {
        let (at, field) = match index {
            Index::Dot { name, .. } => (name, name_of(name)),
            Index::Brackets { expression: Expression::String(token), .. } => {
                (token, text_of(token).unwrap_or_default())
            }
            _ => return,
        };
        let (of, known) = (name_of(of), self.known);
        match self.scopes.find(&of) {
            Some(Meaning::Transaction) => self.request_field(at, &of, &field),
            Some(Meaning::History) if !self.learned.keys.contains(&field) => {
                let right = suggestion(&field, self.learned.keys.iter(), || {
                    format!("name it in keys: history = {{ {field} = ... }}")
                });
                self.find(at, format!("keys asks for no history {field}"), right);
            }
            Some(Meaning::Rows) if !known.rows.contains(&field) => {
                let right = suggestion(&field, known.rows.iter(), || {
                    format!("write its rows to rows/{field}.csv or rows/{field}.json")
                });
                self.find(at, format!("there are no rows {field}"), right);
            }
            None => {
                let Some(library) = known.world.globals.get(&of) else { return };
                if !library.is_empty() && !library.contains(&field) {
                    let right = instead(&format!("{of}.{field}")).unwrap_or_else(|| {
                        suggestion(&field, library.iter(), || {
                            let all: Vec<&str> = library.iter().map(String::as_str).collect();
                            format!("{of} has {}", all.join(", "))
                        })
                    });
                    self.find(at, format!("there is no {of}.{field} here"), right);
                }
            }
            Some(_) => {}
        }
    }

    fn request_field(&mut self, at: &TokenReference, of: &str, field: &str) {
        let world = &self.known.world.fields;
        let Some(fields) = self.known.fields else { return };
        if world.contains(field) || fields.iter().any(|known| known == field) {
            return;
        }
        let add = format!("add \"{field}\" to fields");
        let near = suggestion(field, world.iter().chain(fields), String::new);
        let right = if near.is_empty() { add } else { format!("{near}, or {add}") };
        let wrong = format!(
            "{of}.{field} is always nil: it is no field of a request, and fields does not name it"
        );
        self.find(at, wrong, right.replacen("write ", &format!("write {of}."), 1));
    }

    fn method(&mut self, at: &TokenReference) {
        let name = name_of(at);
        let methods = &self.known.world.methods;
        let own = self.learned.methods.contains(&name) || self.learned.keys.contains(&name);
        if methods.contains(&name) || own {
            return;
        }
        let right = suggestion(&name, methods.iter(), || {
            format!(
                "there are {}",
                methods.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            )
        });
        self.find(at, format!("nothing answers to :{name}()"), right);
    }

    fn table(&mut self, table: &TableConstructor) {
        for field in table.fields() {
            match field {
                Field::NameKey { key, value, .. } => {
                    let name = name_of(key);
                    self.part(&name, value);
                    self.learned.keys.insert(name);
                    self.expression(value);
                }
                Field::ExpressionKey { key, value, .. } => {
                    if let Expression::String(token) = key {
                        self.learned.keys.extend(text_of(token));
                    }
                    self.expression(key);
                    self.expression(value);
                }
                Field::NoKey(value) => self.expression(value),
                _ => {}
            }
        }
    }

    /// A part of the table that a rule returns: what its functions are given is known.
    fn part(&mut self, name: &str, value: &Expression) {
        let Meaning::Function(place) = self.meaning(value) else { return };
        for (known, given) in GIVEN {
            if known == name {
                self.hands_over(place, given);
                if name == "decide" {
                    self.learned.decides.insert(place);
                }
            }
        }
    }

    pub(super) fn returns(&mut self, last: &Return) {
        let values: Vec<&Expression> = last.returns().iter().collect();
        for value in &values {
            self.expression(value);
        }
        if !self.deciding.last().copied().unwrap_or_default() {
            return;
        }
        let right = "return \"approve\", \"decline\" or \"review\", then reasons, then a score";
        let line = line_of(last.token());
        match values.first() {
            None => self.found(line, "decide returns nothing", right),
            Some(Expression::String(token)) => {
                let text = text_of(token).unwrap_or_default();
                if text == "approve" {
                    self.reading.approves.extend(line);
                } else if !VERDICTS.contains(&text.as_str()) {
                    let near = super::super::nearest(&text, VERDICTS.into_iter());
                    let right = near.map_or(right.to_owned(), |near| format!("write \"{near}\""));
                    self.found(line, &format!("\"{text}\" is no decision"), &right);
                }
            }
            Some(Expression::FunctionCall(call)) => self.returns_call(call),
            Some(
                value @ (Expression::Number(_)
                | Expression::Symbol(_)
                | Expression::TableConstructor(_)
                | Expression::Function(_)),
            ) if value.to_string().trim() != "..." => {
                let text: String = value.to_string().trim().chars().take(40).collect();
                let line = line_of_node(*value);
                self.found(line, &format!("decide returns {text}, which is no decision"), right);
            }
            Some(_) => {}
        }
    }

    /// What is returned is what another function says: it decides too.
    fn returns_call(&mut self, call: &FunctionCall) {
        let mut suffixes = call.suffixes();
        if let (Prefix::Name(name), Some(Suffix::Call(Call::AnonymousCall(_))), None) =
            (call.prefix(), suffixes.next(), suffixes.next())
            && let Some(Meaning::Function(place)) = self.scopes.find(&name_of(name))
        {
            self.learned.decides.insert(place);
        }
    }

    fn found(&mut self, line: Option<u32>, wrong: &str, right: &str) {
        self.reading.findings.push(Finding::new(self.file, line, wrong, right));
    }
}

fn instead(name: &str) -> Option<String> {
    INSTEAD.iter().find(|(known, _)| *known == name).map(|(_, right)| (*right).to_owned())
}

fn arguments_of(arguments: &FunctionArgs) -> Box<dyn Iterator<Item = &Expression> + '_> {
    match arguments {
        FunctionArgs::Parentheses { arguments, .. } => Box::new(arguments.iter()),
        _ => Box::new(std::iter::empty()),
    }
}

/// What stands between the quotes.
fn text_of(token: &TokenReference) -> Option<String> {
    match token.token().token_type() {
        TokenType::StringLiteral { literal, .. } => Some(literal.to_string()),
        _ => None,
    }
}
