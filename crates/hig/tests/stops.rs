//! Runs that end because nothing gets better, what they say of themselves, and the best parameters that they keep.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::{folder, hig, rows};

/// A run whose test loss falls and rises again.
const RISING: [&str; 14] = [
    "train",
    "toy",
    "--optimizer",
    "lm",
    "--set",
    "data.train=16",
    "--set",
    "simulator.lambda=1",
    "--set",
    "network.hidden=[20]",
    "--batch",
    "8",
    "--threads",
    "1",
];

/// A run whose learning rate is so low that θ stays where it is.
const IDLE: [&str; 12] = [
    "train",
    "toy",
    "--optimizer",
    "sgd",
    "--lr",
    "1e-30",
    "--batch",
    "8",
    "--set",
    "training.evaluate_every=4",
    "--threads",
    "1",
];

fn into(out: &Path, arguments: &[&str], more: &[&str]) -> Output {
    hig(&[arguments, more, &["--out", out.to_str().unwrap()]].concat())
}

fn idle(out: &Path, more: &[&str]) -> Output {
    into(out, &IDLE, more)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn summary(out: &Path) -> serde_json::Value {
    serde_json::from_slice(&fs::read(out.join("summary.json")).unwrap()).unwrap()
}

/// The columns of a name in `metrics.csv`.
fn column(out: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let at = lines.next().unwrap().iter().position(|cell| cell == name).unwrap();
    lines.map(|cells| cells[at].clone()).collect()
}

#[test]
fn the_best_parameters_are_kept_where_a_run_rises_again() {
    let (out, again) = (folder("best"), folder("best-again"));
    let output = into(&out, &RISING, &["--steps", "300"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let summary = summary(&out);
    let best = summary["best_test_loss"].as_f64().unwrap();
    assert!(best < summary["test_loss"].as_f64().unwrap(), "this run rises again: {summary}");
    let step = summary["best_step"].as_u64().unwrap();
    let named = format!("the parameters of step {step}: {}", out.join("best.safetensors").display());
    assert!(stderr(&output).contains(&named), "{}", stderr(&output));
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains(&format!("at step {step}, whose parameters are in best.safetensors")));

    let from = out.join("best.safetensors");
    let more = ["--steps", "1", "--quiet", "--from", from.to_str().unwrap()];
    assert!(into(&again, &RISING, &more).status.success());
    assert_eq!(column(&again, "test_loss")[0].parse::<f64>().unwrap(), best);
}

#[test]
fn a_run_that_patience_ended_says_so_and_goes_on_where_it_is_given_more_steps() {
    let out = folder("patience");
    let output = idle(&out, &["--patience", "3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("stopped by patience: no better test loss than "), "{said}");
    assert!(said.contains("(step 0) in 3 evaluations"), "{said}");
    assert_eq!((&summary(&out)["stop_reason"], &summary(&out)["steps"]), (&"patience".into(), &12.into()));
    let resume = |more: &[&str]| hig(&[&["resume", out.to_str().unwrap()], more].concat());
    assert!(stderr(&resume(&[])).contains("is finished (stopped by patience)"));
    for (steps, end) in [("20", 20), ("100", 24), ("100", 36)] {
        assert!(resume(&["--steps", steps]).status.success());
        assert_eq!(
            summary(&out)["steps"],
            end,
            "the third evaluation in a row that brings nothing, or where it was to end"
        );
    }
}

#[test]
fn what_stands_still_is_said_while_it_does_and_at_the_end() {
    let out = folder("still");
    let output = idle(&out, &["--steps", "5000"]);
    let said = stderr(&output);
    assert!(
        said.contains("step 100: the parameters have not changed above round-off for 100 steps"),
        "{said}"
    );
    assert!(
        said.contains("stopped by still: the parameters have not changed above round-off for 1000 steps")
    );
    let notices = summary(&out)["notices"].clone();
    let all: Vec<&str> = notices.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(all.iter().any(|text| text.contains("1.0e-30 is too low")), "{all:?}");
    assert!(all.iter().any(|text| text.starts_with("steps 100 to 1000, 2 times: ")), "{all:?}");
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(all.iter().all(|text| report.contains(text)));
    assert!(column(&out, "moved").iter().all(|moved| moved == "0"));
    let kinds = column(&out, "notice");
    assert_eq!((kinds[1].as_str(), kinds[25].as_str(), kinds[26].as_str()), ("rate", "still", ""));
    let quiet = idle(&folder("still-quiet"), &["--steps", "200", "--quiet"]);
    assert_eq!(stderr(&quiet), "");
}

#[test]
fn a_resumed_run_ends_with_the_notices_and_the_best_of_one_that_was_not_stopped() {
    let (whole, parts) = (folder("notices-whole"), folder("notices-parts"));
    let common = ["--quiet", "--set", "stop.still=400", "--steps"];
    assert!(idle(&whole, &[&common[..], &["300"]].concat()).status.success());
    assert!(idle(&parts, &[&common[..], &["150"]].concat()).status.success());
    let output = hig(&["resume", parts.to_str().unwrap(), "--steps", "300"]);
    let said = stderr(&output);
    assert!(output.status.success() && said.matches("step 100:").count() == 1, "at the end only: {said}");
    common::assert_same(&whole, &parts, "notices");
    assert_eq!(summary(&whole)["notices"], summary(&parts)["notices"]);
}

#[test]
fn metrics_of_before_there_were_notices_are_still_read() {
    let out = folder("old-metrics");
    assert!(idle(&out, &["--steps", "8", "--quiet"]).status.success());
    let path = out.join("metrics.csv");
    let text = fs::read_to_string(&path).unwrap();
    let old = |line: &str| line.rsplitn(4, ',').last().unwrap().to_owned() + "\n";
    fs::write(&path, text.lines().map(old).collect::<String>()).unwrap();
    assert!(!rows(&out)[0].contains("moved"));
    fs::remove_file(out.join("report.html")).unwrap();
    assert!(hig(&["report", out.to_str().unwrap()]).status.success());
    assert!(out.join("report.html").is_file());
    // A resumed run goes on with the columns of today.
    assert!(hig(&["resume", out.to_str().unwrap(), "--steps", "16", "--quiet"]).status.success());
    let rows = rows(&out);
    assert!(rows[0].ends_with("moved,notice,event"), "{}", rows[0]);
    let cells = |row: &String| row.matches(',').count();
    assert!(rows.last().unwrap().starts_with("16,") && rows.iter().all(|row| cells(row) == cells(&rows[0])));
}

#[test]
fn no_more_threads_are_taken_than_there_are_cores() {
    let cores = std::thread::available_parallelism().unwrap().get();
    let many = (cores + 1000 - cores % 1000).to_string();
    let out = folder("threads");
    let steps = ["--steps", "2", "--out", out.to_str().unwrap()];
    let output = hig(&[&["train", "toy", "--threads", &many], &steps[..]].concat());
    let said = stderr(&output);
    let (end, line) = (format!("taking {cores}"), format!("--threads {many}: this machine has {cores} core"));
    assert!(said.starts_with(&line) && said.lines().next().unwrap().ends_with(&end), "{said}");
    assert_eq!(summary(&out)["threads"], cores);
    let config = out.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(&format!("threads = {cores}\n"), &format!("threads = {many}\n"));
    fs::write(&config, text).unwrap();
    let again = folder("threads-again");
    let from = ["--config", config.to_str().unwrap(), "--out", again.to_str().unwrap()];
    let said = stderr(&hig(&[&["train"], &from[..]].concat()));
    assert!(said.contains(&format!("training.threads = {many} (")) && said.contains(&end), "{said}");
    let output = hig(&["bench", "toy", "--threads", &many, "--repeats", "1"]);
    assert_eq!(stderr(&output).lines().filter(|line| line.ends_with(&end)).count(), 1, "{output:?}");
}
