//! Equations as the texts of a task file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Hold, Method, ObserveAt, Ode, System, TimeGrid};
use crate::error::SettingError;
use crate::simulator::expression::{Fault, Graph, Names, NodeId, Parser, check_name, is_name};
use crate::simulator::{Setup, Simulator};

/// Equations, of the most that a file may have, and characters of the longest.
const MOST_EQUATIONS: usize = 256;
const LONGEST: usize = 4096;

/// A system of ordinary differential equations.
///
/// An expression has numbers, names, `+ - * / ^`, parentheses, the functions sin, cos, tan, asin, acos, atan, sinh,
/// cosh, tanh, exp, ln, log10, sqrt, abs, sign, min, max and atan2, the number pi and the time t.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EquationsSettings {
    /// One for each state, as in `x' = v`, in the order of the state's components; `d = x - y` names an expression for
    /// the equations below it.
    pub equations: Vec<String>,
    /// Numbers by name.
    pub constants: BTreeMap<String, f64>,
    /// Names of the controls.
    pub controls: Vec<String>,
    /// States that start at a value of their own; the initial state of a sample has all others.
    pub start: BTreeMap<String, f64>,
    /// The outcome, as expressions; all states where there is none. A control stands for its value in the interval that
    /// has just ended.
    pub observe: Vec<String>,
    /// Whether the outcome is taken at the end of the last interval or of each.
    pub observe_at: ObserveAt,
    /// How long a control stays what it is: for an interval, or for the whole time.
    pub hold: Hold,
    /// Length of a time step.
    pub dt: f64,
    /// Number of intervals.
    pub intervals: usize,
    /// Time steps of an interval.
    pub steps: usize,
    /// How a step is made.
    pub method: Method,
}

impl Default for EquationsSettings {
    fn default() -> Self {
        let TimeGrid { dt, intervals, steps, method, observe_at, hold } = TimeGrid::default();
        let (constants, start) = (BTreeMap::new(), BTreeMap::new());
        let [equations, controls, observe] = [const { Vec::new() }; 3];
        Self {
            equations,
            constants,
            controls,
            start,
            observe,
            observe_at,
            hold,
            dt,
            intervals,
            steps,
            method,
        }
    }
}

impl Setup for EquationsSettings {
    const KIND: &'static str = "ode";

    fn build(self) -> Result<Arc<dyn Simulator>, SettingError> {
        Ok(Arc::new(self.ode()?))
    }
}

/// One of the equations, with its name split off.
struct Equation<'a> {
    index: usize,
    text: &'a str,
    name: String,
    /// Whether it is that of a state, and not the name of an expression.
    derivative: bool,
    /// The character that its right side starts at.
    right: usize,
}

impl Equation<'_> {
    fn key(&self) -> String {
        format!("equations.{}", self.index)
    }
}

impl EquationsSettings {
    /// The simulator.
    ///
    /// # Errors
    /// The first setting that is wrong, by its own name; of a text that cannot be read, the place too.
    ///
    /// # Example
    /// ```
    /// use halfinverse::simulator::{EquationsSettings, Simulator};
    /// let pendulum = EquationsSettings {
    ///     equations: vec!["angle' = rate".to_owned(), "rate' = -sin(angle) + u".to_owned()],
    ///     controls: vec!["u".to_owned()],
    ///     ..EquationsSettings::default()
    /// };
    /// assert_eq!(pendulum.ode()?.outcomes(), 2);
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn ode(&self) -> Result<Ode, SettingError> {
        let equations = self.split()?;
        let mut graph = Graph::default();
        let states = || equations.iter().filter(|equation| equation.derivative);
        let starts = self.starts(&states().map(|state| state.name.as_str()).collect::<Vec<_>>())?;
        let mut names = self.names(&equations, &mut graph)?;
        let mut slopes = Vec::new();
        for equation in &equations {
            let hint = |name: &str| hint(name, equation.index, &equations);
            let id = read(&equation.key(), equation.text, equation.right, &mut graph, &names, &hint)?;
            if equation.derivative {
                slopes.push(id);
            } else {
                names.insert(equation.name.clone(), id);
            }
        }
        self.check_controls_matter(&graph, &slopes, &names)?;
        let mut observed = Vec::new();
        for (i, text) in self.observe.iter().enumerate() {
            observed.push(read(&format!("observe.{i}"), text, 0, &mut graph, &names, &|_| None)?);
        }
        if observed.is_empty() {
            observed = states().map(|state| names[&state.name]).collect();
        }
        let Self { dt, intervals, steps, method, observe_at, hold, .. } = *self;
        let grid = TimeGrid { dt, intervals, steps, method, observe_at, hold };
        Ode::of(System { graph, slopes, observed, controls: self.controls.len(), starts }, grid)
    }

    /// Names of the states, in the order of the state's components.
    #[must_use]
    pub fn states(&self) -> Vec<&str> {
        let left = self.equations.iter().filter_map(|equation| equation.split_once('='));
        left.filter_map(|(name, _)| name.trim().strip_suffix('\'')).map(str::trim).collect()
    }

    fn split(&self) -> Result<Vec<Equation<'_>>, SettingError> {
        let count = self.equations.len();
        if count == 0 || count > MOST_EQUATIONS {
            let expected = format!("a list of 1 to {MOST_EQUATIONS} equations such as \"x' = v\"");
            return Err(SettingError::new("equations", format!("a list of {count}"), expected));
        }
        let mut equations: Vec<Equation<'_>> = Vec::new();
        for (index, text) in self.equations.iter().enumerate() {
            let equation =
                split(index, text).map_err(|fault| unreadable(&format!("equations.{index}"), text, fault))?;
            let refuse = |reason: String| {
                let end = equation.name.chars().count();
                let start = text.chars().take_while(|c| c.is_whitespace()).count();
                Err(unreadable(&equation.key(), text, Fault::new(start..start + end, reason)))
            };
            let name = &equation.name;
            if let Err(expected) = check_name(name) {
                return refuse(format!("the left side must be {expected}"));
            }
            if let Some(other) = equations.iter().find(|other| other.name == *name) {
                return refuse(format!("`{name}` has an equation already: `equations.{}`", other.index));
            }
            for (what, taken) in
                [("constant", self.constants.contains_key(name)), ("control", self.controls.contains(name))]
            {
                if taken {
                    return refuse(format!("`{name}` is a {what}; take another name"));
                }
            }
            equations.push(equation);
        }
        if !equations.iter().any(|equation| equation.derivative) {
            let expected = "a list with an equation such as \"x' = v\" for each state";
            return Err(SettingError::new("equations", "without a derivative", expected));
        }
        Ok(equations)
    }

    fn starts(&self, states: &[&str]) -> Result<Vec<Option<f64>>, SettingError> {
        for (name, &value) in &self.start {
            let key = format!("start.{name}");
            if !states.contains(&name.as_str()) {
                let known: Vec<String> = states.iter().map(|state| format!("start.{state}")).collect();
                return Err(SettingError::unknown(&key, known.iter().map(String::as_str)));
            }
            check_finite(&key, value)?;
        }
        Ok(states.iter().map(|&state| self.start.get(state).copied()).collect())
    }

    /// The nodes of all states, controls and constants, of pi and of the time.
    fn names(&self, equations: &[Equation<'_>], graph: &mut Graph) -> Result<Names, SettingError> {
        let mut names = Names::new();
        for equation in equations.iter().filter(|equation| equation.derivative) {
            let id = graph.variable(names.len());
            names.insert(equation.name.clone(), id);
        }
        if self.controls.is_empty() {
            return Err(SettingError::new("controls", "[]", "a list of at least one name, as in [\"u\"]"));
        }
        for (i, name) in self.controls.iter().enumerate() {
            let key = format!("controls.{i}");
            check_name(name).map_err(|expected| SettingError::new(&key, format!("`{name}`"), expected))?;
            let id = graph.variable(names.len());
            if names.insert(name.clone(), id).is_some() {
                return Err(SettingError::new(
                    &key,
                    format!("`{name}`"),
                    "another name: it is in the list already",
                ));
            }
        }
        let time = graph.variable(names.len());
        for (name, &value) in &self.constants {
            let key = format!("constants.{name}");
            check_name(name)
                .map_err(|expected| SettingError::new(&key, format!("called `{name}`"), expected))?;
            check_finite(&key, value)?;
            let id = graph.constant(value);
            if names.insert(name.clone(), id).is_some() {
                let expected = "under another name: this one is a control's";
                return Err(SettingError::new(&key, format!("called `{name}`"), expected));
            }
        }
        names.insert("t".to_owned(), time);
        names.insert("pi".to_owned(), graph.constant(std::f64::consts::PI));
        Ok(names)
    }

    /// Refuses a control on which nothing depends.
    fn check_controls_matter(
        &self,
        graph: &Graph,
        slopes: &[NodeId],
        names: &Names,
    ) -> Result<(), SettingError> {
        let used = graph.variables_of(slopes);
        match self.controls.iter().position(|name| !used.contains(&names[name])) {
            Some(i) => {
                let found = format!("`{}`, which is in no equation", self.controls[i]);
                Err(SettingError::new(&format!("controls.{i}"), found, "a name that drives a state"))
            }
            None => Ok(()),
        }
    }
}

fn check_finite(key: &str, value: f64) -> Result<(), SettingError> {
    if value.is_finite() { Ok(()) } else { Err(SettingError::new(key, value, "finite")) }
}

fn unreadable(key: &str, text: &str, fault: Fault) -> SettingError {
    let Fault { place, reason } = fault;
    SettingError::Unreadable { key: key.to_owned(), text: text.to_owned(), place, reason }
}

/// The node of a text from the character `start` on.
fn read(
    key: &str,
    text: &str,
    start: usize,
    graph: &mut Graph,
    names: &Names,
    hint: &dyn Fn(&str) -> Option<String>,
) -> Result<NodeId, SettingError> {
    let node = check_length(text).and_then(|()| Parser::new(text, start, graph, names, hint).whole());
    node.map_err(|fault| unreadable(key, text, fault))
}

fn check_length(text: &str) -> Result<(), Fault> {
    let length = text.chars().count();
    if length > LONGEST {
        let reason = format!("it has {length} characters, more than {LONGEST}; give parts of it names");
        return Err(Fault::new(LONGEST..LONGEST + 1, reason));
    }
    Ok(())
}

/// Splits an equation at its `=`.
fn split(index: usize, text: &str) -> Result<Equation<'_>, Fault> {
    check_length(text)?;
    let all = 0..text.chars().count().max(1);
    let Some((left, _)) = text.split_once('=') else {
        let reason =
            if text.trim().is_empty() { "this is empty" } else { "an equation has the form x' = …" };
        return Err(Fault::new(all, reason));
    };
    let right = left.chars().count() + 1;
    let place = || {
        let start = left.chars().take_while(|c| c.is_whitespace()).count();
        let end = left.trim_end().chars().count();
        if start < end { start..end } else { 0..right }
    };
    let left = left.trim();
    let (name, derivative) = left.strip_suffix('\'').map_or((left, false), |name| (name.trim_end(), true));
    if name.ends_with('\'') {
        return Err(Fault::new(place(), "only first derivatives: write x' = v and v' = …"));
    }
    if !is_name(name) {
        return Err(Fault::new(place(), "the left side must be a name with ', as in x' = …"));
    }
    Ok(Equation { index, text, name: name.to_owned(), derivative, right })
}

/// What is said of a name that is not known at equation `index`.
fn hint(name: &str, index: usize, equations: &[Equation<'_>]) -> Option<String> {
    let later = equations.iter().find(|equation| equation.name == name && !equation.derivative)?;
    Some(if later.index == index {
        format!("`{name}` is defined by itself; a state has {name}' = …")
    } else {
        format!("`{name}` is defined further down; move its equation up")
    })
}
