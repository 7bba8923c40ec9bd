//! Lists as they are typed: seeds, losses, learning rates, values of a setting.

use halfinverse::task::Settings;

use crate::failure::Failure;

/// The parts between commas.
pub(crate) fn list(text: &str) -> Vec<&str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Values of `--vary`, split at commas outside brackets.
pub(crate) fn values_of(text: &str) -> Vec<String> {
    let mut values = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        match (c, depth, values.last_mut()) {
            (',', 0, _) => values.push(String::new()),
            (_, _, Some(value)) => value.push(c),
            (_, _, None) => {}
        }
    }
    values.into_iter().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty()).collect()
}

/// `1,2,3` or `1..5`, both ends included.
pub(crate) fn seeds(text: &str) -> Result<Vec<u64>, Failure> {
    let bad = || Failure::new(format!("`--seeds {text}` names no seeds; write 1,2,3 or 1..5"));
    let seeds: Vec<u64> = match text.split_once("..") {
        Some((first, last)) => {
            let (first, last): (u64, u64) =
                (first.trim().parse().map_err(|_| bad())?, last.trim().parse().map_err(|_| bad())?);
            if last < first || last - first >= 1000 {
                return Err(bad());
            }
            (first..=last).collect()
        }
        None => {
            list(text).into_iter().map(|part| part.parse().map_err(|_| bad())).collect::<Result<_, _>>()?
        }
    };
    if seeds.is_empty() { Err(bad()) } else { Ok(seeds) }
}

pub(crate) fn targets(text: Option<&str>) -> Result<Vec<f64>, Failure> {
    let positive = |part: &str| part.parse::<f64>().ok().filter(|value| *value > 0.0 && value.is_finite());
    let bad = |part: &str| Failure::new(format!("`{part}` is no loss to reach (--targets); write 1e-2,1e-3"));
    list(text.unwrap_or("")).into_iter().map(|part| positive(part).ok_or_else(|| bad(part))).collect()
}

/// A rate of a grid: itself, or so many times the default.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rate {
    Absolute(f64),
    TimesDefault(f64),
}

pub(crate) fn grid(text: Option<&str>) -> Result<Vec<Rate>, Failure> {
    let rate = |part: &str| {
        let (number, times) = part.strip_prefix('x').map_or((part, false), |number| (number, true));
        let value = number.parse::<f64>().ok().filter(|value| *value > 0.0 && value.is_finite());
        let rate = value.map(|value| if times { Rate::TimesDefault(value) } else { Rate::Absolute(value) });
        rate.ok_or_else(|| {
            Failure::new(format!(
                "`{part}` is no learning rate (--lr-grid); write 1e-3,1e-2, or x0.3,x1,x3 for multiples of the default"
            ))
        })
    };
    list(text.unwrap_or("")).into_iter().map(rate).collect()
}

pub(crate) fn rates(grid: &[Rate], settings: &Settings) -> Vec<f64> {
    let Some(default) = settings.optimizer.learning_rate() else { return Vec::new() };
    let mut rates: Vec<f64> = grid
        .iter()
        .map(|&rate| match rate {
            Rate::Absolute(rate) => rate,
            // As somebody would write it: 0.1 times 3e-4 is not 2.9999999999999997e-5.
            Rate::TimesDefault(factor) => {
                let rate = factor * default;
                format!("{rate:.12e}").parse().unwrap_or(rate)
            }
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates
}

#[cfg(test)]
mod tests {
    use halfinverse::task::Registry;

    use super::*;

    #[test]
    fn multiples_of_a_rate_are_round_numbers() {
        let settings = Registry::standard().settings("oscillators", "adam").unwrap();
        let rates = rates(&grid(Some("x3,x0.1,1e-3")).unwrap(), &settings);
        assert_eq!(rates, [3e-5, 9e-4, 1e-3]);
    }

    #[test]
    fn values_are_split_outside_brackets() {
        assert_eq!(values_of("[20,20], [9]"), ["[20,20]", "[9]"]);
        assert_eq!(values_of("0,0.5,1"), ["0", "0.5", "1"]);
    }
}
