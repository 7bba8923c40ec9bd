//! What the program says of settings that nothing refuses, and of a run that they spoil.

mod common;

use std::path::Path;
use std::process::Output;

use common::{folder, hig};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Settings that make a run short.
const SMALL: [&str; 4] = ["--set", "data.train=4096", "--set", "data.test=16"];

fn short(arguments: &[&str], out: &Path) -> Output {
    hig(&[arguments, &SMALL, &["--threads", "1", "--out", out.to_str().unwrap()]].concat())
}

const UNSTABLE: &str =
    "beyond 2.8284, up to which Runge–Kutta steps are stable: simulator.dt must be at most ";

#[test]
fn an_unstable_simulation_is_said_at_the_start_and_where_it_ends_the_run() {
    let stiff = ["--set", "simulator.linear_coupling=1000"];
    let train = [&["train", "oscillators", "--steps", "2", "--batch", "16"][..], &stiff].concat();
    let output = short(&train, &folder("unstable"));
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    let lines: Vec<&str> = said.lines().filter(|line| line.contains(UNSTABLE)).collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[1].starts_with("hig: the run diverged at step 1: "), "{said}");
    assert!(!lines[1].contains("--lr"), "no learning rate mends it: {said}");

    for arguments in [
        vec!["spectrum", "oscillators", "--steps", "1", "--batch", "16"],
        vec!["compare", "oscillators", "--optimizers", "adam,sgd", "--steps", "1", "--seeds", "1,2"],
    ] {
        let output = short(&[&arguments[..], &stiff].concat(), &folder(arguments[0]));
        let said = stderr(&output);
        let start = said.lines().filter(|line| line.contains(UNSTABLE) && !line.contains("diverged"));
        assert_eq!(start.count(), 1, "{said}");
    }
    for arguments in [vec!["check", "oscillators"], vec!["bench", "oscillators", "--repeats", "1"]] {
        let output = hig(&[&arguments[..], &stiff, &SMALL].concat());
        let said = stderr(&output);
        assert_eq!(said.matches(UNSTABLE).count(), 1, "{said}");
    }
    let stable = ["train", "oscillators", "--steps", "1", "--set", "simulator.linear_coupling=200"];
    assert!(!stderr(&short(&stable, &folder("stable"))).contains("Runge"));
}

#[test]
fn a_mini_batch_far_from_the_one_that_the_rate_is_for_is_said() {
    let said = |more: &[&str]| {
        let train = [&["train", "oscillators", "--steps", "1"], more].concat();
        let output = short(&train, &folder("batch"));
        assert!(output.status.success(), "{}", stderr(&output));
        stderr(&output).lines().next().unwrap().to_owned()
    };
    let words =
        "the learning rate 1 is the task's for mini-batches of 128; with 1, a lower one (--lr) may do better";
    assert_eq!(said(&["--optimizer", "hig", "--batch", "1"]), words);
    let large = said(&["--optimizer", "hig", "--batch", "1024", "--solver", "krylov:2"]);
    let end = "with 1024, another one (--lr) or --set optimizer.rate=model --lr 1 may do better";
    assert!(large.ends_with(end), "{large}");
    let adam = said(&["--optimizer", "adam", "--set", "training.batch=4000"]);
    assert!(
        adam.ends_with("the task's for mini-batches of 512; with 4000, another one (--lr) may do better")
    );
    for quiet in [
        &["--optimizer", "hig", "--batch", "32"][..],
        &["--optimizer", "hig", "--batch", "8", "--lr", "0.5"],
        &["--optimizer", "hig", "--batch", "8", "--set", "optimizer.rate=model"],
        &["--optimizer", "hig-auto", "--batch", "8"],
        &["--optimizer", "lm", "--batch", "8"],
    ] {
        assert!(said(quiet).starts_with("mini-batch "), "{quiet:?}: {}", said(quiet));
    }
}

#[test]
fn a_study_names_the_cell_that_says_something() {
    let compare =
        ["compare", "toy", "--optimizers", "sgd,hig", "--lr", "1e-30", "--steps", "1", "--seeds", "3"];
    let output = hig(&[&compare[..], &["--out", folder("named").to_str().unwrap()]].concat());
    let said = stderr(&output);
    for name in ["sgd-seed3", "hig-seed3"] {
        let line = format!("{name}, step 1: the first step changed its mini-batch's loss by ");
        assert!(said.lines().any(|l| l.starts_with(&line)), "{said}");
    }
    let vary =
        ["ablate", "toy", "--optimizer", "hig", "--vary", "batch=2,32", "--steps", "1", "--seeds", "3"];
    let said = stderr(&hig(&[&vary[..], &["--out", folder("varied").to_str().unwrap()]].concat()));
    assert_eq!(
        said.matches("batch=2: the learning rate 1 is the task's for mini-batches of 32;").count(),
        1,
        "{said}"
    );
    assert!(!said.contains("batch=32: the"), "{said}");
}
