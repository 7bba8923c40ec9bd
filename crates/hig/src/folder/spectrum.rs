//! `spectrum.csv`: singular values of J over the first training samples.

use halfinverse::task::{SpectrumBy, SpectrumPlan};
use serde::Deserialize;

use super::metrics::from_csv;

/// At the run's start and end, descending.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spectrum {
    pub(crate) start: Vec<f64>,
    pub(crate) end: Vec<f64>,
    /// What they are taken of; unknown in a folder of an older version.
    pub(crate) of: Option<SpectrumPlan>,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "index")]
    _index: usize,
    start: Option<f64>,
    end: Option<f64>,
    samples: Option<usize>,
    by: Option<SpectrumBy>,
}

impl Spectrum {
    pub(super) fn csv(&self) -> String {
        let mut text = String::from("index,start,end,samples,by\n");
        let cell = |values: &[f64], i: usize| {
            values.get(i).map_or_else(String::new, |value: &f64| format!("{value:e}"))
        };
        let of = self.of.map_or_else(
            || ",".to_owned(),
            |SpectrumPlan { samples, by }| match by {
                SpectrumBy::Svd => format!("{samples},svd"),
                SpectrumBy::Gram => format!("{samples},gram"),
            },
        );
        for i in 0..self.start.len().max(self.end.len()) {
            text += &format!("{i},{},{},{of}\n", cell(&self.start, i), cell(&self.end, i));
        }
        text
    }

    pub(super) fn from_csv(text: &[u8]) -> csv::Result<Self> {
        let lines: Vec<Line> = from_csv(text)?;
        let of = lines.first().and_then(|line| Some(SpectrumPlan { samples: line.samples?, by: line.by? }));
        Ok(Self {
            start: lines.iter().filter_map(|line| line.start).collect(),
            end: lines.iter().filter_map(|line| line.end).collect(),
            // A run has at least one sample, and no more than there are is taken where these are counted.
            of: of.filter(|of| of.samples > 0),
        })
    }
}
