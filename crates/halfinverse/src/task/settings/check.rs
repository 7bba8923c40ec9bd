//! The checks that need no more than the settings.

use super::{Schedule, Settings};
use crate::error::SettingError;
use crate::training::MOST_THREADS;

/// Samples of the largest data set that a task accepts.
const MOST_SAMPLES: usize = 10_000_000;
/// The widest layer that a task accepts; what all layers need together is checked later.
const WIDEST: usize = 1 << 24;

impl Settings {
    /// Checks what needs no simulator or network; `scales` tells whether an optimizer's steps do.
    pub(in crate::task) fn check(
        &self,
        scales: impl Fn(&str) -> Result<bool, SettingError>,
    ) -> Result<(), SettingError> {
        for (key, count) in [("data.train", self.data.train), ("data.test", self.data.test)] {
            if count == 0 || count > MOST_SAMPLES {
                return Err(SettingError::new(key, count, format!("from 1 to {MOST_SAMPLES}")));
            }
        }
        self.check_batches()?;
        if self.training.shuffle && self.data.fresh {
            let expected = "false where data.fresh draws every mini-batch anew";
            return Err(SettingError::new("training.shuffle", true, expected));
        }
        if self.training.threads > MOST_THREADS {
            let expected = format!("at most {MOST_THREADS}");
            return Err(SettingError::new("training.threads", self.training.threads, expected));
        }
        if let Some(&width) = self.network.hidden.iter().find(|&&width| width == 0 || width > WIDEST) {
            let expected = format!("a list of widths from 1 to {WIDEST}");
            return Err(SettingError::new("network.hidden", width, expected));
        }
        let blow_up = self.training.blow_up;
        if !(blow_up == 0.0 || blow_up > 1.0 && blow_up.is_finite()) {
            let expected = "above 1 and finite, or 0 for no limit";
            return Err(SettingError::new("training.blow_up", blow_up, expected));
        }
        SettingError::check_positive("training.checkpoint_every", self.training.checkpoint_every)?;
        self.check_schedule(scales)?;
        self.check_stops()
    }

    fn check_batches(&self) -> Result<(), SettingError> {
        let train = self.data.train;
        for i in 0..=self.before.len() {
            let ([_, key], _, batch) = self.turn(i);
            if batch == 0 {
                return Err(SettingError::new(&key, batch, "at least 1"));
            }
            if batch > train {
                let expected = format!("at most the number of training samples, data.train = {train}");
                return Err(SettingError::new(&key, batch, expected));
            }
        }
        for (i, stage) in self.before.iter().enumerate() {
            if stage.steps == 0 {
                return Err(SettingError::new(&format!("before.{i}.steps"), stage.steps, "at least 1"));
            }
        }
        Ok(())
    }

    /// The end must be known in steps, since the clock decides nothing but the stop.
    fn check_schedule(
        &self,
        scales: impl Fn(&str) -> Result<bool, SettingError>,
    ) -> Result<(), SettingError> {
        if self.training.schedule == Schedule::Constant {
            return Ok(());
        }
        let refuse = |expected: String| Err(SettingError::new("training.schedule", "cosine", expected));
        if self.stop.steps.is_none() && self.stop.epochs.is_none() {
            return refuse("constant where a run has no number of steps or epochs to end after".to_owned());
        }
        for i in 0..=self.before.len() {
            let name = &self.turn(i).1.name;
            if !scales(name)? {
                return refuse(format!("constant with {name}, which chooses its steps' lengths"));
            }
        }
        Ok(())
    }

    fn check_stops(&self) -> Result<(), SettingError> {
        self.stop.check().map_err(|error| error.within("stop"))?;
        if self.stop.is_endless() {
            let expected = "at least one of steps, epochs, time, target_loss, patience, relative_loss, step and gradient, or the run would never end";
            return Err(SettingError::new("stop", "empty", expected));
        }
        Ok(())
    }
}
