"""A process is killed with SIGKILL at random moments, and continued, until it has finished."""

import random
import signal
import subprocess
import sys
import time

from tf_mtl_privacy.privacy.ledger import read_ledger

TOTAL, BLOCK, CHECKPOINT_EVERY = 120, 8, 5
# One byte is appended to `ran` for each update, `checkpoint` is replaced atomically.
PROGRAM = """
import os, sys, time
from pathlib import Path
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.privacy.accounting.events import Mechanism
from tf_mtl_privacy.privacy.ledger import Ledger
from tf_mtl_privacy.privacy.ledger import LedgerHeader

folder, total, block, every = Path(sys.argv[1]), *map(int, sys.argv[2:])
saved = folder / "checkpoint"
start, run_id = saved.read_text().split() if saved.exists() else ("0", "")
step = int(start)
header = LedgerHeader({"adversarial": Mechanism(4.0, 0.1)}, l2_norm_clip=1.0)
ran = os.open(folder / "ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Ledger(folder, header, checkpoint={"adversarial": step}, run_id=run_id) as ledger:
    print("ready", flush=True)
    while step < total:
        if step == ledger.covered("adversarial"):
            ledger.reserve("adversarial", block)
        os.write(ran, b".")
        step += 1
        time.sleep(0.002)
        if step % every == 0 or step == total:
            write_atomic(saved, f"{step} {ledger.run_id}")
            ledger.settle("adversarial", step)
assert "dp_accounting" not in sys.modules and "tensorflow" not in sys.modules
"""


def start(folder):
    command = [sys.executable, "-c", PROGRAM, folder, TOTAL, BLOCK, CHECKPOINT_EVERY]
    return subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def count(folder):
    ran = (folder / "ran").stat().st_size
    return ran, read_ledger(folder).spent("adversarial")


def finish(folder, process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    ran, spent = count(folder)
    assert (folder / "checkpoint").read_text().split()[0] == str(TOTAL)
    return ran, spent


def test_an_uninterrupted_run_is_counted_exactly(tmp_path):
    assert finish(tmp_path, start(tmp_path)) == (TOTAL, TOTAL)


def test_the_count_survives_kill_9_at_random_moments(tmp_path):
    moments, kills = random.Random(5), 0
    while kills < 6:
        process = start(tmp_path)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(moments.uniform(0.0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        kills += 1
        ran, spent = count(tmp_path)
        # Every process leaves at most one block that did not run.
        assert ran <= spent <= ran + BLOCK * kills
    assert kills >= 3
    ran, spent = finish(tmp_path, start(tmp_path))
    # The weights have all updates; those lost since a checkpoint ran twice and are counted twice.
    assert TOTAL <= ran <= TOTAL + CHECKPOINT_EVERY * kills
    assert ran <= spent <= ran + BLOCK * kills
    # Against the updates in the weights, a kill costs at most a block.
    assert spent <= TOTAL + BLOCK * kills
