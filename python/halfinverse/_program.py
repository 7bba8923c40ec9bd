"""The program `hig`, as a console script."""

from __future__ import annotations

import signal
import sys

from . import _core


def main() -> int:
    """Does what the command line says; returns the exit code."""
    # Until a run listens, a signal ends the program, as it would without Python; and so does a second one.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    asked = False

    def listen(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, signal.SIG_DFL)

    def poll(done: float, line: str) -> bool:
        if not line:  # a run begins
            signal.signal(signal.SIGINT, listen)
            signal.signal(signal.SIGTERM, listen)
        return asked

    code, sentence, _ = _core.run(["hig", *sys.argv[1:]], poll)
    if sentence is not None and code == 0:
        print(sentence, end="")
    elif sentence is not None:
        begun = sentence.startswith("error: ")
        print(sentence.rstrip() if begun else f"hig: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
