//! Curves of any length as curves of a screen's width.
//!
//! The points of each bucket of the horizontal axis become two: the lowest and the highest, in their order. What is
//! drawn is then the same to a pixel as of all points, spikes included, for O(N) comparisons. The first and the last
//! point stay too: they are where the curve begins and ends.

/// The visible part of a horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Window {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) logarithmic: bool,
    /// About one a pixel.
    pub(super) buckets: usize,
}

/// Buckets, at most: as many as a wide screen has pixels.
pub(super) const MOST: usize = 4096;

impl Window {
    /// Where a value lies, in buckets from the left; none outside.
    fn bucket(&self, x: f64) -> Option<usize> {
        if !(self.from..=self.to).contains(&x) || self.logarithmic && x <= 0.0 {
            return None;
        }
        let place = |x: f64| if self.logarithmic { x.ln() } else { x };
        let (from, to) = (place(self.from), place(self.to));
        let part = if to > from { (place(x) - from) / (to - from) } else { 0.0 };
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "0 to the number of buckets"
        )]
        let bucket = (part * self.buckets as f64) as usize;
        Some(bucket.min(self.buckets.saturating_sub(1)))
    }
}

/// The points of a curve in a window, and one more on each side that lines lead to. Points that are not finite are left
/// out. x must not fall.
pub(super) fn thin(x: &[f64], y: &[f64], window: Window) -> Vec<(f64, f64)> {
    let shown = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && !(window.logarithmic && x <= 0.0);
    let points = || x.iter().copied().zip(y.iter().copied()).filter(shown);
    let mut kept: Vec<(f64, f64)> =
        points().take_while(|point| point.0 < window.from).last().into_iter().collect();
    let mut bucket = None;
    let mut latest = None;
    // The lowest and the highest point of the bucket, each with its place.
    let mut ends: Option<[(usize, (f64, f64)); 2]> = None;
    for (i, point) in points().enumerate() {
        let Some(now) = window.bucket(point.0) else { continue };
        latest = Some(point);
        if bucket != Some(now) {
            if bucket.is_none() {
                kept.push(point);
            }
            flush(&mut kept, ends.take());
            bucket = Some(now);
        }
        ends = Some(match ends {
            None => [(i, point); 2],
            Some([low, high]) => [
                if point.1 < low.1.1 { (i, point) } else { low },
                if point.1 > high.1.1 { (i, point) } else { high },
            ],
        });
    }
    flush(&mut kept, ends);
    kept.extend(latest);
    // Whether one of them is the bucket's lowest or highest besides.
    kept.dedup();
    kept.extend(points().find(|point| point.0 > window.to));
    kept
}

fn flush(kept: &mut Vec<(f64, f64)>, ends: Option<[(usize, (f64, f64)); 2]>) {
    let Some([low, high]) = ends else { return };
    let (first, second) = if low.0 <= high.0 { (low, high) } else { (high, low) };
    kept.push(first.1);
    if second.0 != first.0 {
        kept.push(second.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Window = Window { from: 0.0, to: 99_999.0, logarithmic: false, buckets: 500 };

    #[test]
    fn a_long_curve_keeps_its_spikes_and_loses_its_length() {
        let x: Vec<f64> = (0..100_000).map(f64::from).collect();
        let mut y: Vec<f64> = x.iter().map(|x| (x / 500.0).sin()).collect();
        (y[31_415], y[92_653]) = (50.0, -50.0);
        for logarithmic in [false, true] {
            let kept = thin(&x, &y, Window { logarithmic, from: f64::from(logarithmic), ..ALL });
            assert!(kept.len() <= 1002, "{}", kept.len());
            assert!(kept.contains(&(31_415.0, 50.0)) && kept.contains(&(92_653.0, -50.0)));
            assert!(kept[0].0 <= 1.0 && kept.last().unwrap().0 == 99_999.0);
            assert!(kept.is_sorted_by(|a, b| a.0 <= b.0));
        }
    }

    #[test]
    fn a_short_curve_is_kept_whole_without_gaps_in_what_is_finite() {
        let x = [0.0, 1.0, 2.0, 3.0, 4.0];
        let y = [5.0, f64::NAN, 4.0, f64::INFINITY, 3.0];
        let window = Window { from: 0.0, to: 4.0, ..ALL };
        assert_eq!(thin(&x, &y, window), [(0.0, 5.0), (2.0, 4.0), (4.0, 3.0)]);
        assert_eq!(thin(&x, &y, Window { logarithmic: true, from: 1.0, ..window }), [(2.0, 4.0), (4.0, 3.0)]);
        assert_eq!(thin(&[], &[], window), []);
        assert_eq!(thin(&[7.0], &[1.0], Window { from: 7.0, to: 7.0, ..ALL }), [(7.0, 1.0)]);
    }

    #[test]
    fn a_window_shows_more_of_its_part_and_a_point_on_each_side() {
        let x: Vec<f64> = (0..1000).map(f64::from).collect();
        let kept = thin(&x, &x, Window { from: 100.0, to: 109.0, buckets: 100, ..ALL });
        assert_eq!(kept.first(), Some(&(99.0, 99.0)));
        assert_eq!(kept.last(), Some(&(110.0, 110.0)));
        assert_eq!(kept.len(), 12);
    }
}
