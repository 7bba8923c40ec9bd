//! Bad equations in task files: each is refused in a sentence with the place, and the characters that are wrong are
//! underlined.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Settings of the simulator in place of the good ones, and lines or words of what is said.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const GOOD: [(&str, &str); 8] = [
    ("equations", r#"["x' = v", "v' = mu*(1 - x^2)*v - x + u"]"#),
    ("constants", "{ mu = 1.0 }"),
    ("controls", r#"["u"]"#),
    ("start", "{}"),
    ("observe", "[]"),
    ("dt", "0.1"),
    ("intervals", "3"),
    ("steps", "1"),
];

#[rustfmt::skip]
const REFUSED: &[Case] = &[
    (&[("equations", r#"["x' = v", "v' = mu*(1 - y^2)*v - x + u"]"#)],
        &["`simulator.equations.1`: unknown name `y`; known here: ", "(bad.toml, line 3, column 24)", "    v' = mu*(1 - y^2)*v - x + u\n                 ^\n"]),
    (&[("equations", r#"["x' = v", "v' = mue*x + u"]"#)], &["equations.1`: unknown name `mue`; did you mean `mu`?", "v' = mue*x + u\n         ^^^\n"]),
    (&[("equations", r#"["x' = v + u"]"#)], &["equations.0`: unknown name `v`; ", "    x' = v + u\n         ^\n"]),
    (&[("equations", r#"["x' = v", "v' = u", "x' = 2*v"]"#)], &["equations.2`: `x` has an equation already: `equations.0`", "    x' = 2*v\n    ^\n"]),
    (&[("equations", r#"["x' = u", "x = 2"]"#)], &["equations.1`: `x` has an equation already"]),
    (&[("equations", r#"["x' = (u + 1"]"#)], &["equations.0`: this parenthesis is not closed", "    x' = (u + 1\n         ^\n"]),
    (&[("equations", r#"["x' = (u + 1))"]"#)], &["equations.0`: this parenthesis closes none", "    x' = (u + 1))\n                ^\n"]),
    (&[("equations", r#"["x' = "]"#)], &["equations.0`: something is missing here", "    x' = \n         ^\n"]),
    (&[("equations", r#"["  "]"#)], &["equations.0`: this is empty"]),
    (&[("equations", "[]")], &["`simulator.equations` is a list of 0, but must be a list of 1 to 256 equations"]),
    (&[("equations", r#"["d = u"]"#)], &["`simulator.equations` is without a derivative"]),
    (&[("equations", r#"["x' u"]"#)], &["equations.0`: an equation has the form x' = …", "    x' u\n    ^^^^\n"]),
    (&[("equations", r#"["x'' = u"]"#)], &["only first derivatives: write x' = v and v' = …", "    x'' = u\n    ^^^\n"]),
    (&[("equations", r#"["dx/dt = u"]"#)], &["the left side must be a name with ', as in x' = …", "    dx/dt = u\n    ^^^^^\n"]),
    (&[("equations", r#"["x' = u = 1"]"#)], &["an equation has one `=`", "    x' = u = 1\n           ^\n"]),
    (&[("equations", r#"["x' = x' + u"]"#)], &["a derivative stands on the left of `=` only", "    x' = x' + u\n          ^\n"]),
    (&[("equations", r#"["x' = atan2(u)"]"#)], &["atan2 takes 2 arguments, found 1", "    x' = atan2(u)\n         ^^^^^^^^\n"]),
    (&[("equations", r#"["x' = sin(u, x)"]"#)], &["sin takes 1 argument, found 2"]),
    (&[("equations", r#"["x' = sin()*u"]"#)], &["sin takes 1 argument, found 0"]),
    (&[("equations", r#"["x' = sin u"]"#)], &["sin is a function: write sin(…)", "    x' = sin u\n         ^^^\n"]),
    (&[("equations", r#"["x' = sqr(u)"]"#)], &["unknown function `sqr`; did you mean `sqrt`?"]),
    (&[("equations", r#"["x' = x(2) + u"]"#)], &["x is no function; a product needs its *: write x*(…)"]),
    (&[("equations", r#"["x' = 2x + u"]"#)], &["a product needs its *: write 2*x", "    x' = 2x + u\n         ^^\n"]),
    (&[("equations", r#"["x' = u x"]"#)], &["an operator is missing here", "    x' = u x\n           ^\n"]),
    (&[("equations", r#"["x' = u**2"]"#)], &["a power is written ^", "    x' = u**2\n          ^^\n"]),
    (&[("equations", r#"["x' = 0,5*u"]"#)], &["a number has a point", "    x' = 0,5*u\n          ^\n"]),
    (&[("equations", r#"["x' = u + * x"]"#)], &["something is missing in front of this operator", "    x' = u + * x\n             ^\n"]),
    (&[("equations", r#"["x' = u +"]"#)], &["something is missing here", "    x' = u +\n            ^\n"]),
    (&[("equations", r#"["x' = [u]"]"#)], &["only round parentheses group"]),
    (&[("equations", r#"["x' = u > 0"]"#)], &["there are no conditions; min, max, abs and sign may do"]),
    (&[("equations", r#"["x' = u + $"]"#)], &["an expression has no such character", "    x' = u + $\n             ^\n"]),
    (&[("equations", r#"["x' = u + 1/0"]"#)], &["this is inf, and no finite number", "    x' = u + 1/0\n             ^^^\n"]),
    (&[("equations", r#"["x' = u*ln(-1)"]"#)], &["this is NaN, and no finite number"]),
    (&[("equations", r#"["x' = u + 1e999"]"#)], &["this is inf, and no finite number", "^^^^^\n"]),
    (&[("equations", r#"["x' = u + 1.2.3"]"#)], &["an operator is missing here"]),
    (&[("equations", r#"["x' = u + ."]"#)], &["this is no number"]),
    (&[("equations", r#"["mu' = u"]"#)], &["equations.0`: `mu` is a constant; take another name", "    mu' = u\n    ^^\n"]),
    (&[("equations", r#"["u' = u"]"#)], &["equations.0`: `u` is a control; take another name"]),
    (&[("equations", r#"["sin' = u"]"#)], &["the left side must be another name: this one is a function's", "    sin' = u\n    ^^^\n"]),
    (&[("equations", r#"["t' = u"]"#)], &["the left side must be another name: t is the time"]),
    (&[("equations", r#"["2x' = u"]"#)], &["the left side must be a name with ', as in x' = …"]),
    (&[("equations", r#"["x' = d + u", "d = 2*x"]"#)], &["`d` is defined further down; move its equation up", "    x' = d + u\n         ^\n"]),
    (&[("equations", r#"["d = d + 1", "x' = u"]"#)], &["`d` is defined by itself; a state has d' = …"]),
    (&[("equations", "[3]")], &["`simulator.equations.0` is 3, but must be a text"]),
    (&[("equations", r#""x' = v""#)], &["`simulator.equations`", "a list of texts such as [\"x\", \"v\"]"]),
    (&[("constants", "{ mu = 1.0, pi = 3 }")], &["`simulator.constants.pi` is called `pi`, but must be another name: pi is the number π"]),
    (&[("constants", "{ mu = nan }")], &["`simulator.constants.mu` is NaN, but must be finite"]),
    (&[("constants", "{ mu = \"big\" }")], &["`simulator.constants.mu` is \"big\", but must be a number"]),
    (&[("constants", "{ mu = 1.0, u = 2.0 }")], &["`simulator.constants.u` is called `u`, but must be under another name: this one is a control's"]),
    (&[("controls", "[]")], &["`simulator.controls` is [], but must be a list of at least one name"]),
    (&[("controls", r#"["u", "u"]"#)], &["`simulator.controls.1` is `u`, but must be another name: it is in the list already"]),
    (&[("controls", r#"["u", "w"]"#)], &["`simulator.controls.1` is `w`, which is in no equation"]),
    (&[("controls", r#"["u", "2"]"#)], &["`simulator.controls.1` is `2`, but must be a name of letters, digits and _"]),
    (&[("start", "{ y = 0.0 }")], &["unknown setting `simulator.start.y`; known here: simulator.start.x"]),
    (&[("start", "{ x = inf }")], &["`simulator.start.x` is inf, but must be finite"]),
    (&[("observe", r#"["x", "w"]"#)], &["`simulator.observe.1`: unknown name `w`; ", "    w\n    ^\n"]),
    (&[("observe", r#"["x' + v"]"#)], &["`simulator.observe.0`: a derivative stands on the left of `=` only"]),
    (&[("observe", r#"["x = v"]"#)], &["`simulator.observe.0`: an equation has one `=`, an expression none"]),
    (&[("dt", "0.0")], &["`simulator.dt` is 0, but must be positive and finite"]),
    (&[("dt", "-0.1")], &["`simulator.dt` is -0.1, but must be positive and finite"]),
    (&[("intervals", "0")], &["`simulator.intervals` is 0, but must be from 1 to 100000"]),
    (&[("intervals", "1000"), ("steps", "101")], &["`simulator.steps` is 101, but must be at most 100, 100000 steps in all"]),
    (&[("method", "\"rk45\"")], &["`simulator.method`", "one of rk4, dopri5, verlet, implicit-midpoint"]),
    (&[("method", "\"verlet\"")], &["`simulator.method` does not fit: verlet needs equations of the form x' = v, v' = f(x, u, t), and equation 1 depends on a velocity"]),
    (&[("observe_at", "\"start\"")], &["`simulator.observe_at`", "one of end, intervals"]),
    (&[("equation", "[]")], &["did you mean `simulator.equations`?"]),
];

fn file(settings: &[(&str, &str)]) -> String {
    let mut simulator: Vec<(&str, &str)> = GOOD.to_vec();
    for &(name, value) in settings {
        match simulator.iter_mut().find(|(known, _)| *known == name) {
            Some(setting) => setting.1 = value,
            None => simulator.push((name, value)),
        }
    }
    let simulator: String = simulator.iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!(
        "task = \"bad\"\n[simulator]\n{simulator}kind = \"ode\"\n[objective]\nkind = \"squared-error\"\n\
         [data]\nkind = \"uniform\"\ntrain = 8\ntest = 8\n[training]\nbatch = 8\n[optimizer]\nname = \"hig\"\n[stop]\nsteps = 1\n"
    )
}

/// The exit code and what is said.
fn train(home: &Path, text: &str) -> (Option<i32>, String) {
    fs::write(home.join("bad.toml"), text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(["train", "bad.toml"])
        .current_dir(home)
        .stdin(Stdio::null())
        .output()
        .expect("hig runs");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn bad_equations_are_refused_with_the_place_underlined() {
    let home = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    let deep = format!(r#"["x' = {}u{}"]"#, "(".repeat(65), ")".repeat(65));
    let long = format!(r#"["x' = u{}"]"#, " + u".repeat(1024));
    let many = format!("[{}]", (0..257).map(|i| format!(r#""x{i}' = u","#)).collect::<String>());
    let made: [(&str, &[&str]); 3] = [
        (&deep, &["this is nested deeper than 64 levels"]),
        (&long, &["it has 4102 characters, more than 4096; give parts of it names"]),
        (&many, &["`simulator.equations` is a list of 257"]),
    ];
    let made = made.map(|(text, words)| (vec![("equations", text)], words));
    let cases = REFUSED.iter().map(|&(settings, words)| (settings.to_vec(), words)).chain(made);
    for (settings, words) in cases {
        let (code, said) = train(home.path(), &file(&settings));
        let missing = words.iter().find(|word| !said.contains(**word));
        // A sentence; and the text with its underline, where a text is at fault.
        let lines = said.lines().count();
        let shaped = lines == 1 || lines == 3 && said.trim_end().ends_with('^');
        let placed = said.contains("(bad.toml, line ");
        if missing.is_some() || code != Some(2) || !shaped || !placed || home.path().join("runs").exists() {
            faults.push(format!("{settings:?}: {code:?}, lacks {missing:?}:\n{said}"));
        }
    }
    assert!(faults.is_empty(), "{} files:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn the_file_around_the_bad_settings_is_good() {
    let home = tempfile::tempdir().unwrap();
    let (code, said) = train(home.path(), &file(&[]));
    assert_eq!(code, Some(0), "{said}");
}
