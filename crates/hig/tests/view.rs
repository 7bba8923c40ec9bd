//! The live view without a browser: who is served, what controls do, and that training is not disturbed.

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{assert_same, folder, hig};
use serde_json::Value;

/// No wait is longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// A program with a view.
struct Served {
    child: Child,
    /// `127.0.0.1:PORT`, and the path behind it.
    host: String,
    path: String,
    said: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Served {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hig"))
            .args(arguments)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        // Whatever else is said has somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        let address = said.split("http://").nth(1).unwrap().split(' ').next().unwrap();
        let (host, path) = address.split_once('/').unwrap();
        Self { child, host: host.to_owned(), path: format!("/{path}"), said }
    }

    /// A run of a small problem into a folder.
    fn train(out: &Path, more: &[&str]) -> Self {
        let out = ["--out", out.to_str().unwrap()];
        Self::start(&[&["train"], &SMALL[..], &out, &["--quiet", "--view=0"], more].concat())
    }

    /// What these bytes are answered; empty where they are dropped.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn request(&self, method: &str, target: &str, headers: &str, body: &str) -> (u16, String) {
        let (host, length) = (&self.host, body.len());
        let path = format!("{}{target}", self.path);
        let answer = self.send(
            format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {target}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn get(&self, target: &str) -> (u16, String) {
        self.request("GET", target, "", "")
    }

    fn control(&self, body: &str) -> u16 {
        self.request("POST", "control?run=0", "Content-Type: application/json\r\n", body).0
    }

    /// The first run's state, from the first event of a stream; null where there is no run yet.
    fn state(&self) -> Value {
        let mut stream = TcpStream::connect(&self.host).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {}events HTTP/1.1\r\nHost: {}\r\n\r\n", self.path, self.host).unwrap();
        let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
        let event = lines.find_map(|line| line.strip_prefix("data: ").map(str::to_owned)).unwrap();
        serde_json::from_str::<Value>(&event).unwrap()["runs"].get(0).cloned().unwrap_or_default()
    }

    fn wait_for(&self, what: &str, met: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + DEADLINE;
        loop {
            let state = self.state();
            if met(&state) {
                return state;
            }
            assert!(Instant::now() < until, "{what} did not come: {state}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn exit_code(mut self) -> Option<i32> {
        let until = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < until, "the program did not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

const SMALL: [&str; 11] = [
    "oscillators",
    "--set",
    "data.train=256",
    "--set",
    "data.test=64",
    "--batch",
    "32",
    "--threads",
    "1",
    "--solver",
    "krylov:16",
];

/// Cells of a column of `metrics.csv`, the empty ones left out.
fn column(out: &Path, name: &str) -> Vec<String> {
    let text = fs::read_to_string(out.join("metrics.csv")).unwrap();
    let at = text.lines().next().unwrap().split(',').position(|own| own == name).unwrap();
    let cells = text.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().to_owned());
    cells.filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn controls_take_effect_are_rows_and_are_not_replayed_by_a_resumed_run() {
    let out = folder("view-controls");
    let run = Served::train(&out, &["--time", "600s", "--set", "training.evaluate_every=100000000"]);
    let steps = |state: &Value| state["step"].as_f64().unwrap_or(0.0);
    run.wait_for("a step", |state| steps(state) > 0.0);
    assert_eq!(run.control(r#"{"do":"pause"}"#), 200);
    let paused = run.wait_for("the pause", |state| state["standing"] == "paused");
    assert_eq!(run.control(r#"{"do":"pause"}"#), 200, "again, which changes nothing");
    let events = ["pause", "evaluate", "checkpoint", "learning_rate=0.25", "resume", "stop"];
    let rows = |count: usize| {
        let met =
            || fs::read_to_string(out.join("metrics.csv")).unwrap().matches(events[count - 1]).count() > 0;
        let until = Instant::now() + DEADLINE;
        while !met() {
            assert!(Instant::now() < until, "no row for {}", events[count - 1]);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(column(&out, "event"), events[..count]);
    };
    rows(1);
    assert_eq!(run.control(r#"{"do":"evaluate"}"#), 200);
    rows(2);
    let checkpoint = out.join("checkpoint.safetensors");
    assert!(!checkpoint.exists());
    assert_eq!(run.control(r#"{"do":"checkpoint"}"#), 200);
    rows(3);
    assert_eq!(run.control(r#"{"do":"learning-rate","to":0.25}"#), 200);
    rows(4);
    assert!(checkpoint.exists());
    let still = run.wait_for("the rate", |state| state["learning_rate"] == 0.25);
    assert!(still["standing"] == "paused" && still["step"] == paused["step"], "{still}");
    for refused in
        [r#"{"do":"learning-rate","to":-1}"#, r#"{"do":"learning-rate","to":null}"#, r#"{"do":"x"}"#, ""]
    {
        assert_eq!(run.control(refused), 400, "{refused}");
    }
    assert_eq!(
        run.request("POST", "control?run=7", "Content-Type: application/json\r\n", r#"{"do":"stop"}"#).0,
        409
    );
    assert_eq!(run.control(r#"{"do":"resume"}"#), 200);
    rows(5);
    run.wait_for("more steps", |state| steps(state) > steps(&paused));
    assert_eq!(run.control(r#"{"do":"stop"}"#), 200);
    assert_eq!(run.exit_code(), Some(130));
    rows(6);
    let end: u64 = column(&out, "step").last().unwrap().parse().unwrap();
    let more = (end + 5).to_string();
    let resumed = hig(&["resume", out.to_str().unwrap(), "--quiet", "--steps", &more]);
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    assert_eq!(column(&out, "event"), events, "each once");
    assert_eq!(column(&out, "step").last().unwrap(), &more);
    let rate: f64 = column(&out, "learning_rate").last().unwrap().parse().unwrap();
    assert!((rate - 0.25).abs() < 1e-12, "the changed rate is the run's: {rate}");
}

#[test]
fn hostile_requests_are_refused_and_the_training_is_the_same_to_a_bit() {
    let (plain, watched) = (folder("view-plain"), folder("view-hostile"));
    // Enough that it still trains when all has been tried.
    let steps = ["--steps", "30000"];
    let run = Served::train(&watched, &steps);
    let host = run.host.clone();
    let head = |request: &str| run.send(request.as_bytes()).lines().next().unwrap_or_default().to_owned();
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), "403"),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n\r\n"), "403"),
        (
            format!(
                "POST /control?run=0 HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{{\"do\":\"stop\"}}"
            ),
            "403",
        ),
        (
            format!(
                "POST /control?run=0 HTTP/1.1\r\nHost: {host}\r\nContent-Length: 13\r\n\r\n{{\"do\":\"stop\"}}"
            ),
            "415",
        ),
        (format!("GET /control?run=0 HTTP/1.1\r\nHost: {host}\r\n\r\n"), "405"),
        (format!("OPTIONS /control?run=0 HTTP/1.1\r\nHost: {host}\r\n\r\n"), "405"),
        (format!("GET /../../etc/passwd HTTP/1.1\r\nHost: {host}\r\n\r\n"), "404"),
        (format!("GET /%2e%2e/config.toml HTTP/1.1\r\nHost: {host}\r\n\r\n"), "404"),
        (format!("GET /rows?run=18446744073709551616 HTTP/1.1\r\nHost: {host}\r\n\r\n"), "404"),
        (format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "x".repeat(1 << 16)), "431"),
        (format!("GET / HTTP/1.1\r\nHost: {host}\r\n{}\r\n", "a: b\r\n".repeat(1000)), "431"),
        (format!("POST /control HTTP/1.1\r\nHost: {host}\r\nContent-Length: 999999999999\r\n\r\n"), "413"),
        ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), "400"),
    ] {
        let answer = head(&request);
        // What was not read of a long request may reset the connection before its answer arrives.
        let dropped = answer.is_empty() && request.len() > 4096;
        assert!(answer.contains(status) || dropped, "{answer} for {}", &request[..request.len().min(90)]);
    }
    let silent: Vec<TcpStream> = (0..1000).filter_map(|_| TcpStream::connect(&host).ok()).collect();
    assert!(silent.len() > 900, "{}", silent.len());
    silent.iter().step_by(3).for_each(|mut stream| drop(stream.write_all(b"GET / HTTP/1.1\r\nHo")));
    drop(silent);
    run.wait_for("an answer after a thousand connections", |state| state["controls"] == true);
    assert_eq!(run.exit_code(), Some(0));
    let out = ["--out", plain.to_str().unwrap(), "--quiet"];
    assert_eq!(hig(&[&["train"], &SMALL[..], &out, &steps].concat()).status.code(), Some(0));
    assert_same(&plain, &watched, "watched and attacked");
}

#[test]
fn another_host_needs_the_token_on_every_request() {
    let run = Served::train(&folder("view-token"), &["--time", "600s", "--view-host", "127.0.0.1"]);
    assert!(run.path.len() > 30, "{}", run.said);
    for target in ["", "view.js", "rows?run=0"] {
        assert_eq!(run.get(target).0, 200, "{target}");
        let without = run.send(format!("GET /{target} HTTP/1.1\r\nHost: {}\r\n\r\n", run.host).as_bytes());
        assert!(without.starts_with("HTTP/1.1 403"), "{target}: {without}");
    }
}

#[test]
fn a_port_that_is_taken_is_said_and_the_next_free_one_is_used() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let run = Served::start(
        &[
            &["train", "toy", "--time", "600s", "--out", folder("view-port").to_str().unwrap()],
            &[format!("--view={port}").as_str()][..],
        ]
        .concat(),
    );
    assert!(run.said.contains(&format!("port {port} is taken")), "{}", run.said);
    assert_eq!(run.get("").0, 200);
}

#[test]
fn what_cannot_be_viewed_is_refused_in_a_sentence() {
    let empty = folder("view-empty");
    fs::create_dir_all(&empty).unwrap();
    for (arguments, words) in [
        (vec!["train", "toy", "--view=65536"], "`--view=65536` must be a port"),
        (
            vec!["train", "toy", "--view=0", "--view-host", "203.0.113.7"],
            "cannot open the view at 203.0.113.7",
        ),
        (vec!["train", "toy", "--view-host", "127.0.0.1"], "--view"),
        (vec!["view", empty.to_str().unwrap()], "holds no run and no study"),
        (vec!["view", "no-such-folder"], "holds no run and no study"),
    ] {
        let output = hig(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
}

#[test]
fn a_hundred_thousand_rows_in_a_strangers_folder_are_sent_thinned() {
    let out = folder("view-long");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("config.toml"), "task = 'mine'\n[optimizer]\nname = 'adam'\n").unwrap();
    let mut text = String::from("step,epoch,wall_s,elapsed_s,train_loss,test_loss\n");
    for i in 0..100_000 {
        let loss = 1.0 / f64::from(i + 1);
        text += &format!("{i},0,{},0,{loss},{}\n", f64::from(i) * 1e-3, if i == 77_777 { 9.0 } else { loss });
    }
    fs::write(out.join("metrics.csv"), text).unwrap();
    let view = Served::start(&["view", out.to_str().unwrap(), "--port", "0"]);
    let (status, body) = view.get("rows?run=0&over=step&columns=test_loss,kappa&buckets=600");
    let rows: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, rows["rows"].as_u64()), (200, Some(100_000)));
    let curves = rows["curves"].as_array().unwrap();
    assert_eq!((curves.len(), curves[0][0].as_str()), (1, Some("test_loss")));
    let points = curves[0][1].as_array().unwrap();
    assert!((600..=1202).contains(&points.len()), "{}", points.len());
    assert!(points.iter().any(|point| point[0] == 77_777.0 && point[1] == 9.0), "the spike is lost");
    assert_eq!(view.control(r#"{"do":"stop"}"#), 409);
    assert_eq!(view.state()["controls"], false);
}
