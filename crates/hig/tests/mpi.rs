//! Runs and studies over the ranks of `mpirun`. Nothing waits for longer than its deadline.
//!
//! `HIG_KILLS` sets how many runs lose a rank; 3 where it is not set.
#![cfg(feature = "mpi")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No run here takes longer.
const DEADLINE: Duration = Duration::from_secs(100);
/// One that has lost a rank ends within this.
const END: Duration = Duration::from_secs(20);

fn start(ranks: usize, arguments: &str, folder: &Path) -> Child {
    let mut command = Command::new("mpirun");
    command.args(["-n", &ranks.to_string(), "--oversubscribe", env!("CARGO_BIN_EXE_hig")]);
    command.args(arguments.split_whitespace()).current_dir(folder);
    for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] {
        command.env(name, "1");
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("mpirun is installed")
}

/// The end of a run, which comes before the deadline.
fn end(mut child: Child, deadline: Duration) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > deadline {
            child.kill().unwrap();
            panic!("still there after {deadline:?}: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

fn run(ranks: usize, arguments: &str, folder: &Path) -> Output {
    end(start(ranks, arguments, folder), DEADLINE)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn fine(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Train and test losses of a run's rows.
fn losses(run: &Path) -> Vec<[f64; 2]> {
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let find = |name| header.iter().position(|column| *column == name).unwrap();
    let places = [find("train_loss"), find("test_loss")];
    lines.map(|line| places.map(|place| line[place].parse().unwrap_or(0.0))).collect()
}

fn same(a: &[[f64; 2]], b: &[[f64; 2]], what: &str) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (a, b) in a.iter().zip(b) {
        assert!((0..2).all(|i| (a[i] - b[i]).abs() <= 1e-10 * b[i].abs()), "{what}: {a:?} {b:?}");
    }
}

const SMALL: &str = "--set data.train=96 --set data.test=33 --batch 14 --threads 1 --quiet";

#[test]
fn runs_on_1_2_and_4_ranks_have_the_same_losses_and_the_same_number_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    let train = |ranks: usize, options: &str, out: &str| {
        let line = format!("train oscillators {options} --steps 50 {SMALL} --out {out}");
        fine(&run(ranks, &line, folder.path()));
        losses(&folder.path().join(out))
    };
    for (i, options) in
        ["--optimizer adam", "--optimizer hig --solver krylov:8 --set optimizer.truncation=0.03"]
            .iter()
            .enumerate()
    {
        let alone = train(1, options, &format!("{i}-1"));
        assert!(alone.len() > 3);
        for ranks in [2, 4] {
            same(&train(ranks, options, &format!("{i}-{ranks}")), &alone, options);
        }
        train(2, options, &format!("{i}-again"));
        let checkpoint =
            |out: String| fs::read(folder.path().join(out).join("checkpoint.safetensors")).unwrap();
        assert!(checkpoint(format!("{i}-again")) == checkpoint(format!("{i}-2")), "{options}: other bits");
    }
}

#[test]
fn a_run_is_resumed_on_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let optimizer = "--optimizer adam";
    let train = |ranks, steps, out: &str| {
        let line = format!("train oscillators {optimizer} --steps {steps} {SMALL} --out {out}");
        fine(&run(ranks, &line, folder.path()));
    };
    train(1, 40, "whole");
    train(4, 20, "part");
    fine(&run(2, "resume part --steps 30 --quiet", folder.path()));
    fine(&run(1, "resume part --steps 40 --quiet", folder.path()));
    let [whole, part] = ["whole", "part"].map(|out| losses(&folder.path().join(out)));
    let last = |rows: &[[f64; 2]]| rows.last().map(|row| row[1]).unwrap();
    assert!((last(&whole) - last(&part)).abs() <= 1e-10 * last(&whole), "{whole:?} {part:?}");
}

/// The processes that mpirun has started.
fn ranks_of(mpirun: &Child) -> Vec<u32> {
    let id = mpirun.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().map(|id| id.parse().unwrap()).collect()
}

fn wait_for(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < DEADLINE, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_run_whose_rank_is_killed_ends_and_its_last_checkpoint_is_resumed_on_one() {
    let kills = std::env::var("HIG_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3);
    for kill in 0..kills {
        let folder = tempfile::tempdir().unwrap();
        let line = format!(
            "train oscillators --optimizer hig-auto --time 60s {SMALL} --set training.checkpoint_every=0.05 --out run"
        );
        let ranks = 2 + kill % 3;
        let mpirun = start(ranks, &line, folder.path());
        let checkpoint: PathBuf = folder.path().join("run/checkpoint.safetensors");
        wait_for(&checkpoint);
        std::thread::sleep(Duration::from_millis(37 * kill as u64));
        let victims = ranks_of(&mpirun);
        assert_eq!(victims.len(), ranks);
        let victim = victims[kill * 7 % ranks].to_string();
        assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
        let output = end(mpirun, END);
        assert!(!output.status.success());
        // mpirun does not wait for those that it ends.
        let begun = Instant::now();
        for left in victims {
            while Path::new(&format!("/proc/{left}/exe")).exists() {
                assert!(begun.elapsed() < END, "rank {left} is left");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let resumed = run(1, "resume run --time 0.2s --quiet", folder.path());
        let said = said(&resumed);
        assert!(resumed.status.success(), "{kill}: {said}");
    }
}

#[test]
fn what_is_wrong_is_said_once_with_the_exit_code_of_one_machine() {
    let folder = tempfile::tempdir().unwrap();
    let torn = "x,y\n1,2\n2,nan\n3,5\n4,6\n";
    fs::write(folder.path().join("torn.csv"), torn).unwrap();
    for (line, words, code) in [
        ("train oscilators", "did you mean `oscillators`?", 2),
        ("train oscillators --no-such-option", "unexpected argument", 2),
        ("resume nowhere", "nowhere", 2),
        ("fit torn.csv --targets y", "torn.csv", 2),
        (
            "train oscillators --optimizer sgd --lr 1e200 --steps 9 --threads 1 --quiet --out diverged",
            "the run diverged at step",
            3,
        ),
    ] {
        let alone = Command::new(env!("CARGO_BIN_EXE_hig"))
            .args(line.replace("diverged", "alone").split_whitespace())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let output = run(3, line, folder.path());
        assert_eq!(said(&output).matches(words).count(), 1, "{line}: {}", said(&output));
        assert_eq!((output.status.code(), alone.status.code()), (Some(code), Some(code)), "{line}");
    }
}

#[test]
fn other_commands_do_once_what_they_do_alone() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(3, "tasks", folder.path());
    fine(&output);
    let alone = Command::new(env!("CARGO_BIN_EXE_hig")).arg("tasks").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&alone.stdout));
}

#[test]
fn a_study_hands_out_its_cells_and_goes_on_where_it_was_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let line = "compare toy --optimizers adam,sgd --seeds 1,2 --lr-grid 0.01,0.001 --steps 2000 --batch 32 --quiet \
                --set data.train=64 --out study";
    let mpirun = start(3, line, folder.path());
    let cells = folder.path().join("study/cells");
    wait_for(&cells.join("tune-adam-1e-2/summary.json"));
    let victim = ranks_of(&mpirun)[1].to_string();
    Command::new("kill").args(["-9", &victim]).status().unwrap();
    end(mpirun, END);
    let written = fs::metadata(cells.join("tune-adam-1e-2/summary.json")).unwrap().modified().unwrap();
    let output = run(3, line, folder.path());
    fine(&output);
    let finished = |name: &str| cells.join(name).join("summary.json").is_file();
    assert!(["adam-seed1", "adam-seed2", "sgd-seed1", "sgd-seed2"].into_iter().all(finished));
    let again = fs::metadata(cells.join("tune-adam-1e-2/summary.json")).unwrap().modified().unwrap();
    assert_eq!(written, again, "a finished cell was run again");
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(table.matches("| adam").count(), 1, "{table}");
}

#[test]
fn a_cell_that_the_program_never_survives_fails_and_the_others_are_finished() {
    let folder = tempfile::tempdir().unwrap();
    let line = "compare toy --optimizers adam,sgd --seeds 1,2 --steps 50 --batch 32 --quiet --set data.train=64 --out study";
    fine(&run(2, line, folder.path()));
    let cells = folder.path().join("study/cells");
    for lost in ["adam-seed1", "sgd-seed2"] {
        fs::remove_dir_all(cells.join(lost)).unwrap();
    }
    // What three kills leave behind.
    fs::write(cells.join("adam-seed1.claim"), "...").unwrap();
    let output = run(2, line, folder.path());
    assert!(!output.status.success());
    assert!(said(&output).contains("1 of 4 cells failed"), "{}", said(&output));
    assert!(said(&output).contains("adam-seed1: it was begun 3 times"), "{}", said(&output));
    assert!(cells.join("sgd-seed2/summary.json").is_file());
    fine(&run(2, line, folder.path()));
    assert!(cells.join("adam-seed1/summary.json").is_file());
}

#[test]
fn rows_of_j_that_do_not_fit_into_the_memory_of_ranks_are_refused_with_the_mend() {
    let folder = tempfile::tempdir().unwrap();
    // 512 rows and 60,496 parameters: half of J takes 118 MiB, and what is sent 31 MiB. One process makes K without J.
    let line = "train oscillators --optimizer hig --solver gram --set network.hidden=[200,200] --memory-limit 100MiB \
                --set data.train=256 --steps 1 --threads 1 --quiet --out";
    fine(&run(1, &format!("{line} alone"), folder.path()));
    let output = run(2, &format!("{line} ranks"), folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("take --solver krylov:16"), "{}", said(&output));
}
