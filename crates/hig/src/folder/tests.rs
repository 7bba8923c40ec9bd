//! Files of a run's folder that were damaged, or made to do harm. How to fuzz for longer stands at the head of
//! `halfinverse/src/training/checkpoint/tests.rs`.

use halfinverse::optimizer::{Notice, StepReport, Way};
use halfinverse::training::Row;

use super::metrics::{from_csv, whole_lines};
use super::*;
use crate::damage::{damage, within};

fn metrics() -> Vec<u8> {
    let last = StepReport { loss: 0.5, update_norm: 1e-3, way: Some(Way::Kron), ..StepReport::default() };
    let row = |step: u64| Row {
        step,
        epoch: 0.5,
        wall: std::time::Duration::from_millis(step),
        elapsed: std::time::Duration::from_secs(step),
        train_loss: (step > 0).then_some(1.0 / step as f64),
        test_loss: f64::NAN,
        last: (step > 0).then(|| last.clone()),
        units: None,
        fallbacks: step,
        rejected: 0,
        faults: 0,
        moved: step,
        notice: (step > 20).then_some(Notice::Still { steps: 100 }),
    };
    let mut writer = csv::Writer::from_writer(Vec::new());
    (0..6).for_each(|step| writer.serialize(Metrics::from(&row(7 * step))).unwrap());
    writer.into_inner().unwrap()
}

const SPECTRUM_FILE: &[u8] =
    b"index,start,end,samples,by\n0,1.5e0,2e0,8,svd\n1,1e-1,,8,svd\n2,,3e-17,8,svd\n";

const SUMMARY_FILE: &[u8] = br#"{"task":"oscillators","optimizer":"hig","solver":"krylov:16","seed":1,"threads":1,"steps":20,
"epochs":2.5,"wall_s":0.1,"elapsed_s":0.2,"train_loss":null,"test_loss":0.5,"best_test_loss":1e-3,"ms_per_step":null,
"peak_rss_bytes":1024,"notices":["step 3: \u00e9","step 4: b"],"stop_reason":"diverged: \"\u00e9\"","version":"0.1.0"}"#;

fn read_metrics(bytes: &[u8]) {
    within(bytes, 80, 64 << 10, || drop(from_csv::<Metrics>(bytes)));
    let Ok(text) = str::from_utf8(bytes) else { return };
    let lines = whole_lines(text, 4);
    assert!(text.starts_with(lines) && (lines.is_empty() || lines.ends_with('\n')));
    assert!(lines.lines().count() <= 5);
}

fn read_spectrum(bytes: &[u8]) {
    within(bytes, 64, 64 << 10, || drop(Spectrum::from_csv(bytes)));
}

fn read_summary(bytes: &[u8]) {
    within(bytes, 32, 4 << 10, || drop(Summary::from_json(bytes)));
}

#[test]
fn any_metrics_are_read_or_refused() {
    let valid = metrics();
    assert_eq!(from_csv::<Metrics>(&valid).unwrap().len(), 6);
    bolero::check!(name = "metrics").with_iterations(20_000).for_each(|input: &[u8]| {
        read_metrics(input);
        read_metrics(&damage(&valid, input));
    });
}

#[test]
fn any_spectrum_is_read_or_refused() {
    let spectrum = Spectrum::from_csv(SPECTRUM_FILE).unwrap();
    assert_eq!((spectrum.start.len(), spectrum.end.len()), (2, 2));
    assert_eq!(spectrum.of.unwrap().samples, 8);
    assert_eq!(
        spectrum.csv().as_bytes(),
        b"index,start,end,samples,by\n0,1.5e0,2e0,8,svd\n1,1e-1,3e-17,8,svd\n"
    );
    let older = Spectrum::from_csv(b"index,start,end\n0,1.5e0,2e0\n").unwrap();
    assert!(older.start == [1.5] && older.end == [2.0] && older.of.is_none());
    bolero::check!(name = "spectrum").with_iterations(20_000).for_each(|input: &[u8]| {
        read_spectrum(input);
        read_spectrum(&damage(SPECTRUM_FILE, input));
    });
}

#[test]
fn any_summary_is_read_or_passed_over() {
    assert_eq!(Summary::from_json(SUMMARY_FILE).unwrap().steps, 20);
    bolero::check!(name = "summary").with_iterations(20_000).for_each(|input: &[u8]| {
        read_summary(input);
        read_summary(&damage(SUMMARY_FILE, input));
    });
}

#[test]
fn what_takes_most_memory_stays_within_the_bounds() {
    // One more than a power of two, where growing vectors have just doubled.
    let size = (1 << 17) + 1;
    let names = "step,epoch,wall_s,elapsed_s,test_loss,fallbacks,rejected";
    for text in [
        ",".repeat(size),
        "\n".repeat(size),
        format!("\"{}", "x".repeat(size)),
        format!("\"{}\"", "\"\"".repeat(size / 2)),
        format!("{names}\n{}", "0,0,0,0,0,0,0\n".repeat(16385)),
        format!("{names},way\n{}", "0,0,0,0,0,0,0,k\n".repeat(16385)),
        format!("{names},notice\n{}", "0,0,0,0,0,0,0,k\n".repeat(16385)),
        format!("{names}\n0,0,0,0,0,0,{}", "0".repeat(size)),
        format!("index,start,end\n{}", "0,,\n".repeat(32769)),
        format!("index,start,end\n{}", "0,1,1\n".repeat(32769)),
        format!("index,start,end,samples,by\n{}", "0,,,,\n".repeat(32769)),
    ] {
        read_metrics(text.as_bytes());
        read_spectrum(text.as_bytes());
    }
    for text in [
        "[".repeat(size),
        "{\"a\":".repeat(size / 5),
        format!("{{\"notices\":[{}\"\"]}}", "\"\",".repeat(1 << 15)),
        format!("{{\"task\":\"{}\"}}", "x".repeat(size)),
        format!("{{\"task\":\"{}\"}}", "\\n".repeat(size / 2)),
        format!("{{\"seed\":{}}}", "9".repeat(size)),
        format!("{{\"seed\":0.{}}}", "9".repeat(size)),
    ] {
        read_summary(text.as_bytes());
    }
}
