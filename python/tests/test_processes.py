"""Threads, forks and memory."""

import gc
import multiprocessing
import resource
import threading

import numpy as np
import pytest

import halfinverse
from halfinverse import KrylovSpace, ShapeError, StepError, update
from test_refusals import ROWS, raises, stepper


def test_two_threads_train_at_once():
    runs = {}

    def work(seed):
        runs[seed] = halfinverse.train("toy", optimizer="hig", steps=40, threads=1, seed=seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seed in (1, 2):
        alone = halfinverse.train("toy", optimizer="hig", steps=40, threads=1, seed=seed)
        assert np.array_equal(runs[seed].theta, alone.theta)


def test_two_threads_call_back_at_once():
    failures = []

    def work(seed):
        x = np.random.default_rng(seed).uniform(1, 2, (64, 1))
        simulator = halfinverse.Simulator(lambda z: z**2, vjp=lambda z, u: 2 * z * u, controls=1, outcomes=1)
        run = halfinverse.train(simulator, inputs=x, targets=x, steps=30, optimizer="hig", batch=16)
        if not run.metrics["test_loss"][-1] < run.metrics["test_loss"][0]:
            failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_other_threads_run_while_an_update_is_computed():
    j, g = np.random.default_rng(0).normal(size=(400, 1500)), np.ones(400)
    counted, stop = [0], threading.Event()

    def count():
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    update(j, g, solver="svd")
    during = counted[0] - before
    stop.set()
    thread.join()
    # Held back by the interpreter's lock it could not have counted this far.
    assert during > 1000


def in_a_child(work):
    """Runs `work` in a forked process; what it returns."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=lambda: queue.put(work()))
    process.start()
    result = queue.get(timeout=60)
    process.join(timeout=60)
    return result


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_a_forked_process_computes_as_its_parent_does():
    j, g = np.random.default_rng(0).normal(size=(40, 150)), np.ones(40)
    # Threads have been started and are gone again before the fork.
    expected = update(j, g, threads=2)[0]
    assert np.array_equal(in_a_child(lambda: update(j, g, threads=2)[0]), expected)
    first = halfinverse.train("toy", optimizer="hig", steps=5, threads=2).theta
    child = in_a_child(lambda: halfinverse.train("toy", optimizer="hig", steps=5, threads=2).theta)
    assert np.array_equal(child, first)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning", "ignore:.*fork.*:RuntimeWarning")
def test_an_optimizer_whose_threads_stayed_behind_says_so():
    shared, alone = stepper(threads=2), stepper()
    theta = np.ones(3)
    expected = alone.step(theta, ROWS)[0]
    assert np.array_equal(in_a_child(lambda: alone.step(theta, ROWS)[0]), expected)

    def work():
        try:
            shared.step(theta, ROWS)
        except StepError as error:
            return str(error)

    assert "forked" in in_a_child(work)


def resident():
    """Bytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("case", ["update", "krylov", "stepper", "raises"])
def test_ten_thousand_calls_leak_nothing(case):
    """Each call moves some 100 kB: a leak of one array in ten would show."""
    rng = np.random.default_rng(0)
    j, g = rng.normal(size=(8, 1500)), rng.normal(size=8)

    def call():
        if case == "update":
            update(j, g)
        elif case == "krylov":
            KrylovSpace(lambda v: j @ v, lambda u: j.T @ u, g, vectors=4, parameters=1500).step()
        elif case == "stepper":
            _stepped()
        else:
            with pytest.raises(ZeroDivisionError):
                KrylovSpace(lambda v: j @ v, raises, g, parameters=1500)
            with pytest.raises(ShapeError):
                update(j, g[:4])

    small = stepper()
    theta = np.ones(3)

    def _stepped():
        small.step(theta, ROWS)

    for _ in range(500):
        call()
    gc.collect()
    before, objects = resident(), len(gc.get_objects())
    for _ in range(10_000):
        call()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100
    assert resident() - before < 10 << 20
