//! From text to nodes, by precedence climbing (Pratt).
//!
//! | precedence | |
//! |---|---|
//! | lowest | `+ -` |
//! | | `* /` |
//! | | `-` and `+` before a value: −x² is −(x²) |
//! | highest | `^`, from right to left |

use std::collections::BTreeMap;
use std::ops::Range;

use super::function::{Binary, Callable, FUNCTIONS, Unary};
use super::graph::{Graph, NodeId};
use crate::error::nearest;

/// What is wrong with a text, and which of its characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulator) struct Fault {
    pub(in crate::simulator) place: Range<usize>,
    pub(in crate::simulator) reason: String,
}

impl Fault {
    pub(in crate::simulator) fn new(place: Range<usize>, reason: impl Into<String>) -> Self {
        Self { place, reason: reason.into() }
    }
}

/// Names that stand for nodes.
pub(in crate::simulator) type Names = BTreeMap<String, NodeId>;

/// Parentheses within each other: more than anybody writes, and far from the end of the stack.
const DEEPEST: usize = 64;

const SUM: u8 = 1;
const PRODUCT: u8 = 2;
const SIGN: u8 = 3;
const POWER: u8 = 4;

/// Whether a text could be the name of a state, control or constant.
pub(in crate::simulator) fn is_name(text: &str) -> bool {
    text.chars().next().is_some_and(starts_name) && text.chars().all(continues_name)
}

/// Refuses a name that expressions could not use, in words that follow the name.
pub(in crate::simulator) fn check_name(name: &str) -> Result<(), &'static str> {
    if !is_name(name) {
        return Err("a name of letters, digits and _, with a letter in front");
    }
    match name {
        "t" => Err("another name: t is the time"),
        "pi" => Err("another name: pi is the number π"),
        _ if Callable::named(name).is_some() => Err("another name: this one is a function's"),
        _ => Ok(()),
    }
}

fn starts_name(c: char) -> bool {
    c.is_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A text that is being read.
pub(in crate::simulator) struct Parser<'a> {
    text: Vec<char>,
    at: usize,
    depth: usize,
    graph: &'a mut Graph,
    names: &'a Names,
    /// What is said of a name that is not known, beside the nearest that is.
    hint: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Parser<'a> {
    /// Reads from the character `start` on.
    pub(in crate::simulator) fn new(
        text: &str,
        start: usize,
        graph: &'a mut Graph,
        names: &'a Names,
        hint: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { text: text.chars().collect(), at: start, depth: 0, graph, names, hint }
    }

    /// The node of the whole rest of the text.
    pub(in crate::simulator) fn whole(mut self) -> Result<NodeId, Fault> {
        let node = self.expression(SUM)?;
        match self.peek() {
            None => Ok(node),
            Some(')') => Err(self.fault_here("this parenthesis closes none")),
            Some(_) => Err(self.unexpected("an operator is missing here")),
        }
    }

    fn peek(&mut self) -> Option<char> {
        while self.text.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    fn fault_here(&self, reason: impl Into<String>) -> Fault {
        Fault::new(self.at..self.at + 1, reason)
    }

    /// Of a character that fits nowhere, what it may have been meant for; else `otherwise`.
    fn unexpected(&mut self, otherwise: &str) -> Fault {
        let reason = match self.peek() {
            Some(',') => "a comma stands between the arguments of a function only; a number has a point",
            Some('\'') => "a derivative stands on the left of `=` only",
            Some('=') => "an equation has one `=`, an expression none",
            Some('<' | '>' | '!' | '&' | '|' | '?') => {
                "there are no conditions; min, max, abs and sign may do"
            }
            Some('[' | ']' | '{' | '}') => "only round parentheses group",
            Some('%') => "there is no remainder",
            _ => otherwise,
        };
        let start = self.at;
        self.skip_word();
        Fault::new(start..self.at.max(start + 1), reason)
    }

    fn skip_word(&mut self) {
        while self.text.get(self.at).is_some_and(|&c| continues_name(c)) {
            self.at += 1;
        }
    }

    /// All that binds at least as strongly as `least`.
    fn expression(&mut self, least: u8) -> Result<NodeId, Fault> {
        self.peek();
        let start = self.at;
        let mut left = self.operand()?;
        while let Some(c) = self.peek() {
            let (function, strength) = match c {
                '+' => (Binary::Add, SUM),
                '-' => (Binary::Sub, SUM),
                '*' => (Binary::Mul, PRODUCT),
                '/' => (Binary::Div, PRODUCT),
                '^' => (Binary::Pow, POWER),
                _ => break,
            };
            if strength < least {
                break;
            }
            self.at += 1;
            if c == '*' && self.text.get(self.at) == Some(&'*') {
                return Err(Fault::new(self.at - 1..self.at + 1, "a power is written ^"));
            }
            // From right to left: what follows ^ may hold a further one, and a sign.
            let right_least = if c == '^' { SIGN } else { strength + 1 };
            let right = self.nested(|parser| parser.expression(right_least))?;
            left = self.graph.binary(function, left, right);
            self.finite(left, start)?;
        }
        Ok(left)
    }

    /// A number, name, call or parenthesis, or one with a sign.
    fn operand(&mut self) -> Result<NodeId, Fault> {
        let Some(c) = self.peek() else {
            let end = self.text.len();
            return Err(Fault::new(end..end + 1, "something is missing here"));
        };
        match c {
            '-' | '+' => {
                self.at += 1;
                let node = self.nested(|parser| parser.expression(SIGN))?;
                Ok(if c == '-' { self.graph.unary(Unary::Neg, node) } else { node })
            }
            '(' => {
                let open = self.at;
                self.at += 1;
                let node = self.nested(|parser| parser.expression(SUM))?;
                self.close(open)?;
                Ok(node)
            }
            c if c.is_ascii_digit() || c == '.' => self.number(),
            c if starts_name(c) => self.name(),
            ')' => Err(self.fault_here("something is missing in front of this parenthesis")),
            '*' | '/' | '^' => Err(self.fault_here("something is missing in front of this operator")),
            _ => Err(self.unexpected("an expression has no such character")),
        }
    }

    fn nested(&mut self, read: impl FnOnce(&mut Self) -> Result<NodeId, Fault>) -> Result<NodeId, Fault> {
        if self.depth == DEEPEST {
            return Err(self.fault_here(format!("this is nested deeper than {DEEPEST} levels")));
        }
        self.depth += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    /// Past the parenthesis that closes the one at `open`.
    fn close(&mut self, open: usize) -> Result<(), Fault> {
        match self.peek() {
            Some(')') => {
                self.at += 1;
                Ok(())
            }
            None => Err(Fault::new(open..open + 1, "this parenthesis is not closed")),
            Some(_) => Err(self.unexpected("an operator or a closing parenthesis is missing here")),
        }
    }

    fn number(&mut self) -> Result<NodeId, Fault> {
        let start = self.at;
        self.digits();
        if self.text.get(self.at) == Some(&'.') {
            self.at += 1;
            self.digits();
        }
        if matches!(self.text.get(self.at), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.text.get(self.at + 1), Some('+' | '-')));
            if self.text.get(self.at + 1 + sign).is_some_and(char::is_ascii_digit) {
                self.at += 1 + sign;
                self.digits();
            }
        }
        let written: String = self.text[start..self.at].iter().collect();
        let value: f64 = written.parse().map_err(|_| Fault::new(start..self.at, "this is no number"))?;
        if let Some(&c) = self.text.get(self.at).filter(|&&c| starts_name(c)) {
            let from = self.at;
            self.skip_word();
            let word: String = self.text[from..self.at].iter().collect();
            let reason = if c == 'e' || c == 'E' {
                "this is no number, and a product needs its *".to_owned()
            } else {
                format!("a product needs its *: write {written}*{word}")
            };
            return Err(Fault::new(start..self.at, reason));
        }
        let node = self.graph.constant(value);
        self.finite(node, start)?;
        Ok(node)
    }

    fn digits(&mut self) {
        while self.text.get(self.at).is_some_and(char::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn name(&mut self) -> Result<NodeId, Fault> {
        let start = self.at;
        self.skip_word();
        let place = start..self.at;
        let name: String = self.text[place.clone()].iter().collect();
        let called = self.peek() == Some('(');
        match (Callable::named(&name), self.names.get(&name)) {
            (Some(callable), _) if called => self.call(&name, callable, start),
            (Some(_), _) => Err(Fault::new(place, format!("{name} is a function: write {name}(…)"))),
            (None, Some(_)) if called => Err(Fault::new(
                place,
                format!("{name} is no function; a product needs its *: write {name}*(…)"),
            )),
            (None, Some(&node)) => Ok(node),
            (None, None) => Err(Fault::new(place, self.unknown(&name, called))),
        }
    }

    fn unknown(&self, name: &str, called: bool) -> String {
        let functions = FUNCTIONS.iter().map(|&(known, _)| known);
        if called {
            let known = || functions.clone().collect::<Vec<_>>().join(", ");
            let mend = nearest(name, functions.clone()).unwrap_or_else(|| format!("there are {}", known()));
            return format!("unknown function `{name}`; {mend}");
        }
        if let Some(hint) = (self.hint)(name) {
            return hint;
        }
        let known = || self.names.keys().map(String::as_str);
        let mend = nearest(name, known().chain(functions))
            .unwrap_or_else(|| format!("known here: {}", known().collect::<Vec<_>>().join(", ")));
        format!("unknown name `{name}`; {mend}")
    }

    fn call(&mut self, name: &str, callable: Callable, start: usize) -> Result<NodeId, Fault> {
        let open = self.at;
        self.at += 1;
        let mut arguments = Vec::new();
        if self.peek() != Some(')') {
            loop {
                arguments.push(self.nested(|parser| parser.expression(SUM))?);
                if self.peek() != Some(',') {
                    break;
                }
                self.at += 1;
            }
        }
        self.close(open)?;
        let node = match (callable, arguments.as_slice()) {
            (Callable::One(function), &[a]) => self.graph.unary(function, a),
            (Callable::Two(function), &[a, b]) => self.graph.binary(function, a, b),
            (_, given) => {
                let takes = callable.arguments();
                let noun = if takes == 1 { "argument" } else { "arguments" };
                let reason = format!("{name} takes {takes} {noun}, found {}", given.len());
                return Err(Fault::new(start..self.at, reason));
            }
        };
        self.finite(node, start)?;
        Ok(node)
    }

    /// Refuses a constant that is no finite number.
    fn finite(&self, node: NodeId, start: usize) -> Result<(), Fault> {
        match self.graph.value(node) {
            Some(value) if !value.is_finite() => {
                let reason = format!("this is {value}, and no finite number");
                Err(Fault::new(start..self.at, reason))
            }
            _ => Ok(()),
        }
    }
}
