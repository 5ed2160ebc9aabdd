"""The command ``tq4``."""

import os
import signal
import sys

from ._tq4 import NO_RUNTIME_DIR, RUNTIME_DIR
from ._tq4 import main as _main


def main() -> int:
    """Runs it with this process's arguments, and gives its exit code."""
    # As every program has it, and not Python's: it ends at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:
            # Closed: the next file that is opened would be taken for it.
            os.open(os.devnull, os.O_RDWR)
    # As src/environment.rs does for the program; a script that uses the package keeps its own environment.
    os.environ.setdefault(RUNTIME_DIR, NO_RUNTIME_DIR)
    return _main(["tq4", *sys.argv[1:]])
