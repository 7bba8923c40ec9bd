"""The spectral core against NumPy's SVD."""

import numpy as np
import pytest

import halfinverse
from halfinverse import KrylovSpace, update

SOLVERS = ["svd", "gram", "auto", "krylov:12"]


def reference(j, g, kappa=0.5, truncation=1e-6, damping=0.0):
    u, s, vt = np.linalg.svd(j, full_matrices=False)
    phi = np.where(s > truncation * s[0], s * (s**2 + damping) ** (-(1 + kappa) / 2), 0.0)
    return vt.T @ (phi * (u.T @ g))


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (12, 12), (1, 5), (5, 1)])
@pytest.mark.parametrize(("kappa", "damping"), [(-1, 0), (0, 0), (0.5, 0), (1, 0), (1, 0.7), (0.5, 0.7), (0.2, 2)])
def test_every_solver_agrees_with_numpys_svd(rng, shape, kappa, damping, solver):
    j, g = rng.normal(size=shape), rng.normal(size=shape[0])
    found, report = update(j, g, kappa, damping=damping, solver=solver)
    expected = reference(j, g, kappa, damping=damping)
    assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
    assert report["rank"] == min(shape) or solver.startswith("krylov")


def test_what_is_truncated_is_left_out_and_counted(rng):
    u, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    v, _ = np.linalg.qr(rng.normal(size=(9, 6)))
    j = u @ np.diag([4, 2, 1, 1e-3, 1e-4, 1e-5]) @ v.T
    g = rng.normal(size=6)
    found, report = update(j, g, truncation=1e-2, solver="svd")
    assert report["rank"] == 3 and report["condition"] == pytest.approx(4)
    assert np.allclose(found, reference(j, g, truncation=1e-2), rtol=1e-10)


def layouts(j):
    """The same J in every layout and type that has its numbers."""
    big = np.zeros((2 * j.shape[0], 3 * j.shape[1]))
    big[::2, ::3] = j
    read_only = j.copy()
    read_only.flags.writeable = False
    yield from (j, np.asfortranarray(j), big[::2, ::3], j[::-1].copy()[::-1], read_only, j.astype(">f8"))
    unaligned = np.frombuffer(b"x" + j.tobytes(), np.uint8)[1:].view(np.float64).reshape(j.shape)
    assert not unaligned.flags.aligned
    yield unaligned
    yield j.tolist()
    yield np.asmatrix(j)


def test_the_update_does_not_depend_on_layout(rng):
    j, g = rng.normal(size=(7, 11)), rng.normal(size=7)
    expected = reference(j, g)
    for layout in layouts(j):
        found, _ = update(layout, g)
        assert np.allclose(found, expected, rtol=1e-11, atol=0)
    assert np.allclose(update(j, g.reshape(7, 1, 1))[0], expected, rtol=1e-11)
    integers = np.array([[1, 2, 0], [0, 3, 1]])
    assert np.allclose(update(integers, [1, 2])[0], reference(integers, [1, 2]))
    assert np.allclose(update(j.astype(np.float32), g)[0], reference(j.astype(np.float32).astype(float), g))


class Dlpack:
    """An array of another library."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries_are_taken(rng):
    j, g = rng.normal(size=(7, 11)), rng.normal(size=7)
    assert np.allclose(update(Dlpack(j), Dlpack(g))[0], reference(j, g), rtol=1e-11)
    jnp = pytest.importorskip("jax.numpy")
    single = jnp.asarray(j), jnp.asarray(g)
    expected = reference(np.asarray(single[0], float), np.asarray(single[1], float))
    assert np.allclose(update(*single)[0], expected, rtol=1e-11)
    half = single[0].astype(jnp.bfloat16)
    assert np.allclose(update(half, g)[0], reference(np.asarray(half, float), g), rtol=1e-10)


def test_threads_change_no_more_than_round_off(rng):
    j, g = rng.normal(size=(60, 300)), rng.normal(size=60)
    one, two = (update(j, g, threads=threads)[0] for threads in (1, 2))
    assert np.allclose(one, two, rtol=1e-11)


def test_a_zero_gradient_gives_a_zero_update():
    found, report = update(np.eye(3), np.zeros(3))
    assert not found.any() and report["fallbacks"] == []
    found, report = update(np.zeros((3, 4)), np.ones(3))
    assert not found.any() and report["rank"] == 0


def test_the_report_says_where_the_gram_matrix_was_left(rng):
    u, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    j = u @ np.diag([1, 1e-3, 1e-6, 1e-7]) @ np.linalg.qr(rng.normal(size=(6, 4)))[0].T
    _, report = update(j, rng.normal(size=4), kappa=1, truncation=0, solver="gram")
    assert report["solver"] == "svd" and "gram is exact to" in report["fallbacks"][0]


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
def test_a_krylov_space_of_full_dimension_is_exact_for_every_filter(rng, shape):
    j, g = rng.normal(size=shape), rng.normal(size=shape[0])
    calls = []

    def jvp(v):
        calls.append("jvp")
        return j @ v

    def vjp(u):
        calls.append("vjp")
        return j.T @ u

    space = KrylovSpace(jvp, vjp, g, vectors=20, parameters=shape[1])
    assert calls.count("jvp") == 20 and calls.count("vjp") == 21
    made = len(calls)
    settings = [(0.5, 0.0, 1.0), (1.0, 0.0, 0.5), (1.0, 3.0, 1.0), (0.25, 0.1, -2.0), (-1, 0, 1)]
    updates, reports = space.steps(settings)
    assert len(calls) == made
    for (kappa, damping, length), found, report in zip(settings, updates, reports, strict=True):
        expected = length * reference(j, g, kappa, damping=damping)
        assert np.abs(found - expected).max() <= 1e-9 * np.abs(expected).max()
        assert report["slope"] == pytest.approx(g @ j @ found)
        assert report["curvature"] == pytest.approx(np.sum((j @ found) ** 2))
        assert report["rank"] == 20
    assert np.allclose(space.basis @ space.basis.T, np.eye(20), atol=1e-6)
    assert space.gradient_norm == pytest.approx(np.linalg.norm(j.T @ g))
    single, report = space.step(*settings[3])
    assert np.allclose(single, updates[3], rtol=1e-12) and report == reports[3]


def test_one_vector_is_the_gradient_and_none_is_left_where_it_vanishes(rng):
    j, g = rng.normal(size=(5, 8)), rng.normal(size=5)
    found, _ = KrylovSpace(lambda v: j @ v, lambda u: j.T @ u, g, vectors=1).step()
    gradient = j.T @ g
    assert abs(found @ gradient) == pytest.approx(np.linalg.norm(found) * np.linalg.norm(gradient))
    empty = KrylovSpace(lambda v: 0 * (j @ v), lambda u: 0 * (j.T @ u), g)
    found, report = empty.step()
    assert found.shape == (8,) and not found.any() and report["rank"] == 0 and empty.basis.shape == (0, 8)
    assert empty.steps([])[0].shape == (0, 8)


def test_products_in_jax_make_the_same_space(rng):
    jax = pytest.importorskip("jax")
    matrix = rng.normal(size=(6, 9))
    g = rng.normal(size=6)
    with jax.enable_x64(True):
        j = jax.numpy.asarray(matrix)
        space = KrylovSpace(jax.jit(lambda v: j @ v), jax.jit(lambda u: j.T @ u), g, vectors=6)
        assert np.allclose(space.step()[0], reference(matrix, g), rtol=1e-9)


def test_versions_are_shown(capsys):
    halfinverse.show_versions()
    shown = capsys.readouterr().out
    for word in ("halfinverse:", halfinverse.__version__, "numpy:", "python:", np.__version__):
        assert word in shown
