//! The command line as people type it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn hig(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("hig runs")
}

/// Settings that make a run take a moment.
const SMALL: [&str; 8] =
    ["train", "oscillators", "--set", "data.train=64", "--set", "data.test=32", "--batch", "16"];

fn train(more: &[&str], folder: &Path) -> Output {
    hig(&[&SMALL, more].concat(), folder)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A line of `metrics.csv` without the columns that tell times.
fn timeless(metrics: &str) -> Vec<String> {
    let keep = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        [&cells[..2], &cells[4..]].concat().join(",")
    };
    metrics.lines().map(keep).collect()
}

#[test]
fn a_run_leaves_a_complete_folder_and_says_what_it_needs_and_what_it_reached() {
    let home = tempfile::tempdir().unwrap();
    let output = train(&["--steps", "5"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stdout.is_empty(), "stdout is for data");
    let said = stderr(&output);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!(lines[0].starts_with("the learning rate 1 is the task's for mini-batches of 128; with 16, "));
    assert!(lines[1].starts_with("mini-batch 16, n = 64 rows, P = 2956 parameters, gram; about "));
    let run = home.path().join("runs/oscillators-hig-1");
    for name in [
        "config.toml",
        "metrics.csv",
        "summary.json",
        "spectrum.csv",
        "checkpoint.safetensors",
        "report.html",
        "loss_time.svg",
        "loss_steps.svg",
        "spectrum.svg",
        "saturation.svg",
        "physics.svg",
    ] {
        assert!(run.join(name).is_file(), "{name}");
    }
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(summary["steps"], 5);
    assert_eq!(summary["stop_reason"], "steps");
    assert_eq!(summary["solver"], "gram");
    let report = fs::read_to_string(run.join("report.html")).unwrap();
    assert_eq!(report.matches("<svg").count(), 5, "five pictures");
    assert!(!report.contains("src=") && !report.contains("href="), "self-contained");
    let second = train(&["--steps", "5"], home.path());
    assert!(stderr(&second).contains("oscillators-hig-2"), "the next free folder");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_config_toml_repeats_a_run() {
    let home = tempfile::tempdir().unwrap();
    for optimizer in ["hig", "adam"] {
        let name = |run: &str| format!("{optimizer}-{run}");
        let first = train(&["--optimizer", optimizer, "--steps", "9", "--out", &name("a")], home.path());
        assert!(first.status.success(), "{}", stderr(&first));
        train(&["--optimizer", optimizer, "--steps", "9", "--out", &name("b")], home.path());
        let config = format!("{}/config.toml", name("a"));
        let repeated = hig(&["train", "--config", &config, "--out", &name("c")], home.path());
        assert!(repeated.status.success(), "{}", stderr(&repeated));
        let read = |run: &str, file: &str| fs::read(home.path().join(name(run)).join(file)).unwrap();
        let metrics = |run: &str| timeless(&String::from_utf8(read(run, "metrics.csv")).unwrap());
        for other in ["b", "c"] {
            assert_eq!(read("a", "checkpoint.safetensors"), read(other, "checkpoint.safetensors"));
            assert_eq!(metrics("a"), metrics(other));
            assert_eq!(read("a", "config.toml"), read(other, "config.toml"));
            assert_eq!(read("a", "spectrum.csv"), read(other, "spectrum.csv"));
        }
    }
}

#[test]
fn training_goes_on_from_the_parameters_of_a_checkpoint() {
    let home = tempfile::tempdir().unwrap();
    train(&["--steps", "6", "--out", "a", "--set", "training.evaluate_every=3"], home.path());
    let output = train(&["--steps", "1", "--from", "a", "--optimizer", "adam", "--out", "b"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let cell = |run: &str, line: usize| {
        let metrics = fs::read_to_string(home.path().join(run).join("metrics.csv")).unwrap();
        metrics.lines().nth(line).unwrap().split(',').nth(5).unwrap().to_owned()
    };
    assert_eq!(cell("b", 1), cell("a", 3), "step 0 of b is step 6 of a");
    let config = fs::read_to_string(home.path().join("b/config.toml")).unwrap();
    assert!(config.contains("from = "), "the run can be repeated");
}

#[test]
fn one_optimizer_hands_over_to_the_next_and_config_toml_repeats_it() {
    let home = tempfile::tempdir().unwrap();
    let every = ["--set", "training.evaluate_every=1"];
    let by_flag = [&["--optimizer", "adam:3,hig", "--steps", "5", "--out", "a"][..], &every].concat();
    let output = train(&by_flag, home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let config = fs::read_to_string(home.path().join("a/config.toml")).unwrap();
    assert!(config.contains("[[before]]"), "{config}");
    let rates: Vec<String> = fs::read_to_string(home.path().join("a/metrics.csv"))
        .unwrap()
        .lines()
        .skip(2)
        .map(|line| line.split(',').nth(6).unwrap().to_owned())
        .collect();
    assert_eq!(rates, ["0.0003", "0.0003", "0.0003", "1.0", "1.0"], "three steps of adam, two of hig");
    let output = hig(&["train", "--config", "a/config.toml", "--out", "b"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let read = |run: &str| fs::read(home.path().join(run).join("checkpoint.safetensors")).unwrap();
    assert_eq!(read("a"), read("b"));
}

#[test]
fn every_solver_and_optimizer_trains_and_draws() {
    let home = tempfile::tempdir().unwrap();
    for (i, more) in [
        vec!["--solver", "svd"],
        vec!["--solver", "krylov:4"],
        vec!["--solver", "auto", "--kappa", "-1", "--lr", "0.01"],
        vec!["--optimizer", "gn", "--lr", "0.1"],
        vec!["--optimizer", "lm", "--solver", "krylov:5"],
        vec!["--optimizer", "l-bfgs", "--set", "optimizer.history=3"],
        vec!["--optimizer", "sip"],
        vec!["--optimizer", "soap", "--set", "optimizer.max_width=20"],
        vec!["--optimizer", "muon", "--set", "optimizer.adam_learning_rate=1e-3"],
        vec!["--optimizer", "sgd"],
        vec!["--optimizer", "momentum", "--set", "objective.reduction=sum", "--lr", "1e-5"],
        vec!["--optimizer", "nesterov"],
        vec!["--optimizer", "rmsprop"],
        vec!["--optimizer", "adagrad"],
        vec!["--optimizer", "adadelta"],
        vec!["--optimizer", "adamw", "--set", "optimizer.weight_decay=0.1"],
        vec!["--optimizer", "adam", "--set", "training.shuffle=true"],
        vec!["--set", "simulator.masses=1"],
        vec!["--set", "simulator.masses=3", "--set", "network.hidden=[]"],
        vec!["--set", "network.hidden=[3]", "--threads", "2"],
    ]
    .into_iter()
    .enumerate()
    {
        let output = train(&[&more[..], &["--steps", "2", "--out", &i.to_string()]].concat(), home.path());
        assert!(output.status.success(), "{more:?}: {}", stderr(&output));
        assert!(home.path().join(i.to_string()).join("report.html").is_file(), "{more:?}");
    }
}

#[test]
fn json_goes_to_stdout_and_quiet_says_nothing() {
    let home = tempfile::tempdir().unwrap();
    let output = train(&["--steps", "2", "--json", "--quiet"], home.path());
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["task"], "oscillators");
    for arguments in [
        vec!["tasks", "--json"],
        vec!["check", "oscillators", "--json"],
        vec!["bench", "oscillators", "--solver", "krylov:2", "--repeats", "1", "--json"],
    ] {
        let output = hig(&arguments, home.path());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("one JSON object");
    }
}

#[test]
fn every_derivative_is_right_for_one_two_and_five_masses() {
    let home = tempfile::tempdir().unwrap();
    for masses in ["1", "2", "5"] {
        let output =
            hig(&["check", "oscillators", "--set", &format!("simulator.masses={masses}")], home.path());
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(output.status.success(), "{text}");
        assert_eq!(text.matches("right").count(), 19, "{text}");
    }
}

/// A study of two optimizers that takes a moment.
fn compare(more: &[&str], folder: &Path) -> Output {
    let task = ["compare", "oscillators", "--optimizers", "adam,adam:2+hig", "--solver", "krylov:3"];
    let sizes = ["--set", "data.train=64", "--set", "data.test=32", "--batch", "16"];
    hig(&[&task[..], &sizes, &["--steps", "4", "--seeds", "1..2"], more].concat(), folder)
}

#[test]
fn compare_makes_a_table_and_does_not_repeat_finished_cells() {
    let home = tempfile::tempdir().unwrap();
    let output = compare(&["--out", "a"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.contains("| adam:2+hig | 1 | 16 |") && table.contains("0 of 2"), "{table}");
    for name in ["report.html", "loss_time.svg", "loss_steps.svg", "table.md", "table.json"] {
        assert!(home.path().join("a").join(name).is_file(), "{name}");
    }
    let cells = home.path().join("a/cells");
    let written =
        |name: &str| fs::metadata(cells.join(name).join("metrics.csv")).unwrap().modified().unwrap();
    let before = written("adam-seed1");
    // A cell that was stopped half-way has no summary.
    fs::remove_file(cells.join("adam-seed2/summary.json")).unwrap();
    let again = compare(&["--out", "a"], home.path());
    assert!(again.status.success(), "{}", stderr(&again));
    assert_eq!(written("adam-seed1"), before, "a finished cell was run again");
    assert!(cells.join("adam-seed2/summary.json").is_file(), "an unfinished cell was not");
    let other = compare(&["--out", "a", "--lr", "0.5"], home.path());
    assert_eq!(other.status.code(), Some(2), "another study must not mix with this one");
    assert!(stderr(&other).contains("another study"), "{}", stderr(&other));
}

#[test]
fn compare_chooses_the_learning_rate_with_the_least_validation_loss() {
    let home = tempfile::tempdir().unwrap();
    let output = compare(&["--out", "a", "--lr-grid", "1e-9,1e-3", "--json"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let table: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(table["variants"][0]["learning_rate"], 1e-3, "1e-9 learns nothing");
    assert_eq!(table["variants"][0]["at_edge"], true);
}

#[test]
fn ablate_varies_one_setting_and_spectrum_takes_a_run_apart() {
    let home = tempfile::tempdir().unwrap();
    let small = ["--set", "data.train=64", "--set", "data.test=32", "--steps", "3", "--out"];
    for (i, vary) in [
        "kappa=-1,0.5",
        "krylov=2,4",
        "batch=8,16",
        "depth=1,2",
        "width=4,8",
        "lr=0.5,1",
        "network.activation=relu,tanh",
    ]
    .iter()
    .enumerate()
    {
        let out = i.to_string();
        let batch = if vary.starts_with("batch") { vec![] } else { vec!["--batch", "16"] };
        let arguments =
            [&["ablate", "oscillators", "--vary", vary, "--seeds", "1"][..], &batch, &small, &[&out]]
                .concat();
        let output = hig(&arguments, home.path());
        assert!(output.status.success(), "{vary}: {}", stderr(&output));
        let table = String::from_utf8(output.stdout).unwrap();
        assert_eq!(table.lines().count(), 4, "{vary}: {table}");
    }
    for task in ["oscillators", "toy"] {
        let out = format!("spectrum-{task}");
        let output = hig(&[&["spectrum", task, "--batch", "16"][..], &small, &[&out]].concat(), home.path());
        assert!(output.status.success(), "{}", stderr(&output));
        let shares: f64 = fs::read_to_string(home.path().join(&out).join("sigmas.csv"))
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("0,"))
            .map(|line| line.split(',').nth(3).unwrap().parse::<f64>().unwrap())
            .sum();
        assert!(shares > 0.3 && shares < 1.0 + 1e-9, "{task}: shares of |g|² add up to {shares}");
        for name in ["layers.csv", "blocks.csv", "units.csv", "report.html"] {
            assert!(home.path().join(&out).join(name).is_file(), "{name}");
        }
    }
}

#[test]
fn reports_are_drawn_again() {
    let home = tempfile::tempdir().unwrap();
    train(&["--steps", "2", "--out", "a"], home.path());
    let first = fs::read(home.path().join("a/report.html")).unwrap();
    fs::remove_file(home.path().join("a/report.html")).unwrap();
    let output = hig(&["report", "a"], home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(fs::read(home.path().join("a/report.html")).unwrap(), first);
}

#[test]
fn a_run_that_diverges_exits_with_3_and_still_has_its_files() {
    let home = tempfile::tempdir().unwrap();
    let output = train(&["--optimizer", "sgd", "--lr", "1e9", "--steps", "50", "--out", "a"], home.path());
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(stderr(&output).contains("--lr"), "says the mend: {}", stderr(&output));
    assert!(home.path().join("a/report.html").is_file());
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_with_130_and_a_complete_folder() {
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(SMALL)
        .args(["--time", "1h", "--out", "a"])
        .current_dir(home.path())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let metrics = home.path().join("a/metrics.csv");
    for _ in 0..600 {
        if fs::read_to_string(&metrics).is_ok_and(|text| text.lines().count() > 2) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    for name in ["summary.json", "checkpoint.safetensors", "report.html"] {
        assert!(home.path().join("a").join(name).is_file(), "{name}");
    }
}

/// What is typed, and words of what is said.
const REFUSED: &[(&[&str], &[&str])] = &[
    (&["train", "oscilators"], &["`oscilators`", "did you mean `oscillators`?"]),
    (&["train"], &["no task", "hig tasks"]),
    (&["train", "oscillators", "--optimizer", "adm"], &["`adm`", "did you mean `adam`?"]),
    (&["train", "oscillators", "--solver", "kryvol:8"], &["kryvol:8", "did you mean `krylov:8`?"]),
    (&["train", "oscillators", "--solver", "krylov:0"], &["krylov:0", "K at least 1"]),
    (&["train", "oscillators", "--set", "optimizer.kapa=1"], &["did you mean `optimizer.kappa`?"]),
    (&["train", "oscillators", "--set", "network.activation=rel"], &["did you mean `relu`?"]),
    (&["train", "oscillators", "--set", "nonsense"], &["key=value"]),
    (&["train", "oscillators", "--kappa", "1.5"], &["`optimizer.kappa` is 1.5", "from -1 to 1", "--kappa"]),
    (&["train", "oscillators", "--kappa", "half"], &["a number"]),
    (&["train", "oscillators", "--truncation", "-1"], &["at least 0 and below 1"]),
    (&["train", "oscillators", "--truncation", "1"], &["at least 0 and below 1"]),
    (&["train", "oscillators", "--lr", "0"], &["positive"]),
    (&["train", "oscillators", "--batch", "0"], &["`training.batch` is 0"]),
    (&["train", "oscillators", "--batch", "5000"], &["data.train = 4096"]),
    (&["train", "oscillators", "--steps", "0"], &["`stop.steps` is 0"]),
    (&["train", "oscillators", "--steps", "-5"], &["whole number"]),
    (&["train", "oscillators", "--steps", "1.5"], &["whole number"]),
    (&["train", "oscillators", "--time", "soon"], &["30s"]),
    (&["train", "oscillators", "--target-loss", "-1"], &["positive"]),
    (&["train", "oscillators", "--patience", "0"], &["`stop.patience` is 0", "--patience"]),
    (&["train", "oscillators", "--set", "stop.gradient=2"], &["`stop.gradient` is 2", "below 1"]),
    (
        &["train", "oscillators", "--optimizer", "sip", "--set", "stop.gradient=1e-3"],
        &["`stop.gradient` is 0.001", "sip", "stop.step"],
    ),
    (&["train", "oscillators", "--set", "stop.relative_loss=-1"], &["`stop.relative_loss`", "above 0"]),
    (&["train", "oscillators", "--steps", "5", "--set", "stop.steps=6"], &["given twice", "keep one"]),
    (&["train", "oscillators", "--optimizer", "adam", "--kappa", "0.5"], &["no setting of adam", "beta1"]),
    (&["train", "oscillators", "--out", "full"], &["not empty", "--out"]),
    (&["train", "oscillators", "--out", "/proc/nowhere"], &["cannot write", "--out"]),
    (&["train", "oscillators", "--out", "syntax.toml"], &["syntax.toml", "--out"]),
    (&["train", "--config", "syntax.toml"], &["syntax.toml, line 3, column 9"]),
    (&["train", "--config", "range.toml"], &["range.toml, line 3, column 3", "from -1 to 1"]),
    (&["train", "--config", "name.toml"], &["line 3, column 1", "did you mean `optimizer`?"]),
    (&["train", "--config", "missing.toml"], &["missing.toml"]),
    (&["train", "--config", "other.toml", "--from", "trained"], &["layers.0.weight", "[20, 4]", "[9, 4]"]),
    (
        &["train", "oscillators", "--set", "simulator.steps=95", "--from", "trained"],
        &["[96, 20]", "[95, 20]"],
    ),
    (&["train", "oscillators", "--set", "network.hidden=[20,0]"], &["widths"]),
    (&["train", "oscillators", "--set", "network.hidden=20"], &["a list"]),
    (&["train", "oscillators", "--set", "simulator.masses=0"], &["`simulator.masses` is 0"]),
    (&["train", "oscillators", "--from", "nowhere"], &["nowhere", "--from"]),
    (&["train", "oscillators", "--optimizer", "adam,hig"], &["adam:2000", "--optimizer"]),
    (&["train", "oscillators", "--optimizer", "adam:many,hig"], &["`many`", "number of steps"]),
    (&["train", "oscillators", "--optimizer", "adam:0,hig"], &["`before.0.steps` is 0"]),
    (&["train", "toy", "--set", "simulator.lambda=0"], &["`simulator.lambda`", "not 0"]),
    (&["train", "oscillators", "--optimizer", "lm", "--set", "optimizer.damping=-1"], &["positive"]),
    (&["train", "oscillators", "--optimizer", "l-bfgs", "--set", "optimizer.history=0"], &["1 to 1000"]),
    (&["compare", "oscillators", "--optimizer", "hig"], &["--optimizers hig,adam"]),
    (&["compare", "oscillators", "--optimizers", "hig,hig"], &["named twice"]),
    (
        &["compare", "oscillators", "--optimizers", "adam", "--kappa", "1"],
        &["none of these", "optimizer.kappa"],
    ),
    (&["compare", "oscillators", "--seeds", "one"], &["`--seeds one`", "1,2,3"]),
    (&["compare", "oscillators", "--lr-grid", "0"], &["`0`", "--lr-grid"]),
    (&["compare", "oscillators", "--targets", "-1"], &["`-1`", "--targets"]),
    (&["ablate", "oscillators", "--vary", "kappa"], &["no values", "kappa=0,0.5,1"]),
    (&["ablate", "oscillators", "--vary", "kappa=2"], &["`optimizer.kappa`", "from -1 to 1"]),
    (&["ablate", "oscillators", "--vary", "kapa=1"], &["unknown setting `kapa`"]),
    (&["ablate", "oscillators", "--vary", "depth=0"], &["`depth` is 0"]),
    (&["train", "oscillators", "--on-fault", "rollback"], &["stop, roll-back, skip", "--on-fault"]),
    (&["train", "oscillators", "--set", "training.blow_up=0.5"], &["above 1 and finite, or 0"]),
    (&["train", "oscillators", "--set", "training.checkpoint_every=0"], &["positive and finite"]),
    (&["train", "oscillators", "--memory-limit", "much"], &["--memory-limit much", "4GiB"]),
    (&["train", "oscillators", "--memory-limit", "1MiB"], &["needs about", "raise --memory-limit"]),
    (
        &[
            "train",
            "oscillators",
            "--optimizer",
            "hig-auto",
            "--set",
            "network.hidden=[2048,2048]",
            "--memory-limit",
            "1.3GiB",
        ],
        &["take --optimizer hig-kron, which needs about"],
    ),
    (
        &["train", "oscillators", "--solver", "svd", "--memory-limit", "50MiB"],
        &["n = 512 rows", "take --solver krylov:16"],
    ),
    (
        &[
            "train",
            "oscillators",
            "--optimizer",
            "adam",
            "--set",
            "data.train=9000000",
            "--memory-limit",
            "1GiB",
        ],
        &["lower data.train"],
    ),
    (
        &[
            "train",
            "oscillators",
            "--optimizer",
            "adam",
            "--set",
            "training.schedule=cosine",
            "--time",
            "60s",
        ],
        &["`training.schedule`", "steps or epochs", "--steps N; `hig bench oscillators --optimizer adam`"],
    ),
    (
        &["train", "oscillators", "--optimizer", "lm", "--steps", "9", "--set", "training.schedule=cosine"],
        &["constant with lm"],
    ),
    (&["compare", "oscillators", "--lr-grid", "x1", "--grid-time", "soon"], &["--grid-time soon", "30s"]),
    (&["compare", "oscillators", "--lr-grid", "x1", "--grid-time", "-5s"], &["above 0"]),
    (
        &[
            "compare",
            "oscillators",
            "--optimizers",
            "adam",
            "--steps",
            "9",
            "--lr-grid",
            "x1",
            "--grid-time",
            "1s",
            "--set",
            "training.schedule=cosine",
        ],
        &["--grid-time", "a schedule"],
    ),
    (&["resume", "full"], &["holds no run"]),
    (&["resume", "nowhere"], &["holds no run"]),
    (&["resume", "trained", "--steps", "9", "--on-fault", "never"], &["--on-fault never", "roll-back"]),
    (&["resume", "trained", "--steps", "18446744073709551615"], &["--steps", "whole number from 1"]),
    (&["resume", "trained", "--time", "0"], &["above 0"]),
    (&["report", "full"], &["no run's folder"]),
    (&["bench", "oscillators", "--repeats", "0"], &["--repeats"]),
];

#[test]
fn bad_input_is_refused_in_one_sentence_before_any_work() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("syntax.toml"), "task = \"oscillators\"\n[optimizer]\nkappa = = 2\n").unwrap();
    fs::write(home.path().join("range.toml"), "task = \"oscillators\"\n[optimizer]\n  kappa = 2\n").unwrap();
    fs::write(home.path().join("name.toml"), "task = \"oscillators\"\n[optimiser]\nkappa = 1\n").unwrap();
    fs::write(home.path().join("other.toml"), "task = \"oscillators\"\n[network]\nhidden = [9]\n").unwrap();
    fs::create_dir_all(home.path().join("full/inside")).unwrap();
    train(&["--steps", "1", "--out", "trained"], home.path());
    let mut wrong = Vec::new();
    let mut table = String::from("| command | what it says, exit code 2 |\n|---|---|\n");
    for (arguments, words) in REFUSED {
        let output = hig(arguments, home.path());
        let said = stderr(&output);
        let refused = output.status.code() == Some(2) && output.stdout.is_empty();
        // One sentence, with these words.
        if !refused || said.lines().count() != 1 || !words.iter().all(|word| said.contains(word)) {
            wrong.push(format!("{arguments:?}: {said}"));
        }
        let cell = |text: &str| text.trim().replace('|', "\\|");
        let said = said.replace(home.path().to_str().unwrap(), "/home/you");
        table += &format!("| `hig {}` | {} |\n", cell(&arguments.join(" ")), cell(&said));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // With HIG_TABLE=FILE, what was said to whom.
    if let Ok(path) = std::env::var("HIG_TABLE") {
        fs::write(path, &table).unwrap();
    } else if cfg!(target_os = "linux") {
        let documented = include_str!("../../../docs/refusals.md");
        assert!(
            documented.ends_with(&table),
            "docs/refusals.md is out of date; its head says how it is made"
        );
    }
    assert!(!home.path().join("runs").exists(), "no folder was made for a run that never began");
}

#[test]
fn tasks_lists_every_setting_with_its_default() {
    let home = tempfile::tempdir().unwrap();
    let output = hig(&["tasks"], home.path());
    insta::assert_snapshot!(String::from_utf8(output.stdout).unwrap());
}

#[test]
fn every_task_is_right_trains_and_draws() {
    let home = tempfile::tempdir().unwrap();
    for (task, set) in [
        ("dipole", vec!["--set", "simulator.steps=40", "--set", "simulator.points=5"]),
        ("dipole", vec!["--set", "simulator.target_states=[2,3,4]", "--set", "data.fresh=true"]),
        (
            "poisson",
            vec!["--set", "simulator.width=5", "--set", "simulator.boundary=neumann", "--optimizer", "adam"],
        ),
        (
            "poisson",
            vec!["--set", "simulator.boundary=periodic", "--set", "data.fresh=false", "--solver", "krylov:3"],
        ),
        ("toy", vec!["--set", "simulator.lambda=1", "--optimizer", "gn", "--set", "training.blow_up=0"]),
        ("regression", vec!["--set", "network.init=glorot-normal"]),
    ] {
        let sizes = ["--set", "data.train=24", "--set", "data.test=10", "--batch", "8", "--out", "run"];
        let arguments = [&["train", task, "--steps", "3"], &set[..], &sizes].concat();
        let output = hig(&arguments, home.path());
        assert!(output.status.success(), "{task} {set:?}: {}", stderr(&output));
        let report = fs::read_to_string(home.path().join("run/report.html")).unwrap();
        assert_eq!(report.matches("<svg").count(), 5, "{task}");
        fs::remove_dir_all(home.path().join("run")).unwrap();
        let output = hig(&["check", task], home.path());
        assert!(output.status.success(), "{task}: {}", String::from_utf8_lossy(&output.stdout));
    }
}
