//! A few samples side by side: what the simulators' kernels compute with.
//!
//! Plain arrays, so that the compiler turns each operation into vector instructions of whatever width it is compiled
//! for; no operation is fused, so every width gives the same bits.

/// Samples per vector of the kernels.
pub(crate) const WIDTH: usize = 8;
/// One number for each of them.
pub(super) type Lanes = [f64; WIDTH];

/// The samples from `start` on, with zeros past the last.
#[inline(always)]
pub(super) fn load<const W: usize>(column: &[f64], start: usize) -> [f64; W] {
    let rest = &column[start..];
    if let Some(lanes) = rest.first_chunk() {
        return *lanes;
    }
    let mut lanes = [0.0; W];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}

#[inline(always)]
pub(super) fn store<const W: usize>(lanes: [f64; W], column: &mut [f64], start: usize) {
    let rest = &mut column[start..];
    let count = rest.len().min(W);
    if let Some(all) = rest.first_chunk_mut() {
        *all = lanes;
    } else {
        rest[..count].copy_from_slice(&lanes[..count]);
    }
}

/// s·a.
#[inline(always)]
pub(super) fn scale(s: f64, a: Lanes) -> Lanes {
    a.map(|a| s * a)
}

/// a + s·b.
#[inline(always)]
pub(super) fn combine(a: Lanes, s: f64, b: Lanes) -> Lanes {
    let mut out = a;
    for l in 0..WIDTH {
        out[l] += s * b[l];
    }
    out
}

/// a ← a + s·b, where there are too many lanes to be moved about.
#[inline(always)]
pub(super) fn add_scaled<const W: usize>(a: &mut [f64; W], s: f64, b: &[f64; W]) {
    for l in 0..W {
        a[l] += s * b[l];
    }
}

/// One complex number for each sample.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Complex {
    pub(super) re: Lanes,
    pub(super) im: Lanes,
}

impl Complex {
    /// a·b.
    #[inline(always)]
    pub(super) fn times(self, other: Self) -> Self {
        let mut out = Self::default();
        for l in 0..WIDTH {
            out.re[l] = self.re[l] * other.re[l] - self.im[l] * other.im[l];
            out.im[l] = self.re[l] * other.im[l] + self.im[l] * other.re[l];
        }
        out
    }

    /// a + i·s·b for real s.
    #[inline(always)]
    pub(super) fn plus_imaginary(self, s: f64, other: Self) -> Self {
        Self { re: combine(self.re, -s, other.im), im: combine(self.im, s, other.re) }
    }

    /// 2a − b.
    #[inline(always)]
    pub(super) fn doubled_minus(self, other: Self) -> Self {
        Self {
            re: combine(scale(2.0, self.re), -1.0, other.re),
            im: combine(scale(2.0, self.im), -1.0, other.im),
        }
    }

    /// 1/a.
    #[inline(always)]
    pub(super) fn inverse(self) -> Self {
        let mut out = Self::default();
        for l in 0..WIDTH {
            let size = 1.0 / (self.re[l] * self.re[l] + self.im[l] * self.im[l]);
            out.re[l] = self.re[l] * size;
            out.im[l] = -self.im[l] * size;
        }
        out
    }
}
