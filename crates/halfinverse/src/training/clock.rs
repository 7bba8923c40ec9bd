//! What a run has taken of time.

use std::time::Duration;

/// Time spent so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Clock {
    /// Spent in steps.
    pub(super) wall: Duration,
    /// Steps that `ms_per_step` leaves out, and the time spent in them.
    warm_up: u64,
    warm_up_wall: Duration,
    /// Since the run began, up to the checkpoint that it was resumed from; none for a run that has not begun.
    pub(super) elapsed: Option<Duration>,
}

/// Steps that `ms_per_step` leaves out, while caches and buffers fill.
const WARM_UP: u64 = 3;

impl Clock {
    /// Of a run that is resumed at this step.
    pub(super) fn resumed(step: u64, wall: Duration, elapsed: Duration) -> Self {
        Self { wall, warm_up: step, warm_up_wall: wall, elapsed: Some(elapsed) }
    }

    /// After a step.
    pub(super) fn warm_up_to(&mut self, step: u64) {
        if step <= WARM_UP {
            (self.warm_up, self.warm_up_wall) = (step, self.wall);
        }
    }

    /// Mean milliseconds of a step, the first few left out where there are more.
    pub(super) fn ms_per_step(&self, step: u64) -> Option<f64> {
        let Self { wall, warm_up, warm_up_wall, .. } = *self;
        let (steps, wall) =
            if step > warm_up { (step - warm_up, wall.saturating_sub(warm_up_wall)) } else { (step, wall) };
        (steps > 0).then(|| 1e3 * wall.as_secs_f64() / steps as f64)
    }
}
