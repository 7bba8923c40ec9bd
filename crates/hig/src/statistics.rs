//! Quartiles of a few runs.

/// Lower quartile, median, upper quartile, interpolated; infinite values sort last and swallow what they touch.
pub(crate) fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    for value in &mut values {
        if value.is_nan() {
            *value = f64::INFINITY;
        }
    }
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return [f64::INFINITY; 3];
    }
    [0.25, 0.5, 0.75].map(|share| {
        let position = share * (values.len() - 1) as f64;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (below, above) = (position.floor() as usize, position.ceil() as usize);
        let weight = position - position.floor();
        if weight == 0.0 { values[below] } else { values[below] * (1.0 - weight) + values[above] * weight }
    })
}

/// The median, where it is finite.
pub(crate) fn median(values: Vec<f64>) -> Option<f64> {
    Some(quartiles(values)[1]).filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_interpolate_and_diverged_runs_count_as_infinite() {
        assert_eq!(quartiles(vec![3.0, 1.0, 2.0]), [1.5, 2.0, 2.5]);
        assert_eq!(quartiles(vec![1.0, f64::NAN, 2.0]), [1.5, 2.0, f64::INFINITY]);
        assert_eq!(quartiles(vec![5.0]), [5.0; 3]);
    }
}
