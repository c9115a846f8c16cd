"""Imports what a training needs, then forks a process for each line of JSON on its input.

It answers with two lines: the process' number and, when it has ended, its exit code. No operation
of TensorFlow runs here: its threads would not be there after a fork. See forks.py.
"""

import importlib
import json
import os
import runpy
import sys

LOADED = (
    "keras",
    "tensorflow",
    "tf_mtl_privacy.evaluation.probes.saved",
    "tf_mtl_privacy.reporting.run_figures",
    "tf_mtl_privacy.training.fit",
)


def main():
    """Serves until its input ends."""
    for name in LOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if not child:
            return _become(job)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(job):
    """Goes on as `python -m module arguments`; returns, and ends, as that would."""
    for number, (name, mode) in enumerate(
        ((os.devnull, os.O_RDONLY), (job["stdout"], os.O_WRONLY), (job["stderr"], os.O_WRONLY))
    ):
        opened = os.open(name, mode | (os.O_CREAT if mode else 0))
        os.dup2(opened, number)
        os.close(opened)
    os.environ.clear()
    os.environ.update(job["env"])
    os.chdir(job["cwd"])
    sys.path[0] = job["cwd"]
    sys.argv = [job["module"], *job["arguments"]]
    sys.modules["tensorflow"].config.run_functions_eagerly(job["untraced"])
    runpy.run_module(job["module"], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
