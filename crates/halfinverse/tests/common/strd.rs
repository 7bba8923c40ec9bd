//! Statistical Reference Datasets of NIST, nonlinear regression: data, starts and certified parameters.

#![allow(unreachable_pub, dead_code, reason = "each test file uses a part of this one")]

use faer::Mat;
use halfinverse::Samples;

pub struct Set {
    /// NIST's second start, the one nearer to the solution.
    pub start: Vec<f64>,
    pub certified: Vec<f64>,
    /// Predictors as inputs, the response as target.
    pub samples: Samples,
}

impl Set {
    /// As NIST publishes it; the response goes through `response`.
    pub fn load(name: &str, response: fn(f64) -> f64) -> Self {
        let path = format!("{}/tests/data/nist/{name}.dat", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("a set of NIST's");
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        // b1 = start 1, start 2, certified value, its standard deviation.
        let parameters: Vec<Vec<f64>> =
            lines.iter().filter_map(|line| numbers(line.strip_prefix('b')?.split_once('=')?.1)).collect();
        let head = lines.iter().rposition(|line| line.starts_with("Data:")).expect("data");
        let rows: Vec<Vec<f64>> = lines[head + 1..].iter().filter_map(|line| numbers(line)).collect();
        let input = Mat::from_fn(rows.len(), rows[0].len() - 1, |s, j| rows[s][j + 1]);
        let target = Mat::from_fn(rows.len(), 1, |s, _| response(rows[s][0]));
        Self {
            start: parameters.iter().map(|row| row[1]).collect(),
            certified: parameters.iter().map(|row| row[2]).collect(),
            samples: Samples::new(input, Mat::zeros(rows.len(), 0), target).unwrap(),
        }
    }

    /// Digits to which every parameter agrees with its certified value.
    pub fn digits(&self, b: &[f64]) -> f64 {
        let off = |(b, certified): (&f64, &f64)| ((b - certified) / certified).abs();
        let worst = b.iter().zip(&self.certified).map(off).max_by(f64::total_cmp).expect("a parameter");
        // NaN sorts above all numbers.
        if worst.is_nan() { f64::NEG_INFINITY } else { -worst.max(1e-16).log10() }
    }
}

fn numbers(line: &str) -> Option<Vec<f64>> {
    let numbers: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    (!numbers.is_empty()).then_some(numbers)
}
