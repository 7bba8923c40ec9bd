"""A network fitted to a data set, with scikit-learn around it.

    python regression_sklearn.py [--picture regression_sklearn.png]

The data are the measurements of 442 diabetes patients that come with scikit-learn, and a smooth function of two
variables with a little noise: the first are so noisy that ten numbers a patient explain half of the variance at most,
and show how to keep a network from learning the noise; of the second little must remain unexplained.
"""

import argparse

import matplotlib
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from halfinverse import HalfInverseRegressor

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

NOISE = 0.02


def surface(x):
    return np.sin(3 * x[:, 0]) * np.cos(2 * x[:, 1] ** 2)


def smooth(samples):
    """Measurements of the surface, of which a tenth is for testing."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.5, 1.5, (samples, 2))
    return train_test_split(x, surface(x) + NOISE * rng.normal(size=samples), test_size=0.1, random_state=0)


def patients(steps):
    """R² in cross-validation: 1 is all of the variance, 0 none."""
    x, y = load_diabetes(return_X_y=True)
    models = {
        "ridge regression": RidgeCV(np.logspace(-3, 3, 13)),
        # Held-out samples decide when the fit ends, and which weights are kept.
        "network": HalfInverseRegressor(hidden=(4,), steps=steps, validation_fraction=0.3, patience=5, random_state=0),
    }
    return {
        name: cross_val_score(make_pipeline(StandardScaler(), model), x, y, cv=3).mean()
        for name, model in models.items()
    }


def picture(model, path):
    grid = np.linspace(-1.5, 1.5, 80)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    fitted, exact = model.predict(points).reshape(80, 80), surface(points).reshape(80, 80)
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for axis, values, title in zip(axes, (fitted, fitted - exact), ("fitted", "fitted − exact"), strict=False):
        most = np.abs(values).max()
        image = axis.imshow(values, origin="lower", extent=(-1.5, 1.5, -1.5, 1.5), cmap="RdBu_r", vmin=-most, vmax=most)
        axis.set(title=title, xlabel="x₁", ylabel="x₂")
        figure.colorbar(image, ax=axis)
    axes[2].semilogy(model.loss_curve_)
    axes[2].set(title="Held-out loss", xlabel="evaluation", ylabel="mean squared error, standardised")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(steps=400, path="regression_sklearn.png", samples=2000):
    x, x_test, y, y_test = smooth(samples)
    model = HalfInverseRegressor(hidden=(24, 24), steps=steps, random_state=0).fit(x, y)
    other = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(24, 24), max_iter=2 * steps, random_state=0)
    ).fit(x, y)
    scores = {"half-inverse": model.score(x_test, y_test), "MLPRegressor": other.score(x_test, y_test)}
    for name, score in scores.items():
        print(
            f"surface: {name:16} leaves {1 - score:.1e} of the variance unexplained; noise is {NOISE**2 / y.var():.1e}"
        )
    for name, score in patients(steps).items():
        print(f"diabetes: {name:16} R² {score:.2f}")
    picture(model, path)
    return scores


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--picture", default="regression_sklearn.png")
    given = arguments.parse_args()
    main(path=given.picture)
