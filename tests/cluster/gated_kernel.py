"""The NumPy kernel of examples/exec, which waits before the second strip of a partition until its gate is open.

GATES is a directory: the program writes the process id of its tq4 to waiting-N, and goes on when open-N is there.
Outside a Slurm array it waits for nothing."""

import os
import pathlib
import runpy
import sys
import time

KERNEL = pathlib.Path(__file__).parents[2] / "examples/exec/numpy_kernel.py"


def wait(gates, task):
    """Until the gate is open; a program whose tq4 was killed ends."""
    tq4 = os.getppid()
    unfinished = gates / f"unfinished-{task}"
    unfinished.write_text(f"{tq4}\n")
    unfinished.rename(gates / f"waiting-{task}")
    while not (gates / f"open-{task}").exists():
        if os.getppid() != tq4:
            sys.exit("tq4 was killed")
        time.sleep(0.02)


def gated(lines, task):
    for count, line in enumerate(lines):
        if count == 1 and task:
            wait(pathlib.Path(os.environ["GATES"]), task)
        yield line


sys.stdin = gated(sys.stdin, os.environ.get("SLURM_ARRAY_TASK_ID"))
runpy.run_path(str(KERNEL))
