//! What a run survives, caused for real: SIGKILL, a full disk, a clock that is set back, a folder that is removed, two
//! programs on one folder.
//!
//! `HIG_KILLS=67 HIG_KILL_LENGTH=33 cargo test --release -p hig --test reliability kill -- --nocapture --test-threads 1` kills 268
//! runs of some seconds each, and says how many.
#![cfg(unix)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{assert_same, folder, hig};

const TASK: [&str; 10] = [
    "oscillators",
    "--set",
    "data.train=256",
    "--set",
    "data.test=64",
    "--batch",
    "32",
    "--threads",
    "1",
    "--quiet",
];

/// Where a test says nothing else.
const EVERY: [&str; 2] = ["--set", "training.evaluate_every=7"];

fn start(out: &Path, arguments: &[&str]) -> Child {
    let out = ["--out", out.to_str().unwrap()];
    let given = arguments.iter().any(|argument| argument.starts_with("training.evaluate_every"));
    let every = if given { &[] } else { &EVERY[..] };
    Command::new(env!("CARGO_BIN_EXE_hig"))
        .args([&["train"], &TASK[..], every, arguments, &out[..]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn train(out: &Path, arguments: &[&str]) -> Output {
    start(out, arguments).wait_with_output().unwrap()
}

fn resume(out: &Path, arguments: &[&str]) -> Output {
    hig(&[&["resume", out.to_str().unwrap(), "--quiet"], arguments].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn wait_until(what: &str, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it never came that {what}");
        sleep(Duration::from_micros(100));
    }
}

/// Waits until the program has written a file.
fn wait_for(path: &Path) {
    wait_until(&format!("{} is there", path.display()), || path.exists());
}

fn number<T: std::str::FromStr>(name: &str, default: T) -> T {
    std::env::var(name).ok().map_or(default, |text| text.parse().ok().expect(name))
}

/// Kills runs at moments spread over their whole length, and half of them once more while they are resumed.
fn survives_kills(optimizer: &[&str], steps: u32) {
    let kills = number("HIG_KILLS", 3u32);
    let steps = (steps * number("HIG_KILL_LENGTH", 1)).to_string();
    let arguments = [optimizer, &["--steps", &steps, "--set", "training.checkpoint_every=0.05"]].concat();
    let whole = folder(&format!("kill-whole-{}", optimizer[1]));
    let begun = Instant::now();
    assert!(train(&whole, &arguments).status.success());
    let length = begun.elapsed();
    println!("{optimizer:?}: {kills} kills of a run of {:.1} s", length.as_secs_f64());
    for i in 0..kills {
        let out = folder(&format!("kill-{}-{i}", optimizer[1]));
        let mut child = start(&out, &arguments);
        // The golden ratio spreads any number of moments evenly.
        sleep(length.mul_f64((f64::from(i + 1) * 0.618_034).fract()));
        child.kill().unwrap();
        child.wait().unwrap();
        if i % 2 == 1 && out.join("config.toml").exists() {
            let mut again = Command::new(env!("CARGO_BIN_EXE_hig"))
                .args(["resume", out.to_str().unwrap(), "--quiet"])
                .spawn()
                .unwrap();
            sleep(length.mul_f64(0.2));
            again.kill().unwrap();
            again.wait().unwrap();
        }
        let end = if out.join("config.toml").exists() { resume(&out, &[]) } else { train(&out, &arguments) };
        assert!(end.status.success(), "{optimizer:?}, kill {i}: {}", stderr(&end));
        assert_same(&whole, &out, &format!("{optimizer:?}, kill {i}"));
        assert!(out.join("report.html").is_file(), "{optimizer:?}, kill {i}");
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn a_killed_adam_run_goes_on_to_the_same_bytes() {
    survives_kills(&["--optimizer", "adam"], 5000);
}

#[test]
fn a_killed_krylov_run_goes_on_to_the_same_bytes() {
    survives_kills(&["--optimizer", "hig", "--solver", "krylov:8"], 750);
}

#[test]
fn a_killed_hig_auto_run_goes_on_to_the_same_bytes() {
    survives_kills(&["--optimizer", "hig-auto"], 60);
}

#[test]
fn a_run_that_evaluates_at_every_step_is_killed_and_goes_on_to_the_same_bytes() {
    survives_kills(&["--optimizer", "nesterov", "--set", "training.evaluate_every=1"], 600);
}

#[test]
fn a_run_that_was_extended_and_killed_is_not_finished() {
    let (whole, out) = (folder("extended-whole"), folder("extended"));
    assert!(train(&whole, &["--optimizer", "adam", "--steps", "30000"]).status.success());
    assert!(train(&out, &["--optimizer", "adam", "--steps", "20"]).status.success());
    let mut child = Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(["resume", out.to_str().unwrap(), "--quiet", "--steps", "30000"])
        .spawn()
        .unwrap();
    wait_until("the new end is noted", || {
        fs::read_to_string(out.join("config.toml")).is_ok_and(|text| text.contains("steps = 30000"))
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let end = resume(&out, &[]);
    assert!(end.status.success(), "{}", stderr(&end));
    assert_same(&whole, &out, "extended and killed");

    // Once more, killed when all is done but the report, if that can be hit.
    let first = fs::read_to_string(out.join("report.html")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_hig"))
        .args(["resume", out.to_str().unwrap(), "--quiet", "--steps", "45000"])
        .spawn()
        .unwrap();
    wait_until("the summary is gone", || !out.join("summary.json").exists());
    wait_until("the summary is there again", || out.join("summary.json").exists());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(resume(&out, &[]).status.success());
    assert_ne!(first, fs::read_to_string(out.join("report.html")).unwrap(), "the report of the end before");
}

#[test]
fn a_folder_that_became_another_run_s_is_left_alone() {
    let out = folder("ousted");
    let first =
        start(&out, &["--optimizer", "adam", "--time", "60s", "--set", "training.checkpoint_every=0.02"]);
    wait_for(&out.join("checkpoint.safetensors"));
    let other = ["--optimizer", "sgd", "--steps", "20"];
    // The first run may make the folder again before the second one is there.
    loop {
        while fs::remove_dir_all(&out).is_err() {}
        if train(&out, &other).status.success() {
            break;
        }
    }
    let ended = first.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("is another run's now"), "{}", stderr(&ended));
    assert!(!stderr(&ended).contains("hig resume"), "{}", stderr(&ended));
    let alone = folder("ousted-alone");
    assert!(train(&alone, &other).status.success());
    assert_same(&alone, &out, "the second run");
    assert!(fs::read_to_string(out.join("summary.json")).unwrap().contains("\"sgd\""));
}

#[test]
fn a_run_that_rolls_back_goes_on_to_the_same_end() {
    let (whole, parts) = (folder("roll-whole"), folder("roll-parts"));
    let wild = ["--optimizer", "sgd", "--lr", "3", "--on-fault", "roll-back", "--steps"];
    assert!(train(&whole, &[&wild[..], &["90"]].concat()).status.success());
    assert!(train(&parts, &[&wild[..], &["31"]].concat()).status.success());
    assert!(resume(&parts, &["--steps", "90"]).status.success());
    assert_same(&whole, &parts, "roll-back");
    let summary = fs::read_to_string(whole.join("summary.json")).unwrap();
    assert!(!summary.contains("\"faults\": 0"), "{summary}");
}

fn mount(arguments: &[&str], path: &Path) {
    let status = Command::new("mount").args(arguments).arg(path).status().unwrap();
    assert!(status.success(), "no tmpfs could be mounted: only root may");
}

#[test]
#[ignore = "mounts a tmpfs, which only root may; CI runs it with --ignored"]
fn a_full_disk_ends_a_run_which_goes_on_when_there_is_room() {
    let disk = folder("disk");
    fs::create_dir_all(&disk).unwrap();
    mount(&["-t", "tmpfs", "-o", "size=200k", "tmpfs"], &disk);
    let (whole, out) = (folder("disk-whole"), disk.join("run"));
    let arguments = ["--optimizer", "adam", "--steps", "20000", "--set", "training.checkpoint_every=0.02"];
    let first = train(&out, &arguments);
    let message = stderr(&first);
    assert!(train(&whole, &arguments).status.success());
    mount(&["-o", "remount,size=64m"], &disk);
    let end = resume(&out, &[]);
    if end.status.success() {
        assert_same(&whole, &out, "after a full disk");
    }
    Command::new("umount").arg(&disk).status().unwrap();
    assert_eq!(first.status.code(), Some(1), "{message}");
    assert!(message.contains("No space left on device"), "{message}");
    assert!(message.contains("resume from the last checkpoint: hig resume"), "{message}");
    assert!(end.status.success(), "{}", stderr(&end));
}

#[test]
#[ignore = "needs faketime; CI runs it with --ignored"]
fn a_clock_that_is_set_back_changes_nothing() {
    let (whole, out) = (folder("clock-whole"), folder("clock"));
    let shim = Command::new("faketime").args(["-f", "+0", "sh", "-c", "echo $LD_PRELOAD"]).output().unwrap();
    let clock = whole.with_extension("time");
    fs::write(&clock, "+0").unwrap();
    let faked = |program: &str| {
        let mut command = Command::new(program);
        command.env("LD_PRELOAD", String::from_utf8_lossy(&shim.stdout).trim());
        command.env("FAKETIME_TIMESTAMP_FILE", &clock);
        // As when a clock is set: the monotonic one is not.
        command.envs([("FAKETIME_NO_CACHE", "1"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]);
        command
    };
    let stop = ["--optimizer", "adam", "--steps", "20000", "--set", "training.checkpoint_every=0.02"];
    assert!(train(&whole, &stop).status.success());
    let arguments = [&["train"], &TASK[..], &EVERY, &stop, &["--out", out.to_str().unwrap()]].concat();
    let mut child = faked(env!("CARGO_BIN_EXE_hig")).args(arguments).spawn().unwrap();
    wait_for(&out.join("checkpoint.safetensors"));
    fs::write(&clock, "-3650d").unwrap();
    let date = faked("date").arg("+%Y").output().unwrap();
    assert!(String::from_utf8_lossy(&date.stdout).starts_with("201"), "the clock was not set");
    let saved = || fs::read(out.join("checkpoint.safetensors")).unwrap_or_default();
    let before = saved();
    wait_until("a checkpoint comes after the clock was set", || saved() != before);
    assert!(child.wait().unwrap().success());
    assert_same(&whole, &out, "after the clock was set back");
}

#[test]
fn a_folder_that_is_removed_under_way_is_made_again() {
    let (whole, out) = (folder("removed-whole"), folder("removed"));
    let arguments = ["--optimizer", "adam", "--steps", "20000", "--set", "training.checkpoint_every=0.02"];
    assert!(train(&whole, &arguments).status.success());
    let child = start(&out, &arguments);
    wait_for(&out.join("checkpoint.safetensors"));
    while fs::remove_dir_all(&out).is_err() {}
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("made again"), "{}", stderr(&output));
    assert_same(&whole, &out, "after the folder was removed");
}

#[test]
fn two_programs_cannot_be_at_work_in_one_folder() {
    let out = folder("two");
    let mut child = start(&out, &["--optimizer", "adam", "--time", "60s"]);
    wait_for(&out.join("metrics.csv"));
    for second in [resume(&out, &[]), train(&out, &["--optimizer", "adam", "--steps", "3"])] {
        assert_eq!(second.status.code(), Some(2));
        let message = stderr(&second);
        assert!(message.contains("another hig is at work") || message.contains("is not empty"), "{message}");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(resume(&out, &["--steps", "5"]).status.success(), "the lock is gone with its holder");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let out = folder("other");
    assert!(train(&out, &["--optimizer", "adam", "--steps", "20"]).status.success());
    let config = out.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("learning_rate = 0.0003", "learning_rate = 0.0004")).unwrap();
    let output = resume(&out, &["--steps", "30"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("its run had other settings"), "{}", stderr(&output));
}

#[test]
fn metrics_that_lost_rows_are_refused_with_the_mend() {
    let out = folder("rows");
    assert!(train(&out, &["--optimizer", "adam", "--steps", "20"]).status.success());
    let metrics = out.join("metrics.csv");
    let text = fs::read_to_string(&metrics).unwrap();
    fs::write(&metrics, text.lines().take(2).collect::<Vec<_>>().join("\n") + "\n").unwrap();
    let output = resume(&out, &["--steps", "30"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("hig train --from"), "{}", stderr(&output));
}

#[test]
fn what_does_not_fit_into_memory_is_refused_before_it_begins() {
    let out = folder("memory");
    let output = train(&out, &["--solver", "svd", "--memory-limit", "10MiB"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(message.contains("this run needs about") && message.contains("--memory-limit"), "{message}");
    assert!(!out.exists());
}

/// A U-Net-like chain on 16 × 16 cells.
const UNET: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/unet.toml");

/// Peak of the process over the forecast.
fn over_forecast(arguments: &[&str]) -> f64 {
    let out = folder("forecast");
    let all = ["--threads", "1", "--out", out.to_str().unwrap()];
    let output = hig(&[&["train"], arguments, &all[..]].concat());
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    let line = said.lines().find(|line| line.ends_with("of memory")).unwrap();
    let (number, unit) = line.rsplit("about ").next().unwrap().split_once(' ').unwrap();
    let bytes = number.parse::<f64>().unwrap() * 1024f64.powi(if unit.starts_with('M') { 2 } else { 3 });
    let summary: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(out.join("summary.json")).unwrap()).unwrap();
    summary["peak_rss_bytes"].as_f64().unwrap() / bytes
}

#[test]
fn the_memory_forecast_is_near_the_peak() {
    for arguments in [
        &["oscillators", "--optimizer", "adam", "--steps", "20"][..],
        &["oscillators", "--solver", "gram", "--batch", "512", "--steps", "1"],
        &["oscillators", "--solver", "svd", "--batch", "256", "--steps", "1"],
        &["dipole", "--solver", "krylov:64", "--batch", "64", "--steps", "2"],
        &["poisson", "--solver", "krylov:32", "--steps", "2"],
        &["oscillators", "--optimizer", "hig-auto", "--steps", "20"],
        &["--config", UNET, "--solver", "krylov:16", "--batch", "64", "--steps", "2"],
        &["--config", UNET, "--solver", "gram", "--batch", "4", "--steps", "1"],
        &["--config", UNET, "--optimizer", "lm", "--set", "optimizer.scaling=columns", "--steps", "1"],
        &["--config", UNET, "--optimizer", "hig-auto", "--batch", "64", "--steps", "3"],
        &["regression", "--optimizer", "adam", "--set", "data.train=1000000", "--steps", "20"],
        &[
            "oscillators",
            "--optimizer",
            "l-bfgs",
            "--set",
            "optimizer.history=300",
            "--set",
            "network.hidden=[100,100]",
            "--batch",
            "16",
            "--steps",
            "330",
        ],
    ] {
        let ratio = over_forecast(arguments);
        println!("{arguments:?}: {ratio:.2}");
        assert!((0.4..1.25).contains(&ratio), "{arguments:?}: the peak is {ratio:.2} of the forecast");
    }
}
