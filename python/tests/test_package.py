"""What is said of the package: documents, docstrings, stubs and types."""

import doctest
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import halfinverse

ROOT = Path(__file__).resolve().parents[2]


def blocks(path):
    """Python blocks of a document, each with the package that it needs."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return re.findall(r"^```python ?(\w*)\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("path", ["docs/python.md", "python/README.md"])
def test_every_snippet_of_the_documents_runs(path):
    shared = {}
    found = blocks(path)
    assert found
    for needs, code in found:
        if not needs or importlib.util.find_spec(needs):
            exec(compile(code, path, "exec"), shared)


def test_the_examples_of_the_docstrings_run():
    modules = [importlib.import_module(f"halfinverse.{name}") for name in ("_update", "_train", "_simulator")]
    if importlib.util.find_spec("sklearn"):
        modules.append(importlib.import_module("halfinverse.sklearn"))
    results = [doctest.testmod(module) for module in modules]
    assert all(result.failed == 0 for result in results) and sum(result.attempted for result in results) >= 8


def public():
    for name in halfinverse.__all__:
        value = getattr(halfinverse, name, None)
        if callable(value):
            yield name, value
            if inspect.isclass(value):
                yield from ((f"{name}.{key}", member) for key, member in vars(value).items() if not key.startswith("_"))


def test_everything_public_has_a_docstring():
    if not importlib.util.find_spec("sklearn"):
        pytest.skip("the regressor is public too")
    bare = [name for name, value in public() if not getattr(value, "__doc__", None)]
    assert bare == [
        "KrylovSpace.basis",
        "KrylovSpace.gradient_norm",
        "Run.report_path",
        "Run.metrics",
        "Run.parameters",
    ]


def mypy(*arguments):
    pytest.importorskip("mypy")
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_stubs_say_the_truth():
    result = mypy("mypy.stubtest", "halfinverse._core", "--ignore-disjoint-bases")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_types_hold():
    package = Path(halfinverse.__file__).parent
    result = mypy("mypy", "--strict", "--ignore-missing-imports", str(package))
    assert result.returncode == 0, result.stdout + result.stderr


def test_importing_loads_nothing_heavy():
    code = "import sys, halfinverse; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jax", "torch", "sklearn", "scipy", "matplotlib", "pandas"} & set(loaded)


def test_the_version_is_that_of_the_distribution():
    metadata = importlib.import_module("importlib.metadata")
    try:
        assert metadata.version("halfinverse") == halfinverse.__version__
    except metadata.PackageNotFoundError:
        pytest.skip("not installed, but on the path")


def test_errors_are_of_one_family_and_of_pythons_kinds():
    for name, kind in (("SettingError", ValueError), ("ShapeError", ValueError), ("StepError", RuntimeError)):
        error = getattr(halfinverse, name)
        assert issubclass(error, halfinverse.HalfInverseError) and issubclass(error, kind)
