//! All that was asked of a study.

use std::fmt::Write as _;

use halfinverse::task::Settings;

/// What is compared with the others: a name and its settings.
pub(super) struct Variant {
    pub(super) label: String,
    pub(super) settings: Settings,
    /// Learning rates to choose from; none for those it came with.
    pub(super) grid: Vec<f64>,
    /// Seconds of training that they are chosen by, where these differ from the variant's own end.
    pub(super) grid_time: Option<f64>,
}

/// Everything that was asked for.
pub(super) struct Plan {
    pub(super) title: String,
    pub(super) variants: Vec<Variant>,
    pub(super) seeds: Vec<u64>,
    pub(super) targets: Vec<f64>,
    /// What an ablation varies.
    pub(super) varied: Option<Varied>,
}

/// A setting that is varied, with each variant's value where that is a number.
pub(super) struct Varied {
    pub(super) key: String,
    pub(super) values: Vec<Option<f64>>,
}

impl Plan {
    /// All that makes the study what it is, as TOML tables one after the other.
    pub(super) fn text(&self) -> String {
        let mut text = format!("title = {:?}\nseeds = {:?}\n", self.title, self.seeds);
        for variant in &self.variants {
            let Variant { label, grid, grid_time, settings } = variant;
            let _ = write!(text, "\n# {label}, learning rates {grid:?}");
            if let Some(seconds) = grid_time {
                let _ = write!(text, " by {seconds} s");
            }
            let _ = write!(text, "\n{}", settings.to_toml());
        }
        text
    }

    /// The name of a folder for the study: the same for the same plan.
    pub(super) fn folder(&self, command: &str) -> String {
        let task = &self.variants[0].settings.task;
        format!("{command}-{task}-{:08x}", fnv(&self.text()))
    }
}

/// A label as a folder's name.
pub(super) fn plain(label: &str) -> String {
    label.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_=".contains(c) { c } else { '-' }).collect()
}

/// FNV-1a, folded to 32 bits: a name, not a proof.
fn fnv(text: &str) -> u32 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    #[allow(clippy::cast_possible_truncation, reason = "folded")]
    let folded = (hash ^ (hash >> 32)) as u32;
    folded
}
