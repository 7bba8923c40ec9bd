//! φ(σ): what becomes of a singular value. Zero at or below τ·σ_max, and at 0.

use crate::error::SettingError;

/// The function applied above the cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// σ^−κ: gradient descent at κ = −1, half-inverse gradients at κ = ½, Gauss–Newton at κ = 1.
    Power {
        /// The exponent κ.
        kappa: f64,
    },
    /// σ·(σ² + λ)^−(1+κ)/2, which is σ^−κ far above √λ: σ/(σ² + λ), Levenberg–Marquardt, at κ = 1.
    Damped {
        /// The exponent κ.
        kappa: f64,
        /// The damping λ, in units of σ².
        lambda: f64,
    },
}

/// A shape φ with its relative truncation τ, checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Filter {
    shape: Shape,
    truncation: f64,
}

impl Filter {
    /// σ^−κ for σ > τ·σ_max.
    ///
    /// # Errors
    /// When κ is outside \[−1, 1\] or τ outside \[0, 1).
    ///
    /// # Example
    /// ```
    /// use halfinverse::spectral::Filter;
    /// let half = Filter::power(0.5, 0.25)?;
    /// assert_eq!(half.evaluate(4.0, 8.0), 0.5);
    /// assert_eq!(half.evaluate(2.0, 8.0), 0.0); // exactly at the cut: dropped
    /// assert!(Filter::power(1.5, 1e-6).is_err());
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn power(kappa: f64, truncation: f64) -> Result<Self, SettingError> {
        Self::checked(Shape::Power { kappa }, kappa, truncation)
    }

    /// σ/(σ² + λ) for σ > τ·σ_max.
    ///
    /// # Errors
    /// When λ is negative or not finite, or τ outside \[0, 1).
    pub fn damped(lambda: f64, truncation: f64) -> Result<Self, SettingError> {
        Self::damped_power(1.0, lambda, truncation)
    }

    /// σ·(σ² + λ)^−(1+κ)/2 for σ > τ·σ_max.
    ///
    /// # Errors
    /// When κ is outside \[−1, 1\], λ is negative or not finite, or τ outside \[0, 1).
    ///
    /// # Example
    /// ```
    /// use halfinverse::spectral::Filter;
    /// let half = Filter::damped_power(0.5, 12.0, 0.0)?;
    /// assert!((half.evaluate(2.0, 2.0) - 0.25).abs() < 1e-15); // 2·16^−¾
    /// # Ok::<(), halfinverse::SettingError>(())
    /// ```
    pub fn damped_power(kappa: f64, lambda: f64, truncation: f64) -> Result<Self, SettingError> {
        if !(lambda >= 0.0 && lambda.is_finite()) {
            return Err(SettingError::new("lambda", lambda, "0 or positive, and finite"));
        }
        Self::checked(Shape::Damped { kappa, lambda }, kappa, truncation)
    }

    fn checked(shape: Shape, kappa: f64, truncation: f64) -> Result<Self, SettingError> {
        if !(-1.0..=1.0).contains(&kappa) {
            return Err(SettingError::new("kappa", kappa, "from -1 to 1"));
        }
        if !(0.0..1.0).contains(&truncation) {
            return Err(SettingError::new("truncation", truncation, "at least 0 and below 1"));
        }
        Ok(Self { shape, truncation })
    }

    /// The function above the cut.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// τ, relative to σ_max.
    #[must_use]
    pub fn truncation(&self) -> f64 {
        self.truncation
    }

    /// Whether σ counts towards the rank.
    #[must_use]
    pub fn keeps(&self, sigma: f64, sigma_max: f64) -> bool {
        sigma > self.truncation * sigma_max && sigma > 0.0
    }

    /// φ(σ).
    #[must_use]
    pub fn evaluate(&self, sigma: f64, sigma_max: f64) -> f64 {
        if !self.keeps(sigma, sigma_max) {
            return 0.0;
        }
        match self.shape {
            Shape::Power { kappa } => sigma.powf(-kappa),
            // σ² may overflow or underflow where φ does not.
            Shape::Damped { kappa: 1.0, lambda } => 1.0 / (sigma + lambda / sigma),
            Shape::Damped { kappa, lambda } => {
                let power = 0.5 * (1.0 + kappa);
                sigma.powf(1.0 - power) * (sigma + lambda / sigma).powf(-power)
            }
        }
    }
}
