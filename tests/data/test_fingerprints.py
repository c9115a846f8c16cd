"""Fingerprints that are published: keyed, comparable on one machine, and honest across two."""

import hashlib
import hmac
import os
import stat

import numpy as np
import pytest

from tests.fakes.folders import write_csv
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import Dataset, open_dataset
from tf_mtl_privacy.data.fingerprints import (
    KEY_FILE,
    fingerprint_key,
    keyed,
    same_data,
    stands_for,
    unknown_key,
)
from tf_mtl_privacy.errors import RunError

DIGEST = "5e" * 32


def test_keyed_is_the_hmac_of_the_digest():
    key = bytes(range(32))
    mac, _, key_id = keyed(DIGEST, key).partition(".")
    assert mac == hmac.new(key, DIGEST.encode(), hashlib.sha256).hexdigest()
    assert len(key_id) == 8 and key_id not in key.hex()
    assert keyed(DIGEST, key) != keyed("5f" * 32, key)
    assert keyed(DIGEST, bytes(32)).partition(".")[2] != key_id


def test_fingerprint_key_is_random_persistent_and_private(tmp_path):
    one, other = (fingerprint_key(tmp_path / name) for name in "ab")
    assert one != other and len(one) == len(other) == 32
    path = tmp_path / "a" / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == [KEY_FILE]
    path.chmod(0o644)
    assert fingerprint_key(tmp_path / "a") == one
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_fingerprint_key_second_process_uses_the_first_key(tmp_path, monkeypatch):
    first = fingerprint_key(tmp_path)
    # It saw no key before the other made one.
    monkeypatch.setattr(type(tmp_path), "exists", lambda self: self.name != KEY_FILE)
    assert fingerprint_key(tmp_path) == first
    assert [entry.name for entry in os.scandir(tmp_path)] == [KEY_FILE]


def test_fingerprint_key_truncated_file_is_refused(tmp_path):
    (tmp_path / KEY_FILE).write_bytes(b"short")
    with pytest.raises(RunError, match=r"fingerprint.key has 5 bytes, not 32"):
        fingerprint_key(tmp_path)


def test_stands_for_accepts_copied_keys_and_plain_digests(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    recorded = keyed(DIGEST, fingerprint_key(there))
    fingerprint_key(here)
    assert stands_for(recorded, DIGEST, [here]) is None
    assert stands_for(recorded, DIGEST, [tmp_path / "gone"]) is None
    assert stands_for(recorded, DIGEST, [here, there]) is True
    assert stands_for(recorded, "5f" * 32, [here, there]) is False
    # The message says where the key is to be put; there it is found.
    key_id = recorded.partition(".")[2]
    copied = here / f"fingerprint-{key_id}.key"
    assert str(copied) in unknown_key(recorded, here)
    copied.write_bytes((there / KEY_FILE).read_bytes())
    assert stands_for(recorded, DIGEST, [here]) is True
    assert stands_for(DIGEST, DIGEST, [here]) is True
    assert stands_for("5f" * 32, DIGEST, [here]) is False


def test_same_data_compares_only_equal_keys():
    one, other = bytes(32), bytes(range(32))
    assert same_data([]) is True and same_data([DIGEST, DIGEST]) is True
    assert same_data([DIGEST, "5f" * 32]) is False
    assert same_data([keyed(DIGEST, one)] * 2) is True
    assert same_data([keyed(DIGEST, one), keyed("5f" * 32, one)]) is False
    assert same_data([keyed(DIGEST, one), keyed(DIGEST, other)]) is None
    assert same_data([keyed(DIGEST, one), DIGEST]) is None
    assert same_data([keyed(DIGEST, one), keyed("5f" * 32, one), DIGEST]) is False


def faces(tmp_path, cache):
    rows = [{"file": f"{k}.png", "mood": str(k % 2), "identity": f"p{k}"} for k in range(9)]
    write_csv(tmp_path / "faces", rows)
    return open_dataset(
        DataConfig(
            dataset="csv",
            data_dir=str(tmp_path / "faces"),
            cache_dir=str(tmp_path / cache),
            image_size=32,
            tasks="mood=mood",
            private_label="none",
        )
    )


def test_fingerprint_depends_on_the_key(tmp_path):
    one, other = faces(tmp_path, "one"), faces(tmp_path, "other")
    assert one.digest == other.digest == one.store.fingerprint
    assert one.fingerprint != other.fingerprint and one.digest not in one.fingerprint
    assert one.fingerprint == faces(tmp_path, "one").fingerprint
    assert (tmp_path / "one" / KEY_FILE).exists()
    assert one.matches(one.fingerprint) is True and one.matches(other.fingerprint) is None
    assert one.matches(other.fingerprint, tmp_path / "other") is True
    assert one.matches(one.digest) is True, "as an older run has it"
    assert one.matches("") is False


def test_fingerprint_does_not_confirm_a_guessed_row(tmp_path):
    generator = np.random.default_rng(0)
    given = {
        "images": generator.integers(0, 256, (6, 16, 16, 3), np.uint8),
        "business": {"mood": np.array([0, 1, 2, -1, 1, 0])},
        "split": np.array([0, 0, 0, 1, 2, -1]),
    }
    published = Dataset.from_arrays(**given, cache_dir=str(tmp_path / "mine")).fingerprint
    guess = Dataset.from_arrays(**given, cache_dir=str(tmp_path / "theirs"))
    assert guess.fingerprint != published and guess.digest not in published
    again = Dataset.from_arrays(**given, cache_dir=str(tmp_path / "mine"))
    assert again.fingerprint == published


def test_fingerprint_of_synthetic_faces_needs_no_key(tmp_path):
    config = DataConfig(
        image_size=32, train_rows=3, validation_rows=1, test_rows=1, cache_dir=str(tmp_path)
    )
    drawn = open_dataset(config)
    assert drawn.fingerprint == drawn.digest == drawn.store.fingerprint
    assert not (tmp_path / KEY_FILE).exists()
    assert drawn.matches(drawn.digest) is True and drawn.matches(f"{DIGEST}.01234567") is False
