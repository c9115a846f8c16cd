import numpy as np
import pytest

from tests.fakes.sources import MemorySource
from tf_mtl_privacy.data.preparing import prepare_store
from tf_mtl_privacy.data.store import IMAGES, META, Store
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import read_json, write_json

ROWS = 700


@pytest.fixture
def source():
    return MemorySource(ROWS)


@pytest.fixture
def store(tmp_path, source):
    prepare_store(source, tmp_path / "cache" / "s", max_damaged=0.0)
    return Store(tmp_path / "cache" / "s")


def test_random_rows_come_back_in_the_order_asked_for(store, source):
    rows = np.array([699, 0, 511, 512, 511, 3])
    np.testing.assert_array_equal(store.images(rows), source.pixels[rows])
    assert store.images(rows).dtype == np.uint8
    np.testing.assert_array_equal(store.regions(rows), source.masks[rows])
    assert store.regions(rows).dtype == np.bool_


def test_labels_come_back(store, source):
    expected = source.load()
    assert len(store) == ROWS and store.size == 32 and store.has_regions
    np.testing.assert_array_equal(store.table.attributes["glad"], expected.attributes["glad"])
    np.testing.assert_array_equal(store.table.attributes["wide"], expected.attributes["wide"])
    assert store.table.attribute_classes == expected.attribute_classes
    np.testing.assert_array_equal(store.table.split, expected.split)
    np.testing.assert_array_equal(store.table.person, expected.person)
    np.testing.assert_array_equal(store.table.keys, expected.keys)
    assert store.table.landmarks is None
    assert store.table.notes == ("made of noise",)


@pytest.mark.parametrize("row", [-1, ROWS])
def test_a_row_outside_is_refused(store, row):
    with pytest.raises(IndexError, match=f"expected 0 to {ROWS - 1}"):
        store.images(np.array([0, row]))
    with pytest.raises(IndexError):
        store.regions(np.array([row]))


def test_what_is_read_is_a_copy(store, source):
    images = store.images(np.arange(4))
    images[:] = 0
    np.testing.assert_array_equal(store.images(np.arange(4)), source.pixels[:4])


def test_only_the_owner_can_read_it(store):
    assert store.folder.stat().st_mode & 0o077 == 0
    assert store.folder.parent.stat().st_mode & 0o077 == 0


def test_no_regions_where_the_source_has_none(tmp_path):
    prepare_store(MemorySource(5, has_regions=False), tmp_path / "c" / "s", max_damaged=0.0)
    store = Store(tmp_path / "c" / "s")
    assert not store.has_regions
    with pytest.raises(RunError, match="no sensitive regions"):
        store.regions(np.array([0]))


@pytest.mark.parametrize("name", [IMAGES, "regions.bits", "split.npy", "attributes.npy"])
def test_verify_finds_one_changed_byte(store, name):
    store.verify()
    path = store.folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"checksum differs.*--force"):
        Store(store.folder).verify()


def test_a_store_cut_short_is_refused(store):
    path = store.folder / IMAGES
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"images.u8 has \d+ bytes.*--force"):
        Store(store.folder)


def test_a_store_of_another_format_is_refused(store):
    meta = read_json(store.folder / META)
    write_json(store.folder / META, meta | {"format_version": 99})
    with pytest.raises(RunError, match="format 99"):
        Store(store.folder)
    (store.folder / META).unlink()
    with pytest.raises(RunError, match=META):
        Store(store.folder)


def test_labels_are_never_unpickled(store):
    np.save(store.folder / "split.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(RunError, match="damaged"):
        Store(store.folder)
