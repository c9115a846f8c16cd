import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from tests.fakes.sources import MemorySource
from tf_mtl_privacy.data import preparing
from tf_mtl_privacy.data.preparing import JOURNAL, Block, PrepareLog, prepare_store, store_folder
from tf_mtl_privacy.data.store import Store
from tf_mtl_privacy.errors import RunError

BLOCK = 512  # rows of a block at 32x32
ROWS = 5 * BLOCK + 100

SLOW_PREPARE = """
import sys
from pathlib import Path
from tests.fakes.sources import MemorySource
from tf_mtl_privacy.data.preparing import prepare_store
prepare_store(MemorySource({rows}, delay={delay}), Path(sys.argv[1]), max_damaged=0.0, workers=1)
"""


def start_slow(folder, delay):
    script = SLOW_PREPARE.format(rows=ROWS, delay=delay)
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stderr=subprocess.PIPE)


def checksum(tmp_path):
    prepare_store(MemorySource(ROWS), tmp_path / "reference" / "s", max_damaged=0.0)
    return Store(tmp_path / "reference" / "s").checksum


def test_what_kill_9_left_is_finished_without_doing_a_block_again(tmp_path):
    folder = tmp_path / "c" / "s"
    journal = tmp_path / "c" / "s.partial" / JOURNAL
    process = start_slow(folder, 0.4)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if journal.exists() and journal.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = [json.loads(line)["start"] for line in journal.read_bytes().splitlines()]
    assert 2 <= len(done) < 6 and not folder.exists()

    source = MemorySource(ROWS)
    prepare_store(source, folder, max_damaged=0.0)
    expected = [r for r in range(ROWS) if r // BLOCK * BLOCK not in done]
    assert sorted(source.read_rows) == expected
    assert Store(folder).checksum == checksum(tmp_path)
    Store(folder).verify()
    assert not (tmp_path / "c" / "s.partial").exists()
    assert not (folder / JOURNAL).exists()


def test_ctrl_c_keeps_finished_blocks(tmp_path):
    folder = tmp_path / "c" / "s"
    with pytest.raises(KeyboardInterrupt):
        prepare_store(MemorySource(ROWS, stop_at=ROWS - 1), folder, max_damaged=0.0, workers=1)
    source = MemorySource(ROWS)
    prepare_store(source, folder, max_damaged=0.0)
    assert 0 < len(source.read_rows) < ROWS
    assert Store(folder).checksum == checksum(tmp_path)


def test_a_torn_line_of_the_journal_is_dropped(tmp_path):
    path = tmp_path / JOURNAL
    with PrepareLog(path) as journal:
        journal.add(0, Block("ab", [(3, "truncated")]))
        journal.add(512, Block("cd", []))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    with PrepareLog(path) as journal:
        assert journal.blocks == {0: Block("ab", [(3, "truncated")])}
        assert journal.damaged() == [(3, "truncated")]
        journal.forget_damaged()
        assert journal.blocks == {} and journal.damaged() == []
        journal.add(512, Block("cd", []))
    assert path.read_bytes() == whole


def test_two_processes_at_once_make_one_sound_store(tmp_path):
    folder = tmp_path / "c" / "s"
    processes = [start_slow(folder, 0.1) for _ in range(2)]
    texts = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    assert sum("another process prepares" in text for text in texts) <= 1
    Store(folder).verify()
    assert Store(folder).checksum == checksum(tmp_path)


def test_a_store_that_is_there_is_left_alone_unless_forced(tmp_path):
    folder = tmp_path / "c" / "s"
    prepare_store(MemorySource(40), folder, max_damaged=0.0)
    before = (folder / "images.u8").stat()
    again = MemorySource(40)
    prepare_store(again, folder, max_damaged=0.0)
    assert again.read_rows == [] and (folder / "images.u8").stat() == before
    prepare_store(again, folder, max_damaged=0.0, force=True)
    assert sorted(again.read_rows) == list(range(40))
    Store(folder).verify()
    assert sorted(p.name for p in folder.parent.iterdir() if not p.name.startswith(".")) == ["s"]


def test_damaged_images_are_counted_listed_and_left_out(tmp_path):
    damaged = {7: "truncated JPEG", 600: "no such file"}
    prepare_store(MemorySource(1000, damaged), tmp_path / "c" / "s", max_damaged=0.002)
    store = Store(tmp_path / "c" / "s")
    expected = [[7, "7.png", "truncated JPEG"], [600, "600.png", "no such file"]]
    assert store.meta["damaged"] == expected
    with open(store.folder / "damaged.csv", newline="") as file:
        listed = list(csv.reader(file))
    assert listed == [["row", "image", "reason"], ["7", "7.png", "truncated JPEG"], *listed[2:]]
    assert len(listed) == 3
    assert np.flatnonzero(store.table.split == -1).tolist() == [7, 600]
    assert not store.images(np.array([7, 600])).any()


def test_too_many_damaged_images_stop_it_with_the_first_three(tmp_path):
    damaged = {row: f"reason {row}" for row in (2, 5, 6, 9)}
    with pytest.raises(RunError) as caught:
        prepare_store(MemorySource(100, damaged), tmp_path / "c" / "s", max_damaged=0.03)
    text = str(caught.value)
    assert "4 damaged or missing among the 100 images" in text and "--max_damaged=0.03" in text
    assert text.endswith("2.png: reason 2; 5.png: reason 5; 6.png: reason 6")
    assert not (tmp_path / "c" / "s").exists()
    assert (tmp_path / "c" / "s.partial").exists()
    prepare_store(MemorySource(100, damaged), tmp_path / "c" / "s", max_damaged=0.04)
    assert len(Store(tmp_path / "c" / "s").meta["damaged"]) == 4


def test_pictures_mended_since_an_unfinished_attempt_are_read_again(tmp_path):
    folder = tmp_path / "c" / "s"
    damaged = {700: "truncated JPEG"}
    with pytest.raises(RunError, match="1 damaged"):
        prepare_store(MemorySource(1000, damaged), folder, max_damaged=0.0, workers=1)
    mended = MemorySource(1000)
    prepare_store(mended, folder, max_damaged=0.0)
    assert sorted(mended.read_rows) == list(range(512, 1000)), "only the block with the damage"
    assert Store(folder).meta["damaged"] == []
    Store(folder).verify()


def test_force_does_not_go_on_with_what_is_half_done(tmp_path):
    folder = tmp_path / "c" / "s"
    with pytest.raises(KeyboardInterrupt):
        prepare_store(MemorySource(ROWS, stop_at=ROWS - 1), folder, max_damaged=0.0, workers=1)
    again = MemorySource(ROWS)
    prepare_store(again, folder, max_damaged=0.0, force=True)
    assert sorted(again.read_rows) == list(range(ROWS))
    Store(folder).verify()


def test_an_empty_source_is_refused(tmp_path):
    with pytest.raises(RunError, match="no image at all"):
        prepare_store(MemorySource(0), tmp_path / "c" / "s", max_damaged=0.0)


def test_a_disk_that_is_too_small_is_found_before_the_work(tmp_path, monkeypatch):
    free = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    source = MemorySource(1000)
    with pytest.raises(RunError, match=r"No space left on device.* needs 3 MB more, 1 MB are free"):
        prepare_store(source, tmp_path / "c" / "s", max_damaged=0.0)
    assert source.read_rows == []


def test_a_disk_that_fills_up_is_one_line_and_resumable(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(preparing.os, "pwrite", full)
        with pytest.raises(RunError, match=r"cannot write to .*/c: No space left on device$"):
            prepare_store(MemorySource(ROWS), tmp_path / "c" / "s", max_damaged=0.0)
    assert not (tmp_path / "c" / "s").exists()
    prepare_store(MemorySource(ROWS), tmp_path / "c" / "s", max_damaged=0.0)
    Store(tmp_path / "c" / "s").verify()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "c").write_text("a file where the cache should be")
    with pytest.raises(RunError, match=r"cannot write to folder .*/c: File exists"):
        prepare_store(MemorySource(5), tmp_path / "c" / "s", max_damaged=0.0)


def test_the_folder_is_named_after_data_size_and_fingerprint(tmp_path):
    source = MemorySource(5)
    source.name = "tfds:some/thing"
    assert store_folder(source, tmp_path).name == "tfds_some_thing-32px-v1-" + "0" * 16


def test_the_checksum_does_not_depend_on_the_number_of_threads(tmp_path):
    for workers in (1, 3):
        folder = tmp_path / "c" / str(workers)
        prepare_store(MemorySource(ROWS), folder, max_damaged=0.0, workers=workers)
    one, three = (Store(tmp_path / "c" / str(workers)) for workers in (1, 3))
    assert one.checksum == three.checksum


def test_pictures_that_are_there_twice_are_told(tmp_path, caplog):
    source = MemorySource(12, damaged={5: "broken", 8: "broken"})
    # Rows 0 and 3 are of the first split, row 7 of the second; damaged ones are all black.
    source.pixels[[3, 7]] = source.pixels[0]
    source.pixels[10] = source.pixels[4]
    prepare_store(source, tmp_path / "c" / "s", max_damaged=0.5)
    text = (
        "3 pictures are the same as an earlier one under another name, 1 of them in another split "
        "(7.png and 0.png, say): they count twice"
    )
    assert Store(tmp_path / "c" / "s").meta["warnings"] == [text] and text in caplog.text
    prepare_store(MemorySource(12), tmp_path / "c" / "other", max_damaged=0.0)
    assert Store(tmp_path / "c" / "other").meta["warnings"] == []
