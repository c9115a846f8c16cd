"""Prepared stores: making, resuming after a kill, reading, verifying."""

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
from tf_mtl_privacy.data.store import IMAGES, META, Store
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import read_json, write_json

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


def test_prepare_store_after_kill_9_reuses_finished_blocks(tmp_path):
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


def test_prepare_store_after_ctrl_c_reuses_finished_blocks(tmp_path):
    folder = tmp_path / "c" / "s"
    with pytest.raises(KeyboardInterrupt):
        prepare_store(MemorySource(ROWS, stop_at=ROWS - 1), folder, max_damaged=0.0, workers=1)
    source = MemorySource(ROWS)
    prepare_store(source, folder, max_damaged=0.0)
    assert 0 < len(source.read_rows) < ROWS
    assert Store(folder).checksum == checksum(tmp_path)


def test_prepare_log_truncated_line_is_dropped(tmp_path):
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


def test_prepare_store_two_processes_make_one_valid_store(tmp_path):
    folder = tmp_path / "c" / "s"
    processes = [start_slow(folder, 0.1) for _ in range(2)]
    texts = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], texts
    assert sum("another process is preparing" in text for text in texts) <= 1
    Store(folder).verify()
    assert Store(folder).checksum == checksum(tmp_path)


def test_prepare_store_existing_store_is_kept_unless_forced(tmp_path):
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


def test_prepare_store_damaged_images_are_listed_and_left_out(tmp_path):
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


def test_prepare_store_too_many_damaged_images_stop_it(tmp_path):
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


def test_prepare_store_repaired_pictures_are_read_again(tmp_path):
    folder = tmp_path / "c" / "s"
    damaged = {700: "truncated JPEG"}
    with pytest.raises(RunError, match="1 damaged"):
        prepare_store(MemorySource(1000, damaged), folder, max_damaged=0.0, workers=1)
    mended = MemorySource(1000)
    prepare_store(mended, folder, max_damaged=0.0)
    assert sorted(mended.read_rows) == list(range(512, 1000)), "only the block with the damage"
    assert Store(folder).meta["damaged"] == []
    Store(folder).verify()


def test_prepare_store_force_discards_unfinished_work(tmp_path):
    folder = tmp_path / "c" / "s"
    with pytest.raises(KeyboardInterrupt):
        prepare_store(MemorySource(ROWS, stop_at=ROWS - 1), folder, max_damaged=0.0, workers=1)
    again = MemorySource(ROWS)
    prepare_store(again, folder, max_damaged=0.0, force=True)
    assert sorted(again.read_rows) == list(range(ROWS))
    Store(folder).verify()


def test_prepare_store_empty_source_is_refused(tmp_path):
    with pytest.raises(RunError, match="the data set has no images"):
        prepare_store(MemorySource(0), tmp_path / "c" / "s", max_damaged=0.0)


def test_prepare_store_checks_disk_space_first(tmp_path, monkeypatch):
    free = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    source = MemorySource(1000)
    with pytest.raises(RunError, match=r"No space left on device.* needs 3 MB more, 1 MB are free"):
        prepare_store(source, tmp_path / "c" / "s", max_damaged=0.0)
    assert source.read_rows == []


def test_prepare_store_full_disk_is_one_line_and_resumable(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(preparing.os, "pwrite", full)
        with pytest.raises(RunError, match=r"cannot write to .*/c: No space left on device$"):
            prepare_store(MemorySource(ROWS), tmp_path / "c" / "s", max_damaged=0.0)
    assert not (tmp_path / "c" / "s").exists()
    prepare_store(MemorySource(ROWS), tmp_path / "c" / "s", max_damaged=0.0)
    Store(tmp_path / "c" / "s").verify()


def test_prepare_store_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "c").write_text("a file where the cache should be")
    with pytest.raises(RunError, match=r"cannot write to folder .*/c: File exists"):
        prepare_store(MemorySource(5), tmp_path / "c" / "s", max_damaged=0.0)


def test_store_folder_names_data_size_and_fingerprint(tmp_path):
    source = MemorySource(5)
    source.name = "tfds:some/thing"
    assert store_folder(source, tmp_path).name == "tfds_some_thing-32px-v1-" + "0" * 16


def test_prepare_store_checksum_does_not_depend_on_threads(tmp_path):
    for workers in (1, 3):
        folder = tmp_path / "c" / str(workers)
        prepare_store(MemorySource(ROWS), folder, max_damaged=0.0, workers=workers)
    one, three = (Store(tmp_path / "c" / str(workers)) for workers in (1, 3))
    assert one.checksum == three.checksum


def test_prepare_store_warns_of_duplicate_pictures(tmp_path, caplog):
    source = MemorySource(12, damaged={5: "broken", 8: "broken"})
    # Rows 0 and 3 are of the first split, row 7 of the second; damaged ones are all black.
    source.pixels[[3, 7]] = source.pixels[0]
    source.pixels[10] = source.pixels[4]
    prepare_store(source, tmp_path / "c" / "s", max_damaged=0.5)
    text = (
        "3 pictures repeat an earlier one under another name, 1 of them in another split (for "
        "example 7.png and 0.png): they count twice"
    )
    assert Store(tmp_path / "c" / "s").meta["warnings"] == [text] and text in caplog.text
    prepare_store(MemorySource(12), tmp_path / "c" / "other", max_damaged=0.0)
    assert Store(tmp_path / "c" / "other").meta["warnings"] == []


STORED_ROWS = 700


@pytest.fixture
def source():
    return MemorySource(STORED_ROWS)


@pytest.fixture
def store(tmp_path, source):
    prepare_store(source, tmp_path / "cache" / "s", max_damaged=0.0)
    return Store(tmp_path / "cache" / "s")


def test_store_returns_rows_in_the_requested_order(store, source):
    rows = np.array([699, 0, 511, 512, 511, 3])
    np.testing.assert_array_equal(store.images(rows), source.pixels[rows])
    assert store.images(rows).dtype == np.uint8
    np.testing.assert_array_equal(store.regions(rows), source.masks[rows])
    assert store.regions(rows).dtype == np.bool_


def test_store_returns_labels(store, source):
    expected = source.load()
    assert len(store) == STORED_ROWS and store.size == 32 and store.has_regions
    np.testing.assert_array_equal(store.table.attributes["glad"], expected.attributes["glad"])
    np.testing.assert_array_equal(store.table.attributes["wide"], expected.attributes["wide"])
    assert store.table.attribute_classes == expected.attribute_classes
    np.testing.assert_array_equal(store.table.split, expected.split)
    np.testing.assert_array_equal(store.table.person, expected.person)
    np.testing.assert_array_equal(store.table.keys, expected.keys)
    assert store.table.landmarks is None
    assert store.table.notes == ("made of noise",)


@pytest.mark.parametrize("row", [-1, STORED_ROWS])
def test_store_row_out_of_range_is_refused(store, row):
    with pytest.raises(IndexError, match=f"expected 0 to {STORED_ROWS - 1}"):
        store.images(np.array([0, row]))
    with pytest.raises(IndexError):
        store.regions(np.array([row]))


def test_store_images_are_copies(store, source):
    images = store.images(np.arange(4))
    images[:] = 0
    np.testing.assert_array_equal(store.images(np.arange(4)), source.pixels[:4])


def test_store_is_private(store):
    assert store.folder.stat().st_mode & 0o077 == 0
    assert store.folder.parent.stat().st_mode & 0o077 == 0


def test_store_without_regions_refuses_them(tmp_path):
    prepare_store(MemorySource(5, has_regions=False), tmp_path / "c" / "s", max_damaged=0.0)
    store = Store(tmp_path / "c" / "s")
    assert not store.has_regions
    with pytest.raises(RunError, match="no sensitive regions"):
        store.regions(np.array([0]))


@pytest.mark.parametrize("name", [IMAGES, "regions.bits", "split.npy", "attributes.npy"])
def test_store_verify_finds_one_changed_byte(store, name):
    store.verify()
    path = store.folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"checksum differs.*--force"):
        Store(store.folder).verify()


def test_store_truncated_file_is_refused(store):
    path = store.folder / IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"images.u8 has \d+ bytes.*--force"):
        Store(store.folder)


def test_store_other_format_is_refused(store):
    meta = read_json(store.folder / META)
    write_json(store.folder / META, meta | {"format_version": 99})
    with pytest.raises(RunError, match="format 99"):
        Store(store.folder)
    (store.folder / META).unlink()
    with pytest.raises(RunError, match=META):
        Store(store.folder)


def test_store_labels_are_never_unpickled(store):
    np.save(store.folder / "split.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="damaged"):
        Store(store.folder)
