//! `hig fit` and `hig predict`: every format of data, what is refused, and that predictions are those that the report
//! tells of.

mod common;

use std::fs;
use std::path::Path;
use std::process::Output;

use common::assert_same;
use common::data::{SHORT, fit, hig, noise, npy, npz, safetensors, stderr, stdout, table, text};

/// The line of a run's `errors.csv`, by column.
fn told(folder: &Path, run: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(run).join("errors.csv")).unwrap();
    text.lines().nth(1).unwrap().split(',').map(str::to_owned).collect()
}

/// The rows of a CSV that was predicted.
fn predicted(output: &Output) -> Vec<f64> {
    assert!(output.status.success(), "{}", stderr(output));
    stdout(output).lines().skip(1).map(|line| line.parse().unwrap()).collect()
}

#[test]
fn every_format_gives_the_same_run() {
    let home = tempfile::tempdir().unwrap();
    let rows = table(120);
    let put = |name: &str, bytes: &[u8]| fs::write(home.path().join(name), bytes).unwrap();
    put("plain.csv", text(&rows, "", [0, 1, 2], ",", "\n").as_bytes());
    put("named.csv", text(&rows, "a,b,y", [0, 1, 2], ",", "\n").as_bytes());
    put("other.txt", format!("\u{feff}{}", text(&rows, "\"a\";b;y", [0, 1, 2], ";", "\r\n")).as_bytes());
    put("tabs.tsv", text(&rows, "y\ta\tb", [2, 0, 1], "\t", "\n").as_bytes());
    put("pipes.csv", text(&rows, "a|b|y", [0, 1, 2], " | ", "\n\n").as_bytes());
    let all: Vec<f64> = rows.concat();
    let columns: Vec<f64> = (0..3).flat_map(|j| rows.iter().map(move |row| row[j])).collect();
    put("rows.npy", &npy(&all, "(120, 3)", "False"));
    put("columns.npy", &npy(&columns, "(120, 3)", "True"));
    let x: Vec<f64> = rows.iter().flat_map(|row| [row[0], row[1]]).collect();
    let y: Vec<f64> = rows.iter().map(|row| row[2]).collect();
    let arrays = [("x", npy(&x, "(120, 2)", "False")), ("y", npy(&y, "(120,)", "False"))];
    put("stored.npz", &npz(&arrays, zip::CompressionMethod::Stored));
    put("deflated.npz", &npz(&arrays, zip::CompressionMethod::Deflated));
    put("arrays.safetensors", &safetensors(&[("y", vec![120], y.clone()), ("x", vec![120, 2], x.clone())]));
    fit("plain.csv", "whole", &[], home.path());
    let named = ["--inputs", "a,b", "--targets", "y"];
    let arrays = ["--inputs", "x", "--targets", "y"];
    for (data, more) in [
        ("named.csv", &[][..]),
        ("named.csv", &["--inputs", "1-2", "--targets", "3"]),
        ("other.txt", &named),
        ("tabs.tsv", &named),
        ("pipes.csv", &[]),
        ("rows.npy", &[]),
        ("columns.npy", &["--targets", "3"]),
        ("stored.npz", &arrays),
        ("deflated.npz", &arrays),
        ("arrays.safetensors", &arrays),
    ] {
        let _ = fs::remove_dir_all(home.path().join("run"));
        fit(data, "run", more, home.path());
        let read = |run: &str| fs::read(home.path().join(run).join("checkpoint.safetensors")).unwrap();
        let tensors = |bytes: &[u8]| {
            let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
            file.tensor("layers.0.weight").unwrap().data().to_vec()
        };
        assert_eq!(tensors(&read("whole")), tensors(&read("run")), "{data}");
    }
}

#[test]
fn predictions_are_those_that_the_report_tells_of_whatever_the_order_of_columns() {
    let home = tempfile::tempdir().unwrap();
    let (rows, test) = (table(300), table(377).split_off(300));
    fs::write(home.path().join("data.csv"), text(&rows, "a,b,y", [0, 1, 2], ",", "\n")).unwrap();
    fs::write(home.path().join("test.csv"), text(&test, "b,y,a", [1, 2, 0], ",", "\n")).unwrap();
    fit("data.csv", "run", &["--test", "test.csv"], home.path());
    let json = hig(&["predict", "run", "test.csv", "--out", "p.npy", "--json"], home.path());
    assert!(json.status.success(), "{}", stderr(&json));
    let summary: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(summary["rows"], 77);
    let (of, told) = (&summary["targets"][0], told(home.path(), "run"));
    for (name, told) in [("rmse", &told[1]), ("r2", &told[2]), ("largest", &told[3])] {
        let (of, told) = (of[name].as_f64().unwrap(), told.parse::<f64>().unwrap());
        assert!((of / told - 1.0).abs() < 1e-14, "{name}: {of} and {told}");
    }
    assert_eq!(of["line"].as_u64().unwrap(), told[4].parse::<u64>().unwrap(), "line");
    // What the numbers say is what the predictions are.
    let y = predicted(&hig(&["predict", "run", "test.csv"], home.path()));
    let off = |i: usize| y[i] - test[i][2];
    let rmse = ((0..77).map(|i| off(i).powi(2)).sum::<f64>() / 77.0).sqrt();
    assert!((rmse / of["rmse"].as_f64().unwrap() - 1.0).abs() < 1e-9, "{rmse}");
    let worst = (0..77).max_by(|&i, &j| off(i).abs().total_cmp(&off(j).abs())).unwrap();
    assert_eq!(told[4], (worst + 2).to_string(), "the header is line 1");
    assert!(rmse < 60.0, "{rmse}: nothing was learnt of targets from 100 to 500");
    // The same from the file alone, of other formats, and without targets.
    let best = hig(&["predict", "run/best.safetensors", "test.csv"], home.path());
    assert_eq!(predicted(&best), y);
    let bytes = fs::read(home.path().join("p.npy")).unwrap();
    let numbers: Vec<f64> =
        bytes[128..].chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(numbers, y);
    assert!(
        bytes.starts_with(
            b"\x93NUMPY\x01\x00\x76\x00{'descr': '<f8', 'fortran_order': False, 'shape': (77, 1)"
        )
    );
    let inputs: String = test.iter().map(|row| format!("{},{},word\n", row[1], row[0])).collect();
    fs::write(home.path().join("inputs.csv"), "b,a,other\n".to_owned() + &inputs).unwrap();
    let bare = hig(&["predict", "run", "inputs.csv"], home.path());
    assert_eq!(predicted(&bare), y);
    assert_eq!(stderr(&bare), "");
    let last = hig(&["predict", "run", "test.csv", "--last"], home.path());
    assert!(last.status.success() && stderr(&last).contains("RMSE"), "{}", stderr(&last));
}

#[test]
fn rows_of_weight_0_teach_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (rows, test) = (table(400), table(477).split_off(400));
    let lines = |rows: &[[f64; 3]], spoil: bool| -> String {
        let line = |(i, [a, b, y]): (usize, &[f64; 3])| match (spoil, i % 3) {
            // The target is another row's.
            (true, 0) => format!("{a},0,{b},{}\n", rows[(i + 7) % rows.len()][2]),
            _ => format!("{a},2,{b},{y}\n"),
        };
        "a,w,b,y\n".to_owned() + &rows.iter().enumerate().map(line).collect::<String>()
    };
    fs::write(home.path().join("data.csv"), lines(&rows, true)).unwrap();
    fs::write(home.path().join("test.csv"), lines(&test, false)).unwrap();
    let rmse = |run: &str, more: &[&str]| {
        fit("data.csv", run, &[&["--test", "test.csv"], more].concat(), home.path());
        told(home.path(), run)[1].parse::<f64>().unwrap()
    };
    let (weighted, blind) = (rmse("weighted", &["--weights", "w"]), rmse("blind", &["--inputs", "a,b"]));
    assert!(3.0 * weighted < blind, "{weighted} with weights, {blind} without");
    let settings = fs::read_to_string(home.path().join("weighted/config.toml")).unwrap();
    assert!(settings.contains("inputs = [\"a\", \"b\"]"), "{settings}");
    assert!(hig(&["report", "weighted"], home.path()).status.success());
}

#[test]
fn test_rows_are_told_by_their_lines_and_are_never_trained_on() {
    let home = tempfile::tempdir().unwrap();
    let mut rows = table(80);
    // Far off in every twentieth line.
    (0..80).filter(|i| i % 20 == 7).for_each(|i| rows[i][2] = 1e5);
    fs::write(home.path().join("data.csv"), text(&rows, "a,b,y", [0, 1, 2], ",", "\n")).unwrap();
    fit("data.csv", "run", &["--test-share", "0.5", "--set", "data.seed=3"], home.path());
    let line: usize = told(home.path(), "run")[4].parse().unwrap();
    assert_eq!((line - 2) % 20, 7, "line {line}");
    let page = fs::read_to_string(home.path().join("run/report.html")).unwrap();
    assert!(page.contains("Worst rows") && page.contains(&format!("<td>{line}</td>")));
    for name in ["predictions.svg", "residuals.svg"] {
        let svg = fs::read_to_string(home.path().join("run").join(name)).unwrap();
        assert!(page.contains(&svg), "{name}");
    }
    let config = fs::read_to_string(home.path().join("run/config.toml")).unwrap();
    assert!(config.contains("train = 40\ntest = 40"), "{config}");
}

#[test]
fn labels_are_learnt_and_predicted_as_words() {
    let home = tempfile::tempdir().unwrap();
    let class = |a: f64, b: f64| {
        if a > 0.3 {
            "red"
        } else if b > 0.0 {
            "gr,een"
        } else {
            "blue"
        }
    };
    let lines: String = (0..400)
        .map(|i| (noise(2 * i), noise(2 * i + 1)))
        .map(|(a, b)| format!("{a},{b},\"{}\"\n", class(a, b)))
        .collect();
    fs::write(home.path().join("data.csv"), "a,b,colour\n".to_owned() + &lines).unwrap();
    let more = ["--set", "objective.kind=cross-entropy", "--epochs", "6"];
    let output =
        hig(&[&["fit", "data.csv", "--out", "run", "--threads", "1"][..], &more].concat(), home.path());
    assert!(output.status.success(), "{}", stderr(&output));
    let accuracy: f64 = told(home.path(), "run")[1].parse().unwrap();
    assert!(accuracy > 0.9, "{accuracy}");
    let page = fs::read_to_string(home.path().join("run/report.html")).unwrap();
    assert!(page.contains("is \\ predicted"), "confusions");
    let output = hig(&["predict", "run", "data.csv"], home.path());
    let out = stdout(&output);
    assert!(out.starts_with("class,p(blue),\"p(gr,een)\",p(red)\n"), "{}", &out[..80]);
    let right = out.lines().skip(1).enumerate().filter(|(i, line)| {
        let class = class(noise(2 * i), noise(2 * i + 1));
        line.starts_with(class) || line.starts_with(&format!("\"{class}"))
    });
    let share = right.count() as f64 / 400.0;
    let said = format!("{:.2} % of 400 rows have their class right", 100.0 * share);
    assert!(share > 0.9 && stderr(&output).contains(&said), "{said}: {}", stderr(&output));
    for line in out.lines().skip(1) {
        let p: f64 = line.rsplit(',').take(3).map(|p| p.parse::<f64>().unwrap()).sum();
        assert!((p - 1.0).abs() < 1e-12);
    }
    // An unknown class is a mistake of the file.
    fs::write(home.path().join("data.csv"), "a,b,colour\n1,2,mauve\n").unwrap();
    let output = hig(&["predict", "run", "data.csv", "--out", "p.csv"], home.path());
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("data.csv, line 2: the class `mauve`"), "{}", stderr(&output));
    assert!(!home.path().join("p.csv").exists() && !home.path().join("p.csv.new").exists());
}

#[test]
fn a_run_that_is_resumed_equals_one_that_was_not_stopped_and_a_file_that_changed_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let data = text(&table(200), "a,b,y", [0, 1, 2], ",", "\n");
    fs::write(home.path().join("data.csv"), &data).unwrap();
    fit("data.csv", "whole", &["--set", "training.evaluate_every=7"], home.path());
    let parts = ["fit", "data.csv", "--out", "parts", "--quiet", "--set", "training.evaluate_every=7"];
    hig(&[&parts[..], &SHORT[..4], &["--steps", "16"]].concat(), home.path());
    let resume = |more: &[&str]| hig(&[&["resume", "parts", "--quiet"], more].concat(), home.path());
    fs::write(home.path().join("data.csv"), data.replacen("0.", "1.", 1)).unwrap();
    let refused = resume(&["--steps", "40"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("data.csv has changed since it was first read"),
        "{}",
        stderr(&refused)
    );
    fs::write(home.path().join("data.csv"), &data).unwrap();
    let resumed = resume(&["--steps", "40"]);
    assert!(resumed.status.success(), "{}", stderr(&resumed));
    assert_same(&home.path().join("whole"), &home.path().join("parts"), "resumed");
    assert_eq!(told(home.path(), "whole"), told(home.path(), "parts"));
    let repeated = ["train", "--config", "whole/config.toml", "--out", "again", "--quiet"];
    assert!(hig(&repeated, home.path()).status.success());
    assert_same(&home.path().join("whole"), &home.path().join("again"), "from config.toml");
}

#[test]
fn the_other_commands_work_on_a_data_file() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("data.csv"), text(&table(200), "a,b,y", [0, 1, 2], ",", "\n")).unwrap();
    fs::write(
        home.path().join("own.toml"),
        "task = \"fit\"\n[network]\nhidden = [5]\n[data]\npath = \"data.csv\"\ntargets = [\"y\"]\n[objective]\nkind = \"huber\"\nscale = 0.2\n",
    )
    .unwrap();
    let quiet = ["--steps", "9", "--threads", "1", "--quiet"];
    let grid = [
        &["compare", "own.toml", "--optimizers", "adam,hig", "--seeds", "1", "--lr-grid", "x1,x3"][..],
        &quiet,
    ];
    for command in [
        &["fit", "data.csv", "own.toml", "--steps", "9", "--quiet"][..],
        &["check", "own.toml"],
        &["bench", "own.toml", "--repeats", "2"],
        &grid.concat(),
        &[
            &["ablate", "fit", "--set", "data.path=data.csv", "--vary", "width=4,8", "--seeds", "1"][..],
            &quiet,
        ]
        .concat(),
        &[&["spectrum", "own.toml", "--out", "spectrum"][..], &quiet].concat(),
        &["report", "runs/fit-hig-auto-1"],
    ] {
        let output = hig(command, home.path());
        assert!(output.status.success(), "{command:?}: {}", stderr(&output));
    }
    let config = fs::read_to_string(home.path().join("runs/fit-hig-auto-1/config.toml")).unwrap();
    assert!(config.contains("hidden = [5]") && config.contains("inputs = [\"a\", \"b\"]"), "{config}");
}

#[test]
fn rows_with_missing_values_are_left_out_where_that_is_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let mut lines: Vec<String> =
        text(&table(60), "a,b,y", [0, 1, 2], ",", "\n").lines().map(str::to_owned).collect();
    for (line, text) in [(5, "1,,2"), (9, "NA,1,2"), (30, "1,2,nan")] {
        lines[line] = text.to_owned();
    }
    fs::write(home.path().join("data.csv"), lines.join("\n")).unwrap();
    let more = ["--missing", "drop", "--out", "run"];
    let output = hig(&[&["fit", "data.csv"], &SHORT[..], &more].concat(), home.path());
    assert!(
        stderr(&output)
            .contains("51 rows to train on, 6 to test on; 3 rows with missing values are left out"),
        "{}",
        stderr(&output)
    );
    let output = hig(&["predict", "run", "data.csv", "--missing", "drop"], home.path());
    assert_eq!(stdout(&output).lines().count(), 58);
}

/// Every snippet of the page runs, in a folder with the files that the page makes.
#[test]
fn the_pages_commands_work() {
    let home = tempfile::tempdir().unwrap();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/fit.md")).unwrap();
    let rows = |count: usize| text(&table(count), "a,b,y", [0, 1, 2], ",", "\n");
    fs::write(home.path().join("data.csv"), rows(400)).unwrap();
    fs::write(home.path().join("new.csv"), rows(40)).unwrap();
    let weighted: String = (0..100).map(|i| format!("{},{},{i}\n", noise(i), noise(i + 1))).collect();
    fs::write(home.path().join("weighted.csv"), "a,y,w\n".to_owned() + &weighted).unwrap();
    let labels: String =
        (0..200).map(|i| format!("{},{}\n", noise(i), if noise(i) > 0.0 { "up" } else { "down" })).collect();
    fs::write(home.path().join("labels.csv"), "x,class\n".to_owned() + &labels).unwrap();
    let x: Vec<f64> = (0..100).map(noise).collect();
    let arrays = [("x", npy(&x, "(50, 2)", "False")), ("y", npy(&x[..50], "(50,)", "False"))];
    fs::write(home.path().join("arrays.npz"), npz(&arrays, zip::CompressionMethod::Deflated)).unwrap();
    let mut blocks = 0;
    let mut parts = page.split("```");
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        if let Some(toml) = block.strip_prefix("toml\n") {
            fs::write(home.path().join("own.toml"), toml).unwrap();
        }
        let Some(commands) = block.strip_prefix("sh\n") else { continue };
        for command in commands.lines() {
            let command = command.split('#').next().unwrap_or_default().trim();
            let mut arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
            for end in ["--epochs", "--steps"] {
                if let Some(at) = arguments.iter().position(|&word| word == end) {
                    arguments.drain(at..at + 2);
                }
            }
            match arguments[0] {
                "fit" | "compare" => arguments.extend(["--quiet", "--steps", "4"]),
                "resume" => arguments.extend(["--quiet", "--steps", "6"]),
                _ => {}
            }
            let output = hig(&arguments, home.path());
            assert!(output.status.success(), "{command}: {}", stderr(&output));
            blocks += 1;
        }
    }
    assert!(blocks >= 8, "{blocks} commands");
}
