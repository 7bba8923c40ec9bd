"""A browser, and the program with a view."""

import csv
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

sys.dont_write_bytecode = True
HIG = Path(__file__).parents[4] / "target/release/hig"
CHROMIUM = "/usr/bin/chromium"
DEADLINE = 30  # s; no wait is longer


def until(what, met):
    """What `met` returns, as soon as that is true."""
    end = time.monotonic() + DEADLINE
    while not (found := met()):
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.02)
    return found


def without_ranks():
    """Why this program does not run over ranks; empty where it does."""
    if not shutil.which("mpirun"):
        return "mpirun is not installed (Debian: openmpi-bin)"
    linked = subprocess.run(["ldd", HIG], capture_output=True, text=True, check=True).stdout
    return "" if "libmpi" in linked else "the program is built without --features mpi"


needs_ranks = pytest.mark.skipif(bool(without_ranks()), reason=without_ranks())


def over(ranks, *arguments):
    """A command line, and the environment that it needs besides."""
    launcher = ["mpirun", "--oversubscribe", "-n", str(ranks)] if ranks > 1 else []
    root = {name: "1" for name in ["OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"]}
    return [*launcher, HIG, *map(str, arguments)], os.environ | root


class Run:
    """A program with a view, and the address that it said."""

    def __init__(self, *arguments, ranks=1):
        line, environment = over(ranks, *arguments)
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(line, env=environment, text=True, **streams)
        line = self.process.stderr.readline()
        self.address = re.search(r"http://\S+", line)[0]
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def ended(self):
        return self.process.wait(DEADLINE)

    def kill(self):
        # mpirun ends its ranks, unless it is killed.
        self.process.terminate() if self.process.args[0] == "mpirun" else self.process.kill()
        self.process.wait(DEADLINE)


def column(folder, name):
    """Cells of a column of metrics.csv, the empty ones left out."""
    with open(folder / "metrics.csv") as file:
        return [row[name] for row in csv.DictReader(file) if row[name]]


@pytest.fixture
def start():
    started = []

    def begin(*arguments, **options):
        started.append(Run(*arguments, **options))
        return started[-1]

    yield begin
    for run in started:
        run.kill()


@pytest.fixture(scope="session")
def playwright():
    with sync_playwright() as it:
        yield it


@pytest.fixture(scope="session")
def browser(playwright):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    yield browser
    browser.close()


@pytest.fixture
def visit(browser):
    """Opens pages. Whatever such a page complains of, or fetches from elsewhere, fails the test, up to the moment when
    `page.complaints` is cleared."""
    pages = []

    def go(address, width=1280, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(1000 * DEADLINE)
        page.complaints = watch(page, address)
        page.goto(address)
        pages.append(page)
        return page

    yield go
    for page in pages:
        assert page.complaints == []
        page.context.close()


def watch(page, address):
    complaints = []
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: request.url.startswith(address) or complaints.append(request.url))
    return complaints
