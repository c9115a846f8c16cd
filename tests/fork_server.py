"""Imports TensorFlow and the training code, then forks a process for each JSON line on stdin.

It prints two lines for each: the process id and, at the end, the exit code. No TensorFlow operation
runs here, because its threads would be lost in a fork. See forks.py.
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
    "tf_mtl_privacy.reporting.runs",
    "tf_mtl_privacy.training.fit",
)


def main():
    """Serves until stdin is closed."""
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
    """Turns this process into `python -m module arguments`."""
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
