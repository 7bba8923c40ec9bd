//! The checks that need no more than the settings.

use super::{Schedule, Settings, StopSettings};
use crate::error::SettingError;

/// Samples of the largest data set that a task accepts.
const MOST_SAMPLES: usize = 10_000_000;

impl Settings {
    /// Checks what needs no simulator or network.
    pub(in crate::task) fn check(&self) -> Result<(), SettingError> {
        for (key, count) in [("data.train", self.data.train), ("data.test", self.data.test)] {
            if count == 0 || count > MOST_SAMPLES {
                return Err(SettingError::new(key, count, format!("from 1 to {MOST_SAMPLES}")));
            }
        }
        let train = self.data.train;
        let stages = self.before.iter().map(|stage| ("before.batch", stage.batch));
        for (key, batch) in stages.chain([("training.batch", self.training.batch)]) {
            if batch == 0 {
                return Err(SettingError::new(key, batch, "at least 1"));
            }
            if batch > train {
                let expected = format!("at most the number of training samples, data.train = {train}");
                return Err(SettingError::new(key, batch, expected));
            }
        }
        if let Some(stage) = self.before.iter().find(|stage| stage.steps == 0) {
            return Err(SettingError::new("before.steps", stage.steps, "at least 1"));
        }
        if self.training.shuffle && self.data.fresh {
            return Err(SettingError::new(
                "training.shuffle",
                true,
                "false where data.fresh draws every mini-batch anew",
            ));
        }
        if self.training.threads > 1024 {
            return Err(SettingError::new("training.threads", self.training.threads, "at most 1024"));
        }
        let most = 1usize << 24;
        if let Some(&width) = self.network.hidden.iter().find(|&&width| width == 0 || width > most) {
            return Err(SettingError::new(
                "network.hidden",
                width,
                format!("a list of widths from 1 to {most}"),
            ));
        }
        let blow_up = self.training.blow_up;
        if !(blow_up == 0.0 || blow_up > 1.0 && blow_up.is_finite()) {
            return Err(SettingError::new(
                "training.blow_up",
                blow_up,
                "above 1 and finite, or 0 for no limit",
            ));
        }
        let every = self.training.checkpoint_every;
        if !(every > 0.0 && every.is_finite()) {
            return Err(SettingError::new("training.checkpoint_every", every, "positive and finite"));
        }
        self.check_schedule()?;
        self.check_stops()
    }

    /// The end must be known in steps, since the clock decides nothing but the stop.
    fn check_schedule(&self) -> Result<(), SettingError> {
        if self.training.schedule == Schedule::Constant {
            return Ok(());
        }
        let refuse = |expected: String| Err(SettingError::new("training.schedule", "cosine", expected));
        if self.stop.steps.is_none() && self.stop.epochs.is_none() {
            return refuse("constant where a run has no number of steps or epochs to end after".to_owned());
        }
        let optimizers = self.before.iter().map(|stage| &stage.optimizer).chain([&self.optimizer]);
        match optimizers.into_iter().find(|optimizer| !optimizer.scales()) {
            Some(own) => refuse(format!("constant with {}, which chooses its steps' lengths", own.name())),
            None => Ok(()),
        }
    }

    fn check_stops(&self) -> Result<(), SettingError> {
        let stop = &self.stop;
        for (key, count) in [("stop.steps", stop.steps), ("stop.epochs", stop.epochs)] {
            if count == Some(0) {
                return Err(SettingError::new(key, 0, "at least 1"));
            }
        }
        for (key, value) in [("stop.time", stop.time), ("stop.target_loss", stop.target_loss)] {
            if let Some(value) = value
                && !(value > 0.0 && value.is_finite())
            {
                return Err(SettingError::new(key, value, "positive and finite"));
            }
        }
        if *stop == StopSettings::default() {
            let expected = "at least one of steps, epochs, time and target_loss, or the run would never end";
            return Err(SettingError::new("stop", "empty", expected));
        }
        Ok(())
    }
}
