"""The live view, as a person uses it in a browser."""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import CHROMIUM, DEADLINE, HIG, column, needs_ranks, over, until
from playwright.sync_api import Error, expect

expect.set_options(timeout=1000 * DEADLINE)
LONG = ["--time", "600s", "--quiet", "--threads", "1"]
SMALL = ["--set", "data.train=512", "--set", "data.test=64", "--batch", "32"]


def tile(page, name):
    return page.locator(f'.tile[data-name="{name}"] dd')


def step(page):
    return int(tile(page, "step").text_content())


def assert_grows(page):
    before = step(page)
    until("a further step on the page", lambda: step(page) > before)


def drawn(page, chart):
    """Colours on a chart's canvas, as the pixels have them."""
    return page.evaluate(
        """(id) => {
            const canvas = document.querySelector(`#${id} canvas`);
            const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
            copy.drawImage(canvas, 0, 0);
            const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
            const colors = new Set();
            for (let i = 0; i < data.length; i += 4) if (data[i + 3] === 255) colors.add(`${data[i]},${data[i + 1]},${data[i + 2]}`);
            return [...colors];
        }""",
        chart,
    )


def leave(page):
    """Closes a page whose server has gone, which it complains of."""
    page.close()
    page.complaints.clear()


def process_of(mark):
    """The browser that was started with this argument; its helpers have a type."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue  # it has ended
        if mark in arguments and not any(argument.startswith("--type=") for argument in arguments):
            return int(process.name)
    raise AssertionError(f"no process has {mark}")


def test_every_element_shows_what_the_run_does(start, visit, tmp_path):
    run = start("train", "oscillators", "--optimizer", "hig-auto", *SMALL, *LONG, "--view=0", "--out", tmp_path / "run")
    page = visit(run.address)
    expect(page.locator("#title")).to_have_text("oscillators with hig-auto, seed 1")
    expect(page.locator("#connection")).to_have_text("live")
    for name in ["state", "step", "epochs", "training time", "time left", "per step", "train loss", "test loss", "memory", "peak memory"]:
        expect(tile(page, name)).not_to_have_text("–")
    expect(tile(page, "memory")).to_have_text(re.compile(r"^\d+ MiB$"))
    expect(page.locator("progress")).to_be_visible()
    for chart, color in [("loss-time", "31,131,198"), ("loss-steps", "31,131,198"), ("spectrum", "224,138,0"), ("sigma", "31,131,198"),
                         ("way", "31,131,198"), ("choices", "31,131,198"), ("units", "224,138,0")]:
        expect(page.locator(f"#{chart} canvas")).to_be_visible()
        until(f"a curve in {chart}", lambda: color in drawn(page, chart))
    # An optimizer that chooses the length of its steps has no rate to set; a single run needs no table.
    for absent in ["#rate", "#runs-panel", "#no-controls"]:
        expect(page.locator(absent)).to_be_hidden()
    expect(page.locator("#picture-caption")).to_contain_text("Six test samples")
    until("the picture", lambda: page.evaluate("document.getElementById('picture').naturalWidth") > 100)
    of = lambda: int(re.search(r"step (\d+)", page.locator("#picture-caption").text_content())[1])
    first = of()
    until("a later picture", lambda: of() > first)
    expect(page.locator("#spectrum .legend")).to_contain_text("step")
    assert_grows(page)


def test_charts_tell_values_zoom_and_change_their_axes(start, visit, tmp_path):
    page = visit(start("train", "toy", *LONG, "--view=0", "--out", tmp_path / "run").address)
    canvas = page.locator("#loss-steps canvas")
    until("a curve", lambda: "31,131,198" in drawn(page, "loss-steps"))
    box = canvas.bounding_box()
    at = lambda part: (box["x"] + part * box["width"], box["y"] + box["height"] / 2)
    shown = lambda: page.evaluate("charts.steps.ranges().x")
    until("a thousand steps", lambda: shown()[1] > 1000)
    page.mouse.move(*at(0.5))
    hover = page.locator("#loss-steps .hover")
    expect(hover).to_be_visible()
    expect(hover).to_contain_text("steps:")
    expect(hover).to_contain_text("test:")
    whole = page.locator("#loss-steps button", has_text="whole range")
    expect(whole).to_be_hidden()
    page.mouse.down()
    page.mouse.move(*at(0.7), steps=4)
    page.mouse.up()
    expect(whole).to_be_visible()
    low, high = shown()
    assert 0 < low < high
    assert_grows(page)
    assert shown() == [low, high], "a window stays where it is while the run goes on"
    whole.click()
    expect(whole).to_be_hidden()
    until("the whole range", lambda: shown()[0] == 0)
    for box in ["log steps", "log loss"]:
        before = page.evaluate("document.querySelector('#loss-steps canvas').toDataURL()")
        page.locator("#loss-steps").get_by_label(box).click()
        until(f"another picture with {box}", lambda: page.evaluate("document.querySelector('#loss-steps canvas').toDataURL()") != before)
    assert shown()[0] > 0, "a logarithmic axis has no 0"


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=needs_ranks)])
def test_every_control_takes_effect_and_is_an_event_that_a_resumed_run_does_not_repeat(start, visit, tmp_path, ranks):
    out = tmp_path / "run"
    run = start("train", "oscillators", "--solver", "krylov:16", *SMALL, *LONG, "--view=0", "--out", out, ranks=ranks)
    page = visit(run.address)
    until("a step", lambda: tile(page, "step").count() and step(page) > 0)
    events = page.locator("#events li")
    button = lambda name: page.get_by_role("button", name=name, exact=True)
    button("Pause").click()
    expect(tile(page, "state")).to_have_text("paused")
    expect(events).to_have_text([re.compile("pause")])
    expect(button("Pause")).to_be_disabled()
    held = step(page)
    button("Evaluate now").click()
    expect(events).to_have_count(2)
    written = (out / "checkpoint.safetensors").stat().st_mtime_ns if (out / "checkpoint.safetensors").exists() else 0
    button("Checkpoint now").click()
    until("a checkpoint", lambda: (out / "checkpoint.safetensors").exists() and (out / "checkpoint.safetensors").stat().st_mtime_ns > written)
    expect(events).to_have_count(3)
    field = page.get_by_label("learning rate", exact=True)
    field.fill("-1")
    button("Set").click()
    expect(page.locator("#answer")).to_have_text("a learning rate is a positive number")
    field.fill("0.125")
    button("Set").click()
    expect(tile(page, "learning rate")).to_have_text("0.125")
    expect(events.first).to_have_text(f"step {held}: learning_rate=0.125")
    assert step(page) == held
    button("Resume").click()
    expect(tile(page, "state")).to_have_text("training")
    until("a further step", lambda: step(page) > held)
    expect(page.locator("#learning-rate canvas")).to_be_visible()
    button("Stop").click()
    expect(page.locator("#connection")).to_have_class("lost")
    leave(page)
    assert run.ended() == 130
    events = ["pause", "evaluate", "checkpoint", "learning_rate=0.125", "resume", "stop"]
    assert column(out, "event") == events
    more = str(int(column(out, "step")[-1]) + 5)
    line, environment = over(ranks, "resume", out, "--steps", more, "--quiet")
    subprocess.run(line, env=environment, stdin=subprocess.DEVNULL, check=True, timeout=DEADLINE)
    assert column(out, "event") == events
    assert column(out, "step")[-1] == more
    assert float(column(out, "learning_rate")[-1]) == pytest.approx(0.125)


def test_a_browser_that_is_killed_finds_the_run_again(start, playwright, tmp_path, visit):
    run = start("train", "toy", *LONG, "--view=0", "--out", tmp_path / "run")
    mark = f"--hig-view-test={run.process.pid}"
    doomed = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", mark])
    page = doomed.new_page()
    page.goto(run.address)
    expect(page.locator("#title")).to_contain_text("toy")
    os.kill(process_of(mark), signal.SIGKILL)
    with pytest.raises(Error):
        page.wait_for_timeout(1000 * DEADLINE)
    assert run.process.poll() is None
    page = visit(run.address)
    expect(page.locator("#title")).to_contain_text("toy")
    assert_grows(page)
    before = step(page)
    page.reload()
    until("the run after a reload", lambda: tile(page, "step").count() and step(page) > before)


def test_five_pages_show_the_same_run(start, visit, tmp_path):
    run = start("train", "toy", *LONG, "--view=0", "--out", tmp_path / "run")
    pages = [visit(run.address) for _ in range(5)]
    for page in pages:
        expect(page.locator("#connection")).to_have_text("live")
    pages[0].get_by_role("button", name="Pause", exact=True).click()
    for page in pages:
        expect(tile(page, "state")).to_have_text("paused")
    assert len({step(page) for page in pages}) == 1
    pages[4].get_by_role("button", name="Resume", exact=True).click()
    for page in pages:
        assert_grows(page)


def test_two_runs_stand_side_by_side_one_of_them_of_another_process(start, visit, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    subprocess.run([HIG, "train", "toy", "--steps", "60", "--quiet", "--out", first], check=True, timeout=DEADLINE)
    start("train", "toy", "--optimizer", "adam", *LONG, "--view=0", "--out", second)
    page = visit(start("view", first, second, "--port", "0").address)
    rows = page.locator("#runs tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0)).to_contain_text("stopped by")
    expect(rows.nth(1)).to_contain_text("last row")
    legend = page.locator("#loss-steps .legend li")
    expect(legend).to_have_text([str(first), str(second)])
    expect(page.locator("#title")).to_contain_text("toy with hig")
    expect(page.locator("#controls")).to_be_hidden()
    rows.nth(1).get_by_role("button").click()
    expect(page.locator("#title")).to_contain_text("toy with adam")
    expect(page.locator("#no-controls")).to_be_visible()
    expect(page.locator("#controls")).to_be_hidden()
    assert_grows(page)
    expect(page.locator("#picture-caption")).to_contain_text("last checkpoint")
    rows.nth(0).get_by_role("checkbox").uncheck()
    expect(legend).to_have_text([str(second)])


def test_a_study_shows_its_cells_as_they_come(start, visit, tmp_path):
    out = tmp_path / "study"
    study = start("compare", "toy", "--optimizers", "hig,adam", "--seeds", "1", *LONG, "--view=0", "--out", out)
    page = visit(study.address)
    expect(page.locator("#title")).to_contain_text("toy with hig")
    assert_grows(page)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#connection")).to_have_class("lost")
    leave(page)
    assert study.ended() == 130
    steps = ["compare", "toy", "--optimizers", "hig,adam", "--seeds", "1", "--steps", "40", "--quiet"]
    subprocess.run([HIG, *steps, "--out", tmp_path / "done"], check=True, timeout=DEADLINE, stdout=subprocess.DEVNULL)
    page = visit(start("view", tmp_path / "done", "--port", "0").address)
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    expect(page.locator("#runs")).to_contain_text("adam-seed1")


@needs_ranks
def test_a_study_over_ranks_has_controls_for_one_run_and_its_stop_is_for_all(start, visit, tmp_path):
    out = tmp_path / "study"
    line = ["compare", "toy", "--optimizers", "adam,sgd", "--seeds", "1,2", "--time", "600s", "--quiet"]
    run = start(*line, "--view=0", "--out", out, ranks=2)
    page = visit(run.address)
    rows = page.locator("#runs tbody tr")
    expect(rows).to_have_count(2)
    pause = page.get_by_role("button", name="Pause", exact=True)
    expect(pause).to_be_visible()
    pause.click()
    expect(tile(page, "state")).to_have_text("paused")
    own = rows.filter(has_text="paused")
    other = rows.filter(has_text="last row")
    of = lambda row: int(row.locator("td").nth(4).text_content())
    held, before = of(own), of(other)
    until("steps of the other rank's run", lambda: of(other) > before)
    assert of(own) == held
    other.get_by_role("button").click()
    expect(page.locator("#no-controls")).to_be_visible()
    own.get_by_role("button").click()
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("#connection")).to_have_class("lost")
    leave(page)
    assert run.ended() == 130
    assert not list(out.glob("cells/*/summary.json"))


@pytest.mark.parametrize("scheme, background", [("light", "rgb(251, 251, 250)"), ("dark", "rgb(20, 23, 26)")])
def test_a_narrow_page_needs_no_scrolling_sideways_in_either_scheme(start, visit, tmp_path, scheme, background):
    run = start("train", "oscillators", "--optimizer", "hig-auto", *SMALL, *LONG, "--view=0", "--out", tmp_path / "run")
    page = visit(run.address, 400, scheme)
    expect(page.locator("#picture")).to_be_visible()
    expect(page.locator("#choices canvas")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == background


@pytest.mark.parametrize(
    "inputs, words", [(["mass"], ["mass, standardised"]), (["mass", "speed"], ["drag", "lift", "target, standardised"])]
)
def test_the_picture_of_a_data_file_has_the_names_of_its_columns(start, visit, tmp_path, inputs, words):
    names = [*inputs, "drag", "lift"]
    rows = ([(i * (c + 2)) % 7 + i / 100 for c in range(len(names))] for i in range(100))
    lines = [names, *rows]
    (tmp_path / "data.csv").write_text("\n".join(",".join(map(str, line)) for line in lines) + "\n")
    page = visit(start("fit", tmp_path / "data.csv", "--targets", "drag,lift", *LONG, "--view=0", "--out", tmp_path / "run").address)
    expect(page.locator("#picture")).to_be_visible()
    svg = page.evaluate("fetch(document.getElementById('picture').src).then((answer) => answer.text())")
    assert all(word in svg for word in words), svg


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_several_runs_fit_into_a_narrow_page(start, visit, tmp_path, scheme):
    folders = [tmp_path / name for name in ["first", "second"]]
    for folder in folders:
        subprocess.run([HIG, "train", "toy", "--steps", "5", "--quiet", "--out", folder], check=True, timeout=DEADLINE)
    page = visit(start("view", *folders, "--port", "0").address, 400, scheme)
    row = page.locator("#runs tbody tr").first
    expect(row.locator("td")).to_have_count(8)
    for cell in row.locator("td").all():
        expect(cell).to_be_in_viewport(ratio=1)
    assert page.evaluate("document.querySelector('.scroll').scrollWidth <= document.querySelector('.scroll').clientWidth")


def test_a_hundred_thousand_rows_are_shown(start, visit, tmp_path):
    (tmp_path / "config.toml").write_text("task = 'mine'\n[optimizer]\nname = 'adam'\n")
    lines = (f"{i},0,{i / 1000},{i / 1000},{1 / (i + 1)},{2 / (i + 1)}" for i in range(100_000))
    (tmp_path / "metrics.csv").write_text("step,epoch,wall_s,elapsed_s,train_loss,test_loss\n" + "\n".join(lines) + "\n")
    page = visit(start("view", tmp_path, "--port", "0").address)
    expect(tile(page, "step")).to_have_text("99999")
    until("a curve", lambda: "31,131,198" in drawn(page, "loss-steps"))
    sent = page.evaluate("runs.get(0).steps.curves.map(([, points]) => points.length)")
    assert all(100 < count < 3000 for count in sent), sent
