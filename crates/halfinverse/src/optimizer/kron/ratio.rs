//! A ratio whose numerator and denominator are averaged apart.

use serde::{Deserialize, Serialize};

/// A ratio of two running means.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Ratio {
    over: f64,
    under: f64,
}

impl Ratio {
    /// A further value, the means so far kept by a part.
    pub(super) fn add(&mut self, over: f64, under: f64, keep: f64) {
        self.over = keep * self.over + (1.0 - keep) * over;
        self.under = keep * self.under + (1.0 - keep) * under;
    }

    /// 0 where nothing was added.
    pub(super) fn value(self) -> f64 {
        if self.under == 0.0 { 0.0 } else { self.over / self.under }
    }
}
