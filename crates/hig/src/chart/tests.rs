//! Pictures of numbers that no run would leave, but a file of metrics may hold.

use super::*;

/// Numbers of all sizes, and numbers that hardly differ.
fn numbers(input: &[u8]) -> Vec<f64> {
    let mut last = 1.0;
    let number = |&[kind, word @ ..]: &[u8; 9]| {
        let raw = f64::from_le_bytes(word);
        let small = f64::from(word[0]);
        last = match kind % 5 {
            0 => raw,
            1 => small,
            2 => last * (1.0 + small * f64::EPSILON),
            3 => last + small,
            _ => 10.0f64.powf(small - 128.0),
        };
        last
    };
    input.as_chunks().0.iter().take(60).map(number).collect()
}

#[test]
fn any_numbers_are_drawn() {
    bolero::check!(name = "numbers").with_iterations(2_000).for_each(|input: &[u8]| {
        let (kind, rest) = input.split_first().unwrap_or((&0, &[]));
        let numbers = numbers(rest);
        let points: Vec<(f64, f64)> = numbers.as_chunks().0.iter().map(|&[x, y]| (x, y)).collect();
        let axis = |bit: u8| if kind & bit > 0 { Axis::logarithmic("x") } else { Axis::linear("x") };
        let chart = Chart {
            x: axis(1),
            y: axis(2),
            bands: vec![Band { points: points.iter().map(|&(x, y)| (x, y, x)).collect(), color: COLORS[1] }],
            // A few points only may lie at one end of what numbers can be.
            lines: vec![Line::new("a", points.into_iter().take(1 + usize::from(kind / 16)).collect(), 0)],
        };
        assert!(chart.svg().unwrap().len() < 200_000);
    });
}

#[test]
fn labels_tell_neighbouring_ticks_apart() {
    for (value, label) in [
        (0.0, "0"),
        (-1e-17, "0"),
        (0.01, "0.01"),
        (0.015, "0.015"),
        (-0.25, "-0.25"),
        (1e-3, "1e-3"),
        (1.5e-3, "1.5e-3"),
        (20000.0, "20000"),
        (100_000.0, "1e5"),
        (120_000.0, "1.2e5"),
    ] {
        assert_eq!(number(value), label);
    }
}

#[test]
fn a_logarithmic_axis_has_two_labels_at_least() {
    for (low, high, labels) in
        [(15.7, 38.0, ["10", "100"]), (2.0, 60.0, ["1", "100"]), (5.0, 5.0, ["1", "10"])]
    {
        let chart = Chart {
            x: Axis::linear("steps"),
            y: Axis::logarithmic("loss"),
            lines: vec![Line::new("a", vec![(0.0, high), (0.3, low)], 0)],
            bands: Vec::new(),
        };
        let svg = chart.svg().unwrap();
        for label in labels {
            assert!(svg.lines().any(|line| line.trim() == label), "{low} to {high}: no label {label}");
        }
    }
}
