import errno
import io
import os
import stat

import pytest

from tf_mtl_privacy import files
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.progress import Progress


def test_private_dir_is_for_its_owner_only(tmp_path):
    folder = files.private_dir(tmp_path / "a" / "b")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert files.private_dir(folder) == folder


def test_private_dir_makes_parents_private_and_keeps_existing_ones(tmp_path):
    before = os.umask(0o022)
    try:
        (tmp_path / "there").mkdir()
        files.private_dir(tmp_path / "there" / "new" / "inner")
        files.private_dir(tmp_path / "there")
    finally:
        os.umask(before)
    modes = [
        stat.S_IMODE((tmp_path / name).stat().st_mode)
        for name in ("there", "there/new", "there/new/inner")
    ]
    assert modes == [0o755, 0o700, 0o700]


@pytest.mark.parametrize(("content", "accepted"), [(None, True), ("mark", True), ("other", False)])
def test_private_dir_tightens_own_folders_and_refuses_others(tmp_path, content, accepted):
    folder = tmp_path / "run"
    folder.mkdir()
    folder.chmod(0o755)
    if content:
        (folder / content).touch()
    if accepted:
        files.private_dir(folder, tighten=("mark",))
    else:
        with pytest.raises(RunError, match=r"run has other content .*mode 0755.*chmod go-rwx"):
            files.private_dir(folder, tighten=("mark",))
    assert stat.S_IMODE(folder.stat().st_mode) == (0o700 if accepted else 0o755)


def test_private_dir_names_a_folder_it_cannot_make(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write to folder .*file"):
        files.private_dir(tmp_path / "file" / "folder")


@pytest.mark.parametrize(("private", "mode"), [(True, 0o600), (False, 0o644)])
def test_write_atomic_sets_content_and_mode(tmp_path, private, mode):
    before = os.umask(0o022)
    try:
        files.write_atomic(tmp_path / "f", "é", private=private)
    finally:
        os.umask(before)
    assert (tmp_path / "f").read_bytes() == "é".encode()
    assert stat.S_IMODE((tmp_path / "f").stat().st_mode) == mode


def test_write_atomic_failure_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "f"
    files.write_atomic(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*f: No space left on device"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_write_json_round_trip_and_refused_values(tmp_path):
    files.write_json(tmp_path / "x.json", {"b": [1, None], "a": 0.5})
    assert files.read_json(tmp_path / "x.json") == {"a": 0.5, "b": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert files.read_json(tmp_path / "x.json")["a"] == 0.5


@pytest.mark.parametrize("content", [None, "{", "\x00"])
def test_read_json_names_an_unreadable_file(tmp_path, content):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RunError, match=r"x\.json"):
        files.read_json(path)


def test_progress_in_a_log_file_prints_rate_and_time_left(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("tf_mtl_privacy.progress.time.monotonic", lambda: clock[0])
    log = io.StringIO()
    with Progress(10, "work", "rows", stream=log) as progress:
        for _ in range(8):
            clock[0] += 5.0
            progress.update()
        clock[0] += 1.0
    lines = log.getvalue().splitlines()
    # A line every 15 seconds: after 3 and 6 units of 5 seconds each.
    assert lines == [
        "work: 3/10 rows, 12.0 rows/min, 35 s left",
        "work: 6/10 rows, 12.0 rows/min, 20 s left",
    ]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def lines_of(monkeypatch, seconds, total=79, **options):
    """Returns the log of updates that take these seconds."""
    clock = [100.0]
    monkeypatch.setattr("tf_mtl_privacy.progress.time.monotonic", lambda: clock[0])
    log = io.StringIO()
    with Progress(total, "business 1/4", stream=log) as progress:
        for taken in seconds:
            clock[0] += taken
            progress.update(**options)
    return log.getvalue().splitlines()


def test_progress_first_step_that_compiles_has_no_time_left(monkeypatch):
    # 30 s of compiling, then 0.25 s a step: by the plain mean there were 2340 s left at first.
    lines = lines_of(monkeypatch, [30.0, *[0.25] * 78], note="loss 0.500")
    assert lines == [
        "business 1/4: 1/79 steps loss 0.500",
        # 60 steps in 15 s after the first one; 18 are left.
        "business 1/4: 61/79 steps, 4.0 steps/s, 4 s left loss 0.500",
    ]


def test_progress_untimed_units_do_not_count(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("tf_mtl_privacy.progress.time.monotonic", lambda: clock[0])
    log = io.StringIO()
    with Progress(10, "attackers", "attackers", stream=log) as progress:
        clock[0] = 1.0
        progress.update(3, timed=False)
        clock[0] = 20.0
        progress.update()
        clock[0] = 40.0
        progress.update(2)
    # Two units in the 20 s after the first that was worked on; four are left.
    assert log.getvalue().splitlines() == [
        "attackers: 4/10 attackers",
        "attackers: 6/10 attackers, 6.0 attackers/min, 40 s left",
    ]


def test_progress_bar_shows_no_time_left_before_the_second_step(monkeypatch):
    clock = [1000.0]
    monkeypatch.setattr("tf_mtl_privacy.progress.time.time", lambda: clock[0])
    monkeypatch.setattr("tqdm.std.time", lambda: clock[0])
    terminal = Terminal()
    with Progress(79, "business 1/4", stream=terminal) as progress:
        clock[0] += 30.0
        progress.update()
        first = terminal.getvalue().rpartition("\r")[2]
        for _ in range(40):
            clock[0] += 0.25
            progress.update()
        later = terminal.getvalue().rpartition("\r")[2]
    assert "1/79" in first and "<?" in first, first
    # 38 steps of 0.25 s are left.
    assert "41/79" in later and "<00:09" in later and "4.00 steps/s" in later, later


def test_newest_version_is_the_highest_number_with_the_file(tmp_path):
    for name in ("2", "10", "011", "12", "later"):
        (tmp_path / name).mkdir()
    for name in ("2", "10", "later"):
        (tmp_path / name / "file").touch()
    assert [path.name for path in files.numbered(tmp_path)] == ["2", "10", "011", "12"]
    assert files.newest_version(tmp_path, "file") == tmp_path / "10"
    assert files.newest_version(tmp_path / "2", "file") == tmp_path / "2"
    assert files.newest_version(tmp_path / "12", "file") is None
    assert files.newest_version(tmp_path / "none", "file") is None
