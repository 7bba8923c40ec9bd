//! Runs that are stopped, killed or damaged, and resumed.

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{assert_same, folder, hig, rows};

const TASK: [&str; 9] =
    ["oscillators", "--set", "data.train=256", "--set", "data.test=64", "--batch", "32", "--threads", "1"];

fn train(out: &Path, optimizer: &str, steps: &str) -> Output {
    let more = ["--optimizer", optimizer, "--steps", steps, "--set", "training.evaluate_every=7", "--quiet"];
    let out = ["--out", out.to_str().unwrap()];
    hig(&[&["train"], &TASK[..], &more[..], &out[..]].concat())
}

fn resume(out: &Path, more: &[&str]) -> Output {
    hig(&[&["resume", out.to_str().unwrap(), "--quiet"], more].concat())
}

fn assert_refused(output: &Output, words: &str) {
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{output:?}");
}

#[test]
fn a_run_that_is_resumed_equals_one_that_was_not_stopped() {
    for optimizer in [
        "adam",
        "adamw",
        "sgd",
        "momentum",
        "nesterov",
        "rmsprop",
        "adagrad",
        "adadelta",
        "hig",
        "gn",
        "lm",
        "l-bfgs",
        "sip",
        "soap",
        "muon",
        "hig-kron",
        "hig-auto",
        "adam:20,hig",
        "hig-auto:40,adam",
    ] {
        let (whole, parts) = (folder(&format!("whole-{optimizer}")), folder(&format!("parts-{optimizer}")));
        let uninterrupted = train(&whole, optimizer, "75").status.code();
        train(&parts, optimizer, "24");
        resume(&parts, &["--steps", "52"]);
        let end = resume(&parts, &["--steps", "75"]);
        assert_eq!(end.status.code(), uninterrupted, "{optimizer}: {}", String::from_utf8_lossy(&end.stderr));
        assert_same(&whole, &parts, optimizer);
    }
}

#[test]
fn a_run_that_was_killed_after_its_last_checkpoint_ends_with_the_same_last_row() {
    for optimizer in ["adam", "hig", "lm", "hig-kron", "hig-auto"] {
        let (whole, out) = (folder("last-row-whole"), folder("last-row"));
        for out in [&whole, &out] {
            train(out, optimizer, "75");
        }
        for name in ["summary.json", "report.html"] {
            fs::remove_file(out.join(name)).unwrap();
        }
        assert!(resume(&out, &[]).status.success());
        assert_same(&whole, &out, optimizer);
        assert!(out.join("report.html").is_file());
    }
}

#[test]
fn a_finished_run_says_so_and_stays_as_it_is() {
    let out = folder("finished");
    train(&out, "adam", "20");
    let before = fs::read(out.join("checkpoint.safetensors")).unwrap();
    let output = hig(&["resume", out.to_str().unwrap()]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is finished"));
    assert_eq!(before, fs::read(out.join("checkpoint.safetensors")).unwrap());
}

#[test]
fn a_run_that_reached_its_target_stays_there_until_it_is_given_another_end() {
    let (whole, out) = (folder("target-whole"), folder("target"));
    let target = ["--optimizer", "adam", "--target-loss", "1e3", "--set", "training.evaluate_every=7"];
    for out in [&whole, &out] {
        let out = ["--out", out.to_str().unwrap(), "--quiet"];
        assert!(hig(&[&["train"], &TASK[..], &target, &out].concat()).status.success());
    }
    for name in ["summary.json", "report.html"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    assert!(resume(&out, &[]).status.success());
    assert_same(&whole, &out, "a target that was reached");
    assert!(resume(&out, &["--steps", "50"]).status.success());
    assert!(rows(&out).last().unwrap().starts_with("50,"), "{:?}", rows(&out).last());
}

#[test]
fn what_is_known_of_a_finished_run_outlives_its_report() {
    let out = folder("known");
    train(&out, "hig", "9");
    let before = fs::read_to_string(out.join("summary.json")).unwrap();
    fs::remove_file(out.join("report.html")).unwrap();
    assert!(resume(&out, &[]).status.success());
    let value = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        for of_this_process in ["peak_rss_bytes", "ms_per_step", "elapsed_s"] {
            value[of_this_process] = serde_json::Value::Null;
        }
        value
    };
    let after = fs::read_to_string(out.join("summary.json")).unwrap();
    assert_eq!(value(&before), value(&after));
    let told = resume(&out, &["--json"]).stdout;
    assert_eq!(value(&after), value(&String::from_utf8(told).unwrap()));
}

#[test]
fn an_end_that_would_change_the_steps_before_it_is_refused() {
    let out = folder("ends");
    train(&out, "hig-auto", "20");
    assert_refused(&resume(&out, &["--time", "1s"]), "--steps or --epochs");
    assert!(resume(&out, &["--epochs", "4"]).status.success());
    let out = folder("ends-target");
    let place =
        ["--target-loss", "1e3", "--optimizer", "hig-auto", "--quiet", "--out", out.to_str().unwrap()];
    assert!(hig(&[&["train"], &TASK[..], &place].concat()).status.success());
    assert_refused(&resume(&out, &["--steps", "50"]), "give it --time");
}

#[test]
fn a_run_of_a_study_is_resumed_by_the_study() {
    let out = folder("study");
    let study = ["--optimizers", "adam", "--seeds", "1", "--steps", "9", "--quiet"];
    let place = ["--out", out.to_str().unwrap()];
    let output = hig(&[&["compare"], &TASK[..], &study, &place].concat());
    assert!(output.status.success(), "{output:?}");
    let cell = fs::read_dir(out.join("cells")).unwrap().next().unwrap().unwrap().path();
    assert_refused(&resume(&cell, &["--steps", "30"]), "a run of the study in");
}

#[test]
fn a_spectrum_is_made_again_rather_than_resumed() {
    let out = folder("spectrum");
    let place = ["--steps", "5", "--quiet", "--out", out.to_str().unwrap()];
    assert!(hig(&[&["spectrum"], &TASK[..], &place].concat()).status.success());
    assert_refused(&resume(&out, &["--steps", "9"]), "hig spectrum --config");
}

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before_and_both_damaged_are_refused() {
    let (whole, out) = (folder("damage-whole"), folder("damage"));
    train(&whole, "adam", "60");
    train(&out, "adam", "20");
    resume(&out, &["--steps", "40"]);
    let path = out.join("checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let metrics = out.join("metrics.csv");
    let mut text = fs::read_to_string(&metrics).unwrap();
    text += "42,0.1,cut in the mid";
    fs::write(&metrics, text).unwrap();
    let output = resume(&out, &["--steps", "60"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_same(&whole, &out, "after damage");

    for name in ["checkpoint.safetensors", "checkpoint.previous.safetensors"] {
        fs::write(out.join(name), b"nothing of the kind").unwrap();
    }
    let output = resume(&out, &["--steps", "80"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot go on from the checkpoint"));
}

#[test]
fn any_flipped_bit_is_noticed() {
    let out = folder("bits");
    train(&out, "adam", "20");
    resume(&out, &["--steps", "21"]);
    fs::remove_file(out.join("checkpoint.previous.safetensors")).unwrap();
    let path = out.join("checkpoint.safetensors");
    let bytes = fs::read(&path).unwrap();
    for i in 0..40 {
        let mut damaged = bytes.clone();
        let position = (i * 7919 + 13) % damaged.len();
        damaged[position] ^= 1 << (i % 8);
        fs::write(&path, &damaged).unwrap();
        let output = resume(&out, &["--steps", "22"]);
        assert_eq!(output.status.code(), Some(2), "byte {position}");
    }
}

#[test]
fn a_folder_does_not_lead_out_of_itself() {
    let out = folder("elsewhere");
    train(&out, "hig", "20");
    let config = out.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("[training]\n", "[training]\nfrom = \"/nowhere/checkpoint.safetensors\"\n"),
    )
    .unwrap();
    let start = |text: String| {
        text.lines().map(|line| line.split(',').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let spectrum = || start(fs::read_to_string(out.join("spectrum.csv")).unwrap());
    let before = spectrum();
    let output = resume(&out, &["--steps", "25"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(fs::read_to_string(&config).unwrap().contains("/nowhere"));
    assert_eq!(before, spectrum());
}

#[test]
#[cfg(unix)]
fn an_interrupted_run_goes_on_to_the_same_end() {
    let (whole, out) = (folder("signal-whole"), folder("signal"));
    train(&whole, "hig-auto", "1500");
    let more =
        ["--optimizer", "hig-auto", "--steps", "1500", "--set", "training.evaluate_every=7", "--quiet"];
    let out_flag = ["--out", out.to_str().unwrap()];
    let arguments = [&["train"], &TASK[..], &more[..], &out_flag[..]].concat();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_hig")).args(&arguments).stdout(Stdio::null()).spawn().unwrap();
    // From then on it listens.
    while !out.join("metrics.csv").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    std::thread::sleep(Duration::from_millis(100));
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let code = child.wait().unwrap().code();
    if code == Some(130) {
        assert!(resume(&out, &[]).status.success());
    } else {
        assert_eq!(code, Some(0), "finished before it was interrupted");
    }
    assert_same(&whole, &out, "after SIGTERM");
}
