//! Derivatives of a right-hand side along a direction, by dual numbers.

use std::cell::RefCell;

use halfinverse::simulator::RightHandSide;

use crate::dual::Dual;

/// A right-hand side, with room for its numbers.
pub(crate) struct Along<'a, R> {
    rhs: &'a R,
    room: RefCell<[Vec<Dual>; 3]>,
}

impl<'a, R: RightHandSide> Along<'a, R> {
    pub(crate) fn new(rhs: &'a R) -> Self {
        Self { rhs, room: RefCell::default() }
    }

    /// The derivative of x′ (n) where the state (n) moves along the second vector, the control (p) along its own.
    pub(crate) fn rhs(&self, state: [&[f64]; 2], control: [&[f64]; 2], t: f64, out: &mut [f64]) {
        self.call(state, control, out, |state, control, out| self.rhs.rhs(state, control, t.into(), out));
    }

    /// The same of what is observed (m).
    pub(crate) fn observe(&self, state: [&[f64]; 2], control: [&[f64]; 2], t: f64, out: &mut [f64]) {
        self.call(state, control, out, |state, control, out| self.rhs.observe(state, control, t.into(), out));
    }

    fn call(
        &self,
        state: [&[f64]; 2],
        control: [&[f64]; 2],
        out: &mut [f64],
        function: impl FnOnce(&[Dual], &[Dual], &mut [Dual]),
    ) {
        let [x, u, y] = &mut *self.room.borrow_mut();
        for (numbers, [values, slopes]) in [(&mut *x, state), (&mut *u, control)] {
            numbers.clear();
            numbers.extend(values.iter().zip(slopes).map(|(&value, &slope)| Dual::new(value, slope)));
        }
        // What an author forgets to write is NaN, and shows.
        y.clear();
        y.resize(out.len(), Dual::new(f64::NAN, f64::NAN));
        function(x, u, y);
        out.iter_mut().zip(y).for_each(|(out, y)| *out = y.slope());
    }
}
