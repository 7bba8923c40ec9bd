"""Kronecker factors of `nn.Linear`, `nn.Conv1d` and `nn.Conv2d`: inputs and cotangents of their calls, by hooks.

A layer's gradient is Σ δ aᵀ over rows: a is the layer's input, of a convolution a patch of it, and δ the cotangent of
what the layer puts out. A model has factors where all trained parameters belong to such layers and each is called once.
That is tried on a mini-batch: Σ δ aᵀ is compared with the gradient that PyTorch finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn import functional

# Numbers of patches that are made at a time: 32 MiB.
MOST_PATCHES = 1 << 22
# |εv| relative to 1 + |θ| in a difference quotient: the root of the round-off, and a margin for what a simulator adds.
STEP = {torch.float64: 1e-6, torch.float32: 3e-3}
# How far the gradient may differ from what the rows make, in roots of the round-off: what is wrong differs wholly.
RIGHT = 10.0


class Layers:
    """The layers of a model, and their calls while they are watched."""

    def __init__(self, module: torch.nn.Module) -> None:
        """Of all trained parameters; raises ValueError where some belong to no such layer."""
        offset, self.modules, self.starts, self.biases = 0, [], [], []
        places = {}
        for parameter in module.parameters():
            if parameter.requires_grad:
                places[id(parameter)] = offset
                offset += parameter.numel()
        for layer in module.modules():
            own = [p for p in layer.parameters(recurse=False) if p.requires_grad]
            if not own:
                continue
            known = isinstance(layer, (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d))
            if not known or getattr(layer, "groups", 1) != 1 or own[0] is not layer.weight:
                raise ValueError("a parameter has no factors")
            start = places.pop(id(own[0]))
            if len(own) == 2 and places.pop(id(own[1])) != start + own[0].numel():
                raise ValueError("a bias does not follow its weights")
            self.modules.append(layer)
            self.starts.append(start)
            self.biases.append(len(own) == 2)
        self.calls: dict[int, list[tuple[torch.Tensor, torch.Tensor]]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Layers:
        """Watches calls."""
        self.calls = {}
        self._handles = [
            layer.register_forward_hook(lambda _, given, made, i=i: self._note(i, given, made))
            for i, layer in enumerate(self.modules)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, i: int, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> torch.Tensor:
        self.calls.setdefault(i, []).append((given[0].detach(), made))
        # What is changed in place afterwards is another tensor.
        return made.clone()

    def outputs(self) -> list[torch.Tensor]:
        """What each layer put out; raises ValueError where one was not called once."""
        if len(self.calls) != len(self.modules) or any(len(calls) != 1 for calls in self.calls.values()):
            raise ValueError("a layer is not called once")
        return [self.calls[i][0][1] for i in range(len(self.modules))]

    def rows(self, cotangents: tuple[torch.Tensor, ...]) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(layer, δ, a), last to first, of the cotangents of all outputs."""
        for i in reversed(range(len(self.modules))):
            layer, given, cotangent = self.modules[i], self.calls[i][0][0], cotangents[i]
            if isinstance(layer, torch.nn.Linear):
                yield i, cotangent.reshape(-1, layer.out_features), given.reshape(-1, layer.in_features)
                continue
            cotangent = cotangent.flatten(2)
            numbers = max(cotangent.shape[2] * layer.weight[0].numel(), 1)
            several = max(MOST_PATCHES // numbers, 1)
            for delta, x in zip(cotangent.split(several), given.split(several), strict=True):
                yield i, delta.transpose(1, 2).flatten(0, 1), _patches(layer, x).transpose(1, 2).flatten(0, 1)

    def factors(self, samples: int) -> list[tuple[int, int, bool, int, int]]:
        """As `halfinverse._core.Stepper` wants them, after a watched call."""
        found = []
        for layer, output, start, bias in zip(self.modules, self.outputs(), self.starts, self.biases, strict=True):
            outputs = layer.weight.shape[0]
            positions, rest = divmod(output.numel(), samples * outputs)
            if rest or positions == 0:
                raise ValueError("rows do not belong to samples")
            found.append((outputs, layer.weight[0].numel(), bias, positions, start))
        return found


def _patches(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """Patches of a convolution's input (b × in·taps × positions)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    x = functional.pad(x, layer._reversed_padding_repeated_twice, mode)
    kernel, dilation, stride = layer.kernel_size, layer.dilation, layer.stride
    if isinstance(layer, torch.nn.Conv1d):
        x, kernel, dilation, stride = x.unsqueeze(2), (1, *kernel), (1, *dilation), (1, *stride)
    return functional.unfold(x, kernel, dilation=dilation, stride=stride)


class Backward:
    """y at one θ with its layers' inputs, and what cotangents of y make of them."""

    def __init__(self, model: Any, layers: Layers, theta: torch.Tensor, batch: Any) -> None:
        self.layers, self.theta = layers, theta.requires_grad_()
        self.at: Callable[[torch.Tensor], torch.Tensor] = lambda theta: model.outcomes(theta, batch)
        with layers, torch.enable_grad():
            self.y = self.at(self.theta)
        self.outputs = layers.outputs()
        self.weights = torch.ones_like(self.y.detach())

    def gradient(self, cotangent: torch.Tensor) -> torch.Tensor:
        """Jᵀȳ (P)."""
        gradient: torch.Tensor = torch.autograd.grad(self.y, self.theta, cotangent, retain_graph=True)[0]
        return gradient

    def cotangents(self, outcome: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """(layer, δ, a) of a cotangent of y over its weights."""
        found = torch.autograd.grad(self.y, self.outputs, self.weights * outcome, retain_graph=True)
        return self.layers.rows(found)

    def difference(self, v: torch.Tensor) -> torch.Tensor:
        """J v (b × m), rows times weights."""
        length = v.norm()
        if length == 0.0:
            return torch.zeros_like(self.weights)
        with torch.no_grad():
            epsilon = STEP[v.dtype] * (1.0 + self.theta.norm()) / length
            return self.weights * (self.at(self.theta + epsilon * v) - self.y) / epsilon


def find(model: Any, theta: torch.Tensor, batch: Any, samples: int) -> tuple[Layers, list[Any]] | None:
    """The layers and their factors, where the model has them."""
    try:
        layers = Layers(model.module.model)
        at = Backward(model, layers, theta.clone(), batch)
        factors = layers.factors(samples)
        expected = at.gradient(torch.ones_like(at.y))
        made = torch.zeros_like(expected)
        for i, delta, a in at.cotangents(torch.ones_like(at.y)):
            if len(delta) != len(a):
                return None
            outputs, inputs, bias, _, start = factors[i]
            size = outputs * inputs
            made[start : start + size] += (a.T @ delta).reshape(-1)
            if bias:
                made[start + size : start + size + outputs] += delta.sum(0)
    except Exception:  # whatever a model does that hooks or graphs do not allow
        return None
    wrong = (made - expected).norm() / expected.norm().clamp_min(torch.finfo(expected.dtype).tiny)
    right = wrong <= RIGHT * torch.finfo(expected.dtype).eps ** 0.5
    return (layers, factors) if right else None
