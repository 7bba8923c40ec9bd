//! Initial weights; biases start at zero, except by the last of these.
//!
//! | name | variance of a weight | source |
//! |---|---|---|
//! | Glorot | 2 / (in + out) | Glorot, Bengio, AISTATS 2010 |
//! | He | 2 / in | He, Zhang, Ren, Sun, ICCV 2015 |
//! | LeCun | 1 / in | LeCun, Bottou, Orr, Müller, *Efficient BackProp*, 1998 |
//! | fan-in | 1 / (3·in), biases too | the default of PyTorch's linear layers |
//!
//! A uniform draw spans ±√(3·variance); a normal draw is not truncated.

use rand::{Rng, RngExt};
use rand_distr::StandardNormal;
use serde::{Deserialize, Serialize};

/// How the weights of a layer are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the table above says what each is")]
pub enum Init {
    GlorotUniform,
    GlorotNormal,
    HeUniform,
    HeNormal,
    LecunUniform,
    LecunNormal,
    FanInUniform,
}

impl Init {
    /// Every initialisation, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::GlorotUniform,
        Self::GlorotNormal,
        Self::HeUniform,
        Self::HeNormal,
        Self::LecunUniform,
        Self::LecunNormal,
        Self::FanInUniform,
    ];

    /// Variance of a weight of a layer with `inputs` and `outputs`.
    #[must_use]
    pub fn variance(self, inputs: usize, outputs: usize) -> f64 {
        match self {
            Self::GlorotUniform | Self::GlorotNormal => 2.0 / (inputs + outputs) as f64,
            Self::HeUniform | Self::HeNormal => 2.0 / inputs as f64,
            Self::LecunUniform | Self::LecunNormal => 1.0 / inputs as f64,
            Self::FanInUniform => 1.0 / (3 * inputs) as f64,
        }
    }

    /// Whether biases are drawn like weights.
    #[must_use]
    pub fn draws_biases(self) -> bool {
        self == Self::FanInUniform
    }

    /// Draws the first `weights` parameters of a layer with so many inputs and outputs, and the biases behind them like
    /// these or as 0.
    pub(crate) fn fill_layer(
        self,
        (inputs, outputs): (usize, usize),
        weights: usize,
        theta: &mut [f64],
        rng: &mut dyn Rng,
    ) {
        let drawn = if self.draws_biases() { theta.len() } else { weights };
        let (drawn, rest) = theta.split_at_mut(drawn);
        self.fill(inputs, outputs, drawn, rng);
        rest.fill(0.0);
    }

    /// Draws `weights`.
    fn fill(self, inputs: usize, outputs: usize, weights: &mut [f64], rng: &mut dyn Rng) {
        let variance = self.variance(inputs, outputs);
        match self {
            Self::GlorotUniform | Self::HeUniform | Self::LecunUniform | Self::FanInUniform => {
                let limit = (3.0 * variance).sqrt();
                for weight in weights {
                    *weight = limit * (2.0 * rng.random::<f64>() - 1.0);
                }
            }
            Self::GlorotNormal | Self::HeNormal | Self::LecunNormal => {
                let deviation = variance.sqrt();
                for weight in weights {
                    *weight = deviation * rng.sample::<f64, _>(StandardNormal);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn drawn_variance_is_the_stated_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for init in Init::ALL {
            let mut weights = vec![0.0; 40_000];
            init.fill(30, 50, &mut weights, &mut rng);
            let mean = weights.iter().sum::<f64>() / weights.len() as f64;
            let variance = weights.iter().map(|w| w * w).sum::<f64>() / weights.len() as f64;
            let stated = init.variance(30, 50);
            assert!(mean.abs() < 4.0 * (stated / 40_000.0).sqrt(), "{init:?}: mean {mean}");
            assert!((variance / stated - 1.0).abs() < 0.05, "{init:?}: {variance} against {stated}");
        }
    }
}
