"""The spectral core: functions of the singular values of a Jacobian, applied to a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from . import _core
from ._arrays import Floats, matrix, number, vector, whole
from .errors import SettingError, ShapeError


def update(
    jacobian: Any,
    gradient: Any,
    kappa: float = 0.5,
    truncation: float = 1e-6,
    damping: float = 0.0,
    solver: str = "auto",
    *,
    threads: int = 1,
) -> tuple[Floats, dict[str, Any]]:
    r"""The update Δ = V φ(Σ) Uᵀ g for J = U Σ Vᵀ, to be subtracted from the parameters, and a report.

    φ(σ) = σ·(σ² + λ)^(−(1+κ)/2) for σ above the cut, and 0 at or below it: without damping λ this is σ^−κ.

    ===== ====================================
    κ     method
    ===== ====================================
    −1    gradient descent
    0     orthogonalised gradient
    ½     half-inverse gradients
    1     Gauss–Newton; with λ Levenberg–Marquardt
    ===== ====================================

    Parameters
    ----------
    jacobian : array (n, P)
        J = ∂y/∂θ over a mini-batch, rows sample-major. Anything with ``__array__`` or ``__dlpack__``. A float64 array
        whose rows or columns are contiguous is used where it lies; any other is copied.
    gradient : array of n numbers, of any shape
        g = ∂L/∂y in the order of J's rows.
    kappa : float
        κ, from −1 to 1.
    truncation : float
        τ: singular values at or below τ·σ_max are dropped.
    damping : float
        λ, in units of σ².
    solver : str
        ``"svd"``, ``"gram"`` (eigenvalues of the smaller Gram matrix, or the SVD where that is not exact enough),
        ``"krylov:K"`` (K products with J and Jᵀ) or ``"auto"``.
    threads : int
        Threads of the linear algebra.

    Returns
    -------
    update : array (P,)
    report : dict
        ``solver`` that was used, ``rank``, ``sigma_max``, ``sigma_min``, ``condition`` of what was kept,
        ``krylov_steps``, ``error_estimate`` relative to the update's length, ``fallbacks`` in words.

    Raises
    ------
    SettingError
        For a setting that is out of range.
    ShapeError
        When g does not fit J, or J is empty.
    StepError
        When J, g or the update is not finite, or nothing converges.

    Notes
    -----
    O(n²P) operations with ``gram`` for n ≤ P, memory n². Other Python threads run meanwhile.

    Schnell, Holl, Thuerey, *Half-Inverse Gradients for Physical Deep Learning*, ICLR 2022; Arrigo, Benzi, Fenu,
    *Computation of generalized matrix functions*, SIAM J. Matrix Anal. Appl. 37(3), 2016.

    Examples
    --------
    >>> import halfinverse
    >>> delta, report = halfinverse.update([[4.0, 0.0], [0.0, 0.25]], [1.0, 1.0])
    >>> delta.round(12).tolist(), report["rank"]
    ([0.5, 2.0], 2)
    """
    j, g = matrix("the Jacobian", jacobian), vector("the gradient", gradient)
    if j.shape[0] != g.size:
        expected = f"expected {j.shape[0]} numbers, one for each row of the Jacobian"
        raise ShapeError(f"the gradient: {expected}, found {g.size}")
    numbers = number("kappa", kappa), number("truncation", truncation), number("damping", damping)
    return _core.update(j, g, *numbers, text("solver", solver), whole("threads", threads, 1, 1024))


def text(key: str, value: Any) -> str:
    """A setting that must be a string."""
    if not isinstance(value, str):
        raise SettingError(f"`{key}` is {value!r}, but must be a string")
    return value


class KrylovSpace:
    r"""A Krylov space of J that is known by its products alone, and any number of steps from it.

    Golub–Kahan bidiagonalization, started from the gradient Jᵀg. The factorization does not depend on the filter: every
    (κ, λ, length) is one more combination of its vectors, and costs no further product.

    Parameters
    ----------
    jvp : callable
        v (P) ↦ J v, n numbers in any shape.
    vjp : callable
        u (n) ↦ Jᵀu, P numbers in any shape.
    gradient : array of n numbers
        g = ∂L/∂y.
    vectors : int
        k, the dimension: k products with J and k + 1 with Jᵀ. 1 is normalised gradient descent, the rank of J is
        exact. Smaller where the products leave nothing new.
    parameters : int, optional
        P. Without it ``vjp`` is called once more to tell.

    Attributes
    ----------
    basis : array (k, P)
        The orthonormal vectors.
    gradient_norm : float
        |Jᵀg|.

    Raises
    ------
    ShapeError
        When a function returns another number of values than it must.
    StepError
        When a product is not finite.

    Notes
    -----
    Memory k·(n + P). An exception of ``jvp`` or ``vjp`` comes through as it is.

    Golub, Kahan, SIAM J. Numer. Anal. 2, 1965.

    Examples
    --------
    >>> import numpy as np, halfinverse
    >>> J = np.diag([4.0, 1.0, 0.25])
    >>> space = halfinverse.KrylovSpace(lambda v: J @ v, lambda u: J.T @ u, np.ones(3), vectors=3)
    >>> delta, report = space.step(kappa=0.5)
    >>> delta.round(10).tolist(), report["rank"]
    ([0.5, 1.0, 2.0], 3)
    """

    def __init__(
        self,
        jvp: Callable[[Floats], Any],
        vjp: Callable[[Floats], Any],
        gradient: Any,
        vectors: int = 32,
        *,
        parameters: int | None = None,
    ) -> None:
        for name, function in (("jvp", jvp), ("vjp", vjp)):
            if not callable(function):
                raise TypeError(f"{name} is of type {type(function).__name__}, but must be a function")
        g = vector("the gradient", gradient)
        k = whole("vectors", vectors, 1, 1 << 20)
        if g.size == 0:
            raise ShapeError("the gradient is empty")
        if parameters is None:
            parameters = vector("vjp", vjp(g)).size
        p = whole("parameters", parameters, 1, 1 << 40)
        self._core = _core.KrylovSpace(jvp, vjp, g, p, k)

    @property
    def basis(self) -> Floats:
        return self._core.basis

    @property
    def gradient_norm(self) -> float:
        return self._core.gradient_norm

    def step(
        self, kappa: float = 0.5, damping: float = 0.0, length: float = 1.0, *, truncation: float = 1e-6
    ) -> tuple[Floats, dict[str, Any]]:
        """One update, times ``length``, to be subtracted from the parameters, and its report.

        φ and the settings are those of :func:`update`. The report has ``rank``, ``sigma_max`` and ``sigma_min`` of the
        space, ``slope`` gᵀJΔ and ``curvature`` |JΔ|² of the update as it is returned: for a loss of curvature h the
        quadratic model foretells a gain of slope − h/2·curvature.
        """
        updates, reports = self.steps([(kappa, damping, length)], truncation=truncation)
        return updates[0], reports[0]

    def steps(
        self, settings: Iterable[tuple[float, float, float]], *, truncation: float = 1e-6
    ) -> tuple[Floats, list[dict[str, Any]]]:
        """Updates (count, P) for as many (κ, λ, length), and their reports: one matrix product for all of them."""
        coefficients, reports = [], []
        for setting in settings:
            try:
                kappa, damping, length = setting
            except (TypeError, ValueError):
                raise SettingError(f"a step is {setting!r}, but must be a tuple (kappa, damping, length)") from None
            length = number("length", length)
            numbers = number("kappa", kappa), number("damping", damping), number("truncation", truncation)
            c, report = self._core.step(*numbers)
            report["slope"] *= length
            report["curvature"] *= length**2
            coefficients.append(length * c)
            reports.append(report)
        if not reports:
            return np.zeros((0, self.basis.shape[1])), reports
        return np.stack(coefficients) @ self.basis, reports
