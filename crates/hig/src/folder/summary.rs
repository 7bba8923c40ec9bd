//! `summary.json`: how a run ended.

use serde::{Deserialize, Serialize};

/// How the reason of a run that diverged begins, as [`StopReason`](halfinverse::training::StopReason) words it.
const DIVERGED: &str = "diverged";

/// `summary.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) task: String,
    pub(crate) optimizer: String,
    pub(crate) solver: Option<String>,
    pub(crate) seed: u64,
    pub(crate) threads: usize,
    pub(crate) steps: u64,
    pub(crate) epochs: f64,
    pub(crate) wall_s: f64,
    pub(crate) elapsed_s: f64,
    pub(crate) train_loss: Option<f64>,
    pub(crate) test_loss: Option<f64>,
    pub(crate) best_test_loss: Option<f64>,
    /// Steps that had been made there.
    #[serde(default)]
    pub(crate) best_step: Option<u64>,
    pub(crate) ms_per_step: Option<f64>,
    pub(crate) peak_rss_bytes: Option<u64>,
    /// Steps that failed, the one that ended the run included.
    #[serde(default)]
    pub(crate) faults: u64,
    pub(crate) stop_reason: String,
    /// What the run said of itself, with the steps that did.
    #[serde(default)]
    pub(crate) notices: Vec<String>,
    pub(crate) version: String,
}

impl Summary {
    /// None where the text is none. Beside the text, at most 32 bytes for each of its bytes and 4 KiB.
    pub(super) fn from_json(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Whether the run came to an end of its own.
    pub(crate) fn ended(&self) -> bool {
        !self.stop_reason.starts_with("interrupted") && !self.stop_reason.starts_with(DIVERGED)
    }

    /// Whether the run diverged, or nothing can be said of its loss.
    pub(crate) fn diverged(&self) -> bool {
        self.stop_reason.starts_with(DIVERGED) || self.test_loss.is_none()
    }

    /// Test loss at the end; infinite where the run diverged.
    pub(crate) fn final_loss(&self) -> f64 {
        self.test_loss.filter(|_| !self.diverged()).unwrap_or(f64::INFINITY)
    }

    /// The lowest test loss and its step, where that is lower than at the end.
    pub(crate) fn better_before(&self) -> Option<(f64, u64)> {
        let (loss, step) = self.best_test_loss.zip(self.best_step)?;
        Some((loss, step)).filter(|_| self.test_loss.is_none_or(|end| loss < end))
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a summary is plain values")
    }
}

/// Most memory that the process has held so far, where the system tells.
pub(crate) fn peak_rss_bytes() -> Option<u64> {
    of_status("VmHWM:")
}

/// Memory that the process holds, where the system tells.
pub(crate) fn rss_bytes() -> Option<u64> {
    of_status("VmRSS:")
}

fn of_status(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
