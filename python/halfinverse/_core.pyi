"""The extension module: what the package documents and checks is passed on to it."""

from collections.abc import Callable
from os import PathLike
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

__version__: str

def optimizers() -> dict[str, dict[str, Any]]: ...
def update(
    jacobian: Floats,
    gradient: Floats,
    kappa: float,
    truncation: float,
    damping: float,
    solver: str,
    threads: int,
) -> tuple[Floats, dict[str, Any]]: ...
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
        jvp: Callable[[Floats], Any],
        vjp: Callable[[Floats], Any],
        gradient: Floats,
        parameters: int,
        vectors: int,
    ) -> KrylovSpace: ...
    @property
    def basis(self) -> Floats: ...
    @property
    def gradient_norm(self) -> float: ...
    def step(self, kappa: float, damping: float, truncation: float) -> tuple[Floats, dict[str, Any]]: ...

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
        judges: Floats,
        batch: int,
        samples: int,
        sweeps: int = 1,
        counted: bool = False,
        threads: int = 1,
    ) -> Stepper: ...
    def step(self, theta: Floats, rows: Floats) -> tuple[Floats, dict[str, Any]]: ...
    def save(self) -> bytes: ...
    def restore(self, state: bytes) -> None: ...

@final
class Data:
    def __new__(cls, inputs: Floats, initial: Floats, targets: Floats, weights: list[float] | None) -> Data: ...
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
    def check(self, controls: Floats, initial: Floats, seed: int) -> list[tuple[str, float]]: ...

@final
class Model:
    def __new__(
        cls, text: str, simulator: Simulator | None = None, data: tuple[Data, Data] | None = None
    ) -> Model: ...
    @property
    def tensors(self) -> list[tuple[str, list[int], int]]: ...
    @property
    def config(self) -> str: ...
    def data(self) -> list[list[Floats]]: ...
    def read(self, path: str | PathLike[str]) -> Floats: ...
    def initial_parameters(self) -> Floats: ...
    def predict(self, theta: Floats, inputs: Floats) -> Floats: ...
    def outcome(self, theta: Floats, inputs: Floats, initial: Floats) -> Floats: ...
    def train(
        self, poll: Callable[[float, str], bool], theta: Floats | None = None
    ) -> tuple[Floats, Floats, float, str, list[tuple[int, float, float | None, float]]]: ...
