//! Numbers with units as they are typed: times and sizes.

use bytesize::ByteSize;

use crate::failure::Failure;

/// `30s`, `500ms`, `5m`, `1h 30m`, or a plain number of seconds.
pub(crate) fn seconds(flag: &str, text: &str) -> Result<f64, Failure> {
    let plain = text.parse::<f64>().ok();
    let fraction = || {
        // humantime reads whole numbers only.
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = humantime::parse_duration(&format!("1{}", &text[number.len()..])).ok()?;
        Some(number.parse::<f64>().ok()? * unit.as_secs_f64())
    };
    let whole = || humantime::parse_duration(text).ok().map(|time| time.as_secs_f64());
    plain
        .or_else(whole)
        .or_else(fraction)
        .filter(|seconds| *seconds > 0.0 && seconds.is_finite())
        .ok_or_else(|| Failure::new(format!("{flag} {text} is no time above 0; write 30s, 500ms, 5m or 1h")))
}

/// `4GiB`, `500MB`, or a number of bytes.
pub(crate) fn bytes(flag: &str, text: &str) -> Result<u64, Failure> {
    let size = text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|&size| size > 0);
    size.ok_or_else(|| {
        Failure::new(format!("{flag} {text} is no size; write 4GiB, 500MB, or a number of bytes"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_bytes_and_their_multiples() {
        for (text, size) in [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5kib", 1536), ("77", 77)] {
            assert_eq!(bytes("--memory-limit", text).unwrap(), size, "{text}");
        }
        for text in ["", "GiB", "-1", "0", "4 giraffes", "nan", "inf"] {
            assert!(bytes("--memory-limit", text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_with_their_units_or_as_seconds() {
        for (text, time) in [("30s", 30.0), ("500ms", 0.5), ("5m", 300.0), ("2min", 120.0), ("1h", 3600.0)] {
            assert_eq!(seconds("--time", text).unwrap(), time, "{text}");
        }
        for (text, time) in [("2.5", 2.5), ("1.5h", 5400.0), ("1h 30m", 5400.0), ("1e-1s", 0.1)] {
            assert!((seconds("--time", text).unwrap() - time).abs() < 1e-12, "{text}");
        }
        for text in ["", "soon", "0", "-5s", "inf", "nan", "5 parsecs"] {
            assert!(seconds("--time", text).is_err(), "{text}");
        }
    }
}
