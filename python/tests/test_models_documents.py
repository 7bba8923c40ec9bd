"""What is written about models in JAX and PyTorch runs: the guide's snippets, and the tutorials with small sizes."""

import importlib.util
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def missing(*packages):
    return [package for package in packages if importlib.util.find_spec(package) is None]


@pytest.mark.parametrize("library", ["jax", "torch"])
def test_every_snippet_of_the_guide_runs(library):
    pytest.importorskip(library)
    text = (ROOT / "docs/python-models.md").read_text(encoding="utf-8")
    begin = text.index(f"\n## {'JAX' if library == 'jax' else 'PyTorch'}\n")
    section = text[begin : text.index("\n## ", begin + 1)]
    blocks = re.findall(r"^```python (\w+)\n(.*?)^```", section, re.M | re.S)
    assert blocks
    shared = {}
    for needs, code in blocks:
        if not missing(needs):
            exec(compile(code, "docs/python-models.md", "exec"), shared)


def tutorial(name, tmp_path, *packages, **sizes):
    if missing("matplotlib", *packages):
        pytest.skip(f"needs {packages}")
    path = tmp_path / "picture.png"
    results = runpy.run_path(str(ROOT / f"python/tutorials/{name}.py"))["main"](path=str(path), **sizes)
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 10_000
    return results


@pytest.mark.parametrize(("name", "library"), [("pendulum_jax", "optax"), ("pendulum_torch", "torch")])
def test_the_pendulum_is_steered_by_three_optimizers(name, library, tmp_path):
    losses = tutorial(name, tmp_path, library, seconds=0.5)
    assert len(losses) == 3
    for name, of in losses.items():
        assert of[-1] < of[0], name


def test_the_rod_is_heated_by_an_adjoint_written_by_hand(tmp_path):
    losses = tutorial("heat_numpy", tmp_path, seconds=1.0, samples=256)
    assert losses[-1] < 0.5 * losses[0]


def test_a_data_set_is_fitted(tmp_path):
    scores = tutorial("regression_sklearn", tmp_path, "sklearn", steps=40, samples=400)
    assert scores["half-inverse"] > 0.5
