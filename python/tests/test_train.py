"""Runs on tasks: settings in, a run with its files out."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import halfinverse
from halfinverse import Run, SettingError, StepError, train


@pytest.fixture(scope="module")
def run():
    return train("toy", optimizer="hig", steps=60, threads=1, seed=2)


def test_a_run_has_metrics_parameters_predictions_and_a_report(run):
    metrics = run.metrics
    assert metrics["step"][0] == 0 and metrics["step"][-1] == 60
    assert metrics["test_loss"][-1] < metrics["test_loss"][0]
    assert np.isnan(metrics["train_loss"][0])
    assert run.report_path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert run.stop_reason == "steps" and run.summary["steps"] == 60
    shapes = {name: values.shape for name, values in run.parameters.items()}
    assert shapes["layers.0.weight"] == (7, 1)
    x = np.linspace(-1, 1, 5)[:, None]
    p = run.parameters
    hidden = np.tanh(x @ p["layers.0.weight"].T + p["layers.0.bias"])
    last = max(name for name in p if name.endswith("weight"))
    expected = hidden @ p[last].T + p[last.replace("weight", "bias")]
    assert np.allclose(run.predict(x), expected, rtol=1e-12)
    assert "60 steps" in repr(run)


def test_the_same_settings_make_the_same_run(run):
    again = train("toy", optimizer="hig", steps=60, threads=1, seed=2)
    assert np.array_equal(again.theta, run.theta)
    other = train("toy", optimizer="hig", steps=60, threads=1, seed=3)
    assert not np.array_equal(other.theta, run.theta)


def test_settings_are_taken_in_dicts_and_by_dotted_names():
    settings = {"network": {"hidden": (5,), "activation": "relu"}, "data.train": np.int64(64), "batch": 32}
    run = train("toy", optimizer="adam", steps=3, threads=1, **settings)
    assert run.parameters["layers.0.weight"].shape == (5, 1)
    config = (run.folder / "config.toml").read_text(encoding="utf-8")
    assert "train = 64" in config and 'activation = "relu"' in config


def test_metrics_become_a_data_frame_and_a_picture(run):
    pandas = pytest.importorskip("pandas")
    frame = run.metrics.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and len(frame) == len(run.metrics["step"])
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    axes = run.plot()
    assert len(axes.lines) == 2 and axes.get_yscale() == "log"
    assert run.plot(axes) is axes


def test_a_run_is_kept_resumed_and_started_from(tmp_path, run):
    first = train("toy", optimizer="hig", steps=20, threads=1, seed=2, out=tmp_path / "run")
    longer = first.resume(steps=60)
    assert longer.summary["steps"] == 60
    assert np.allclose(longer.metrics["test_loss"][-1], run.metrics["test_loss"][-1], rtol=1e-12)
    assert Run(tmp_path / "run").summary == longer.summary
    onward = train("toy", optimizer="hig", steps=1, threads=1, start=longer)
    assert onward.metrics["test_loss"][0] < 2 * longer.summary["test_loss"]


def test_temporary_files_go_with_the_run():
    run = train("toy", optimizer="adam", steps=2, threads=1)
    folder = run.folder
    assert folder.is_dir()
    del run
    __import__("gc").collect()
    assert not folder.exists()


def test_a_task_file_and_a_data_file_are_taken(tmp_path):
    x = np.linspace(-1, 1, 200)
    data = tmp_path / "data.csv"
    data.write_text("x,y\n" + "\n".join(f"{a!r},{b!r}" for a, b in zip(x.tolist(), (100 + x**2).tolist(), strict=True)))
    run = train("fit", steps=100, threads=1, **{"data.path": str(data)})
    assert np.abs(run.predict([[0.5]]) - 100.25).max() < 0.05
    config = tmp_path / "again.toml"
    config.write_bytes((run.folder / "config.toml").read_bytes())
    assert np.array_equal(train(config).theta, run.theta)


def test_a_run_that_diverges_says_so_and_leaves_its_files(tmp_path):
    with pytest.raises(StepError, match="diverged"):
        train("toy", optimizer="sgd", learning_rate=1e9, steps=50, threads=1, out=tmp_path / "run")
    assert (tmp_path / "run" / "summary.json").is_file()


def test_nothing_is_said_outside_of_terminals(capfd):
    train("toy", optimizer="adam", steps=2, threads=1)
    assert capfd.readouterr() == ("", "")
    train("toy", optimizer="adam", steps=2, threads=1, quiet=False)
    assert "test loss" in capfd.readouterr().err


def in_a_process(code, *, seconds, sent=signal.SIGINT):
    """Runs code, sends it a signal once it says that it is under way, and returns its exit code and output."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout.readline() == "begun\n"
    time.sleep(seconds)
    process.send_signal(sent)
    out, _ = process.communicate(timeout=120)
    return process.returncode, out


def test_ctrl_c_ends_a_run_with_its_files(tmp_path):
    code, out = in_a_process(
        f"""
        import halfinverse
        print("begun", flush=True)
        run = halfinverse.train("oscillators", time="300s", threads=1, out={str(tmp_path / "run")!r})
        print(run.stop_reason, run.summary["steps"] > 0, run.report_path.is_file())
        """,
        seconds=4,
    )
    assert (code, out) == (0, "interrupted True True\n")


def test_ctrl_c_within_a_simulator_ends_the_run_with_its_files(tmp_path):
    code, out = in_a_process(
        f"""
        import time, numpy as np, halfinverse
        def forward(z):
            time.sleep(0.05)
            return z**2
        simulator = halfinverse.Simulator(forward, vjp=lambda z, u: 2 * z * u, controls=1, outcomes=1)
        x = np.ones((40, 1))
        print("begun", flush=True)
        run = halfinverse.train(simulator, inputs=x, targets=x, time=300, out={str(tmp_path / "run")!r})
        print(run.stop_reason, run.report_path.is_file())
        """,
        seconds=4,
    )
    assert (code, out) == (0, "interrupted True\n")


def hig(*line, **keywords):
    program = Path(sys.executable).with_name("hig")
    command = [program] if program.is_file() else [sys.executable, "-m", "halfinverse._program"]
    return subprocess.Popen([*command, *line], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **keywords)


def test_the_program_is_in_the_package(tmp_path):
    process = hig("train", "toy", "--steps", "3", "--json", "--threads", "1", "--out", str(tmp_path / "run"))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0 and '"steps": 3' in out and "report:" in err
    for line, code, words in [
        (["--version"], 0, halfinverse.__version__),
        (["train", "tooy"], 2, "toy"),
        (["train", "--nonsense"], 2, "--nonsense"),
        ([], 2, "Usage"),
    ]:
        process = hig(*line)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code and words in out + err, (line, out, err)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_the_program_ends_a_run_in_order_at_the_first_signal(tmp_path, sent):
    out = tmp_path / "run"
    process = hig("train", "oscillators", "--time", "300s", "--threads", "1", "--out", str(out))
    while not (out / "metrics.csv").is_file() or (out / "metrics.csv").stat().st_size < 400:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(sent)
    process.communicate(timeout=120)
    assert process.returncode == 130 and (out / "checkpoint.safetensors").is_file()


@pytest.mark.parametrize(
    ("task", "settings", "words"),
    [
        ("oscilators", {}, "did you mean `oscillators`"),
        ("toy", {"optimizer": "higg"}, "did you mean `hig`"),
        ("toy", {"nonsense": 1}, "nonsense"),
        ("toy", {"network": {"hiden": [3]}}, "did you mean `network.hidden`"),
        ("toy", {"steps": -1}, "steps"),
        ("toy", {"steps": 1.5}, "steps"),
        ("toy", {"time": "soon"}, "soon"),
        ("toy", {"time": -1}, "time"),
        ("toy", {"batch": 10**9}, "batch"),
        ("toy", {"kappa": 2, "optimizer": "hig", "steps": 1}, "kappa"),
        ("toy", {"optimizer": "hig", "solver": "qr"}, "solver"),
        ("toy", {"data": {"train": object()}}, "data.train"),
        ("toy", {"network": {1: 2}}, "string"),
        ("toy", {"start": "nowhere"}, "nowhere"),
        ("toy", {"inputs": [[1.0]]}, "belong to a Simulator"),
    ],
)
def test_settings_are_refused_in_a_sentence(task, settings, words):
    with pytest.raises(SettingError, match=words) as caught:
        train(task, **settings)
    assert "error:" not in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(SettingError, match="summary.json"):
        Run(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises((SettingError, OSError), match="file"):
        train("toy", steps=1, out=tmp_path / "file" / "run")
