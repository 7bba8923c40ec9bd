"""`--tensorboard`: the files as TensorBoard's own reader finds them."""

import subprocess

import pytest
from conftest import DEADLINE, HIG, column
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {"loss/train": "train_loss", "loss/test": "test_loss", "learning_rate": "learning_rate", "sigma/max": "sigma_max", "update_norm": "update_norm"}


def hig(*arguments):
    subprocess.run([HIG, *map(str, arguments), "--quiet", "--tensorboard"], check=True, timeout=DEADLINE)


def assert_same_as_metrics(out):
    events = EventAccumulator(str(out)).Reload()
    assert set(TAGS) <= set(events.Tags()["scalars"])
    assert events.file_version == 2.0
    for tag, name in TAGS.items():
        values = [float(cell) for cell in column(out, name)]
        assert [event.value for event in events.Scalars(tag)] == pytest.approx(values, rel=1e-6)
    test = events.Scalars("loss/test")
    assert [event.step for event in test] == [int(cell) for cell in column(out, "step")]
    elapsed = [float(cell) for cell in column(out, "elapsed_s")]
    assert [event.wall_time - test[0].wall_time for event in test] == pytest.approx([t - elapsed[0] for t in elapsed], abs=1e-3)


def test_a_run_and_its_resumption_are_read_back_as_the_metrics_have_them(tmp_path):
    out = tmp_path / "run"
    hig("train", "toy", "--steps", 45, "--out", out)
    assert_same_as_metrics(out)
    hig("resume", out, "--steps", 90)
    assert len(list(out.glob("events.out.tfevents.*"))) == 1
    assert_same_as_metrics(out)
