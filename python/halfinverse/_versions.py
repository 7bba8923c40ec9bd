"""What is installed, for reports of errors."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

PACKAGES = ("numpy", "jax", "jaxlib", "torch", "scikit-learn", "matplotlib", "pandas", "scipy")


def show_versions() -> None:
    """Prints the versions of this package, of Python and of the packages that it works with."""
    import os

    from . import _core

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = {
        "halfinverse": _core.__version__,
        "extension": _core.__file__,
        "python": sys.version.replace("\n", " "),
        "platform": f"{platform.platform()}, {cores} cores",
    }
    for package in PACKAGES:
        try:
            lines[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            lines[package] = "absent"
    for name, value in lines.items():
        print(f"{name + ':':14}{value}")
