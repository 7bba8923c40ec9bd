"""The regressor in scikit-learn's company."""

import pickle

import numpy as np
import pytest

sklearn = pytest.importorskip("sklearn")
from sklearn.model_selection import GridSearchCV, cross_val_score  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import PolynomialFeatures  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from halfinverse import HalfInverseRegressor, SettingError  # noqa: E402


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (300, 2))
    return x, 50 + 3 * np.sin(2 * x[:, 0]) * x[:, 1]


def regressor(**more):
    return HalfInverseRegressor(**{"hidden": (12,), "steps": 60, "random_state": 0, **more})


def test_scikit_learns_own_checks_pass():
    check_estimator(HalfInverseRegressor(hidden=(16,), steps=60, random_state=0))


def test_a_function_is_learnt_and_the_same_seed_gives_the_same_fit(data):
    x, y = data
    one, two = regressor().fit(x, y), regressor().fit(x, y)
    assert one.score(x, y) > 0.99
    assert np.array_equal(one.predict(x), two.predict(x))
    assert len(one.coefs_) == 2 and one.coefs_[0].shape == (2, 12) and one.n_iter_ == 60
    assert one.loss_curve_[-1] < one.loss_curve_[0] and one.best_loss_ <= one.loss_curve_.min()


def test_several_targets_are_fitted_together(data):
    x, y = data
    both = np.stack([y, -2 * y], axis=1)
    model = regressor().fit(x, both)
    assert model.predict(x).shape == (300, 2) and model.score(x, both) > 0.99


def test_it_works_in_pipelines_searches_and_cross_validation(data):
    x, y = data
    line = make_pipeline(PolynomialFeatures(2), regressor(steps=30))
    assert line.fit(x, y).score(x, y) > 0.95
    search = GridSearchCV(regressor(steps=20), {"hidden": [(4,), (12,)], "optimizer": ["hig-auto", "adam"]}, cv=2)
    search.fit(x, y)
    assert search.best_params_["optimizer"] == "hig-auto"
    assert cross_val_score(regressor(steps=30), x, y, cv=3).min() > 0.9


def test_a_fit_is_pickled(data):
    x, y = data
    model = regressor().fit(x, y)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.predict(x), model.predict(x))


@pytest.mark.parametrize("optimizer", ["hig", "lm", "l-bfgs", "soap"])
def test_any_optimizer_fits(data, optimizer):
    x, y = data
    model = regressor(optimizer=optimizer, steps=100).fit(x, y)
    assert model.best_loss_ < 0.9 * model.loss_curve_[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "hog"}, "optimizer"),
        ({"optimizer_settings": {"rate": 1}}, "rate"),
        ({"hidden": (0,)}, "hidden"),
        ({"activation": "gellu"}, "gelu"),
        ({"validation_fraction": 1.5}, "validation_fraction"),
        ({"steps": 0}, "steps"),
        ({"threads": -1}, "threads"),
    ],
)
def test_settings_are_refused_in_a_sentence(data, settings, words):
    with pytest.raises(SettingError, match=words):
        regressor(**settings).fit(*data)
