//! What expressions are made of: functions of one and two numbers, and their names.

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::simulator) enum Unary {
    Neg,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Exp,
    Ln,
    Log10,
    Sqrt,
    Abs,
    Sign,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::simulator) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    Atan2,
    /// 1 where a ≤ b, else 0: which side of a minimum or maximum the derivative belongs to.
    AtMost,
}

impl Unary {
    #[inline(always)]
    pub(in crate::simulator) fn of(self, a: f64) -> f64 {
        match self {
            Self::Neg => -a,
            Self::Sin => a.sin(),
            Self::Cos => a.cos(),
            Self::Tan => a.tan(),
            Self::Asin => a.asin(),
            Self::Acos => a.acos(),
            Self::Atan => a.atan(),
            Self::Sinh => a.sinh(),
            Self::Cosh => a.cosh(),
            Self::Tanh => a.tanh(),
            Self::Exp => a.exp(),
            Self::Ln => a.ln(),
            Self::Log10 => a.log10(),
            Self::Sqrt => a.sqrt(),
            Self::Abs => a.abs(),
            // 0 at 0, where `signum` is 1: the derivative of |a| there is between those of the two sides.
            Self::Sign if a == 0.0 => 0.0,
            Self::Sign => a.signum(),
        }
    }
}

impl Binary {
    #[inline(always)]
    pub(in crate::simulator) fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            // The standard library's minimum drops a NaN, which would hide a fault.
            Self::Min if a.is_nan() || a <= b => a,
            Self::Max if a.is_nan() || a >= b => a,
            Self::Min | Self::Max => b,
            Self::Atan2 => a.atan2(b),
            Self::AtMost => f64::from(u8::from(a <= b)),
        }
    }
}

/// aⁿ by multiplications, so that every machine gets the same bits.
#[inline(always)]
pub(in crate::simulator) fn power(a: f64, n: i32) -> f64 {
    let (mut base, mut left, mut product) = (a, n.unsigned_abs(), 1.0);
    while left > 0 {
        if left & 1 == 1 {
            product *= base;
        }
        base *= base;
        left >>= 1;
    }
    if n < 0 { 1.0 / product } else { product }
}

/// A function that expressions can call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Callable {
    One(Unary),
    Two(Binary),
}

impl Callable {
    pub(super) fn arguments(self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        FUNCTIONS.iter().find(|(known, _)| *known == name).map(|&(_, callable)| callable)
    }
}

pub(super) const FUNCTIONS: [(&str, Callable); 18] = [
    ("sin", Callable::One(Unary::Sin)),
    ("cos", Callable::One(Unary::Cos)),
    ("tan", Callable::One(Unary::Tan)),
    ("asin", Callable::One(Unary::Asin)),
    ("acos", Callable::One(Unary::Acos)),
    ("atan", Callable::One(Unary::Atan)),
    ("sinh", Callable::One(Unary::Sinh)),
    ("cosh", Callable::One(Unary::Cosh)),
    ("tanh", Callable::One(Unary::Tanh)),
    ("exp", Callable::One(Unary::Exp)),
    ("ln", Callable::One(Unary::Ln)),
    ("log10", Callable::One(Unary::Log10)),
    ("sqrt", Callable::One(Unary::Sqrt)),
    ("abs", Callable::One(Unary::Abs)),
    ("sign", Callable::One(Unary::Sign)),
    ("min", Callable::Two(Binary::Min)),
    ("max", Callable::Two(Binary::Max)),
    ("atan2", Callable::Two(Binary::Atan2)),
];
