//! Scale-invariant physics: a Gauss–Newton step in control space per sample, which the network then fits with Adam.
//!
//! With B = ∂y/∂z of a sample and h the [curvature](crate::objective::Curvature) of the loss, the sample's control
//! should become z* = z − ζ·B⁺g/h. The network's loss is the mean of ½|z − z*|² over the mini-batch, times the samples'
//! weights where they have some; its gradient at z is ∂θ = J_networkᵀ (ζ·B⁺g/h)/b, and Adam makes the step of it. The simulator's scaling is gone from it, the
//! network's is not.
//!
//! Costs one simulation with its blocks, one pseudo-inverse of m × q per sample, one sweep through the network.
//!
//! Source: Holl, Koltun, Thuerey, *Scale-invariant Learning by Physics Inversion*, NeurIPS 2022.

use std::io::Write;

use faer::Mat;
use serde::{Deserialize, Serialize};

use super::first_order::{check_gradient, save_both};
use super::retreat::{Attempt, Retreat};
use super::{
    Adam, AdamSettings, Context, Numbers, Optimizer, Rule, Setup, Sizes, State, StateError, StepReport,
    Stores, descend,
};
use crate::error::SettingError;
use crate::fault::StepError;
use crate::linear::DenseJacobian;
use crate::problem::{Problem, Samples};
use crate::spectral::{Filter, Options, Solver, update};

/// Settings of [`ScaleInvariant`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScaleInvariantSettings {
    /// Learning rate η of the network's Adam.
    pub learning_rate: f64,
    /// Part ζ of the Gauss–Newton step in control space.
    pub control_rate: f64,
    /// Truncation τ of the pseudo-inverse.
    pub truncation: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
}

impl Default for ScaleInvariantSettings {
    fn default() -> Self {
        let AdamSettings { learning_rate, beta1, beta2, epsilon } = AdamSettings::default();
        Self { learning_rate, control_rate: 1.0, truncation: 1e-6, beta1, beta2, epsilon }
    }
}

impl Setup for ScaleInvariantSettings {
    const NAME: &'static str = "sip";
    const ABOUT: &'static str = "a Gauss–Newton step of each sample's control, which adam then fits";
    const STREAMS: bool = true;
    // That of its own loss is not ∇L.
    const TELLS_GRADIENT: bool = false;

    fn build(self, _: &Context) -> Result<Box<dyn Optimizer>, SettingError> {
        Ok(Box::new(ScaleInvariant::new(self)?))
    }

    fn numbers(&self, sizes: &Sizes) -> Numbers {
        let p = sizes.parameters as f64;
        Numbers { working: 3.0 * p, saved: 2.0 * p, stores: Stores::Blocks, ..Numbers::default() }
    }
}

/// The per-sample physics step with the Adam that fits it.
#[derive(Debug, Clone)]
pub struct ScaleInvariant {
    adam: Adam,
    retreat: Retreat,
    control_rate: f64,
    filter: Filter,
    gradient: Vec<f64>,
}

impl ScaleInvariant {
    /// With these settings.
    ///
    /// # Errors
    /// As [`Adam::new`], and when ζ is not positive and finite, or τ outside \[0, 1).
    pub fn new(settings: ScaleInvariantSettings) -> Result<Self, SettingError> {
        let ScaleInvariantSettings { learning_rate, control_rate, truncation, beta1, beta2, epsilon } =
            settings;
        let adam = Adam::new(AdamSettings { learning_rate, beta1, beta2, epsilon })?;
        SettingError::check_positive("control_rate", control_rate)?;
        let retreat = Retreat::default();
        Ok(Self {
            adam,
            retreat,
            control_rate,
            filter: Filter::power(1.0, truncation)?,
            gradient: Vec::new(),
        })
    }
}

impl Attempt for ScaleInvariant {
    fn retreat(&mut self) -> &mut Retreat {
        &mut self.retreat
    }

    fn attempt(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.gradient.resize(theta.len(), 0.0);
        let weight = problem.weight();
        // Numerator and denominator of g/h have them alike.
        let weights = problem.samples().and_then(Samples::weights).map(<[f64]>::to_vec);
        let controlled = problem.controlled().ok_or(StepError::Unsupported {
            optimizer: ScaleInvariantSettings::NAME,
            needs: "the simulator's blocks and the network behind it",
        })?;
        let ((own, m), (place, b)) = (controlled.shape(), controlled.place());
        let at = controlled.blocks(theta)?;
        let (h, q) = (at.curvature, at.blocks.ncols() / m);
        let mut wanted = Mat::zeros(own, q);
        let mut step = vec![0.0; q];
        let options = Options { solver: Solver::Svd, ..Options::default() };
        let updated = (0..own).try_for_each(|s| {
            let mut block = DenseJacobian::new(Mat::from_fn(m, q, |c, j| at.blocks[(s, j * m + c)]));
            let g: Vec<f64> = at.gradient[s * m..][..m].iter().map(|g| g / h).collect();
            update(&mut block, &g, &self.filter, &options, &mut step)?;
            let weight = weights.as_ref().map_or(1.0, |weights| weights[place.start + s]);
            for (j, step) in step.iter().enumerate() {
                wanted[(s, j)] = weight * self.control_rate * step / b as f64;
            }
            Ok(())
        });
        let loss = at.loss / weight;
        controlled.agree(updated)?;
        controlled.network_gradient(theta, wanted.as_ref(), &mut self.gradient);
        check_gradient(&self.gradient)?;
        self.adam.direct(theta, &mut self.gradient);
        let learning_rate = self.adam.learning_rate();
        let update_norm = descend(theta, &self.gradient, learning_rate, &mut self.retreat)?;
        Ok(StepReport { loss, update_norm, learning_rate: Some(learning_rate), ..StepReport::default() })
    }
}

impl Optimizer for ScaleInvariant {
    fn step(&mut self, problem: &mut dyn Problem, theta: &mut [f64]) -> Result<StepReport, StepError> {
        self.step_or_take_back(problem, theta)
    }

    fn save(&self) -> State {
        State::written(&|out| self.save_to(out))
    }

    fn save_to(&self, out: &mut dyn Write) -> std::io::Result<()> {
        save_both(&self.adam, &self.retreat, out)
    }

    fn restore(&mut self, state: &State, parameters: usize) -> Result<(), StateError> {
        let (adam, retreat): (State, Retreat) = state.read()?;
        retreat.check(parameters)?;
        self.adam.restore(&adam, parameters)?;
        self.retreat = retreat;
        Ok(())
    }
}
