//! `spectrum.csv`: singular values of J over the first training samples.

use super::metrics::from_csv;

/// At the run's start and end, descending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spectrum {
    pub(crate) start: Vec<f64>,
    pub(crate) end: Vec<f64>,
}

impl Spectrum {
    pub(super) fn csv(&self) -> String {
        let mut text = String::from("index,start,end\n");
        let cell = |values: &[f64], i: usize| {
            values.get(i).map_or_else(String::new, |value: &f64| format!("{value:e}"))
        };
        for i in 0..self.start.len().max(self.end.len()) {
            text += &format!("{i},{},{}\n", cell(&self.start, i), cell(&self.end, i));
        }
        text
    }

    pub(super) fn from_csv(text: &[u8]) -> csv::Result<Self> {
        let rows: Vec<(usize, Option<f64>, Option<f64>)> = from_csv(text)?;
        Ok(Self {
            start: rows.iter().filter_map(|row| row.1).collect(),
            end: rows.iter().filter_map(|row| row.2).collect(),
        })
    }
}
