"""The extension module: what the package documents and checks is passed on to it."""

from collections.abc import Callable
from os import PathLike
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

_Floats: TypeAlias = NDArray[np.float64]

__all__ = ["Data", "KrylovSpace", "Model", "Simulator", "Stepper", "__version__", "optimizers", "run", "update"]

__version__: str

def optimizers() -> dict[str, dict[str, Any]]: ...
def update(
    jacobian: _Floats,
    gradient: _Floats,
    kappa: float,
    truncation: float,
    damping: float,
    solver: str,
    threads: int,
) -> tuple[_Floats, dict[str, Any]]: ...
def run(
    line: list[str],
    poll: Callable[[float, str], bool],
    simulator: Simulator | None = None,
    data: tuple[Data, Data] | None = None,
) -> tuple[int, str | None, bool]: ...

@final
class KrylovSpace:
    def __new__(
        cls,
        jvp: Callable[[_Floats], Any],
        vjp: Callable[[_Floats], Any],
        gradient: _Floats,
        parameters: int,
        vectors: int,
    ) -> KrylovSpace: ...
    @property
    def basis(self) -> _Floats: ...
    @property
    def gradient_norm(self) -> float: ...
    def step(self, kappa: float, damping: float, truncation: float) -> tuple[_Floats, dict[str, Any]]: ...

@final
class Stepper:
    def __new__(
        cls,
        problem: Any,
        optimizer: str,
        settings: dict[str, Any],
        *,
        parameters: int,
        outcomes: int,
        judges: _Floats,
        batch: int,
        samples: int,
        sweeps: int = 1,
        counted: bool = False,
        threads: int = 1,
    ) -> Stepper: ...
    def step(self, theta: _Floats, rows: _Floats) -> tuple[_Floats, dict[str, Any]]: ...
    def save(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...

@final
class Data:
    def __new__(cls, inputs: _Floats, initial: _Floats, targets: _Floats, weights: list[float] | None) -> Data: ...
    def __len__(self) -> int: ...

@final
class Simulator:
    def __new__(
        cls,
        forward: Callable[..., Any],
        *,
        controls: int,
        outcomes: int,
        initials: int,
        jvp: Callable[..., Any] | None = None,
        vjp: Callable[..., Any] | None = None,
        block: Callable[..., Any] | None = None,
    ) -> Simulator: ...
    def check(self, controls: _Floats, initial: _Floats, seed: int) -> list[tuple[str, float]]: ...

@final
class Model:
    def __new__(cls, text: str, simulator: Simulator | None = None, data: tuple[Data, Data] | None = None) -> Model: ...
    @property
    def tensors(self) -> list[tuple[str, list[int], int]]: ...
    @property
    def config(self) -> str: ...
    def data(self) -> list[list[_Floats]]: ...
    def read(self, path: str | PathLike[str]) -> _Floats: ...
    def initial_parameters(self) -> _Floats: ...
    def predict(self, theta: _Floats, inputs: _Floats) -> _Floats: ...
    def outcome(self, theta: _Floats, inputs: _Floats, initial: _Floats) -> _Floats: ...
    def train(
        self, poll: Callable[[float, str], bool], theta: _Floats | None = None
    ) -> tuple[_Floats, _Floats, float, str, list[tuple[int, float, float | None, float]]]: ...
