"""The mask: its reader, its step and its phase, and the colour axis that it removes."""

import dataclasses
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import new_run, tiny_arrays, tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.removal.base import public_faces
from tf_mtl_privacy.removal.mask import Cover, WithoutAxis, find_regions, is_masked
from tf_mtl_privacy.removal.mask_training import (
    MaskFitting,
    build_region_reader,
    colour_axis,
    make_region_step,
)
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.phases import Phases

ORDER = ["business", "regions", "discriminator", "restorer", "adversarial"]


def masked_config(tmp_path, model="mtl_adv", *, labels="public", train=None, **removal):
    options = {"mask_width": 4, "region_rows": 150, "region_epochs": 1, "mask_warmup_steps": 0}
    config = tiny_config(model, **(train or {}))
    data = dataclasses.replace(config.data, cache_dir=str(tmp_path / "cache"))
    chosen = RemovalConfig(mask="learned", region_labels=labels, **(options | removal))
    return dataclasses.replace(config, data=data, removal=chosen)


def phase_of(part):
    return part.phase("regions", part._config.removal.region_epochs)


def part_of(config, dataset):
    encoder = build_encoder(config.model, 32, seed=1, removal=config.removal)
    return MaskFitting(config, dataset, encoder)


def faces_of(config):
    return public_faces(config, "region_labels", open_dataset(config.data).private_classes)


def read_by(phase):
    """Returns (images, labels) of one epoch, without padding."""
    batches = [
        [np.array(part) for part in phase.inputs(0, step)] for step in range(phase.steps_per_epoch)
    ]
    images = np.concatenate([image[mask] for image, _, mask in batches])
    return images, np.concatenate([labels[mask] for _, labels, mask in batches])


def prints(images):
    return {image.tobytes() for image in images}


def test_public_faces_are_in_no_split_of_the_run(tmp_path):
    config = masked_config(tmp_path)
    public, own = faces_of(config), open_dataset(config.data)
    rows = public.rows
    assert {name: len(numbers) for name, numbers in rows.items()} == {
        "train": 135,
        "validation": 15,
        "test": 0,
    }
    used = np.concatenate([rows["train"], rows["validation"]])
    assert len(set(used.tolist())) == 150
    assert all(key.startswith("backbone/") for key in public.keys[used])
    assert not any(key.startswith("backbone/") for key in own.keys)
    drawn = prints(public.store.images(used))
    assert len(drawn) == 150
    for split in ("train", "validation", "test"):
        assert drawn.isdisjoint(prints(own.store.images(own.rows[split])))
    assert public.private_classes == own.private_classes
    # Shifted faces are for evaluation only.
    shifted = dataclasses.replace(config.data, synthetic_shift="blur")
    again = faces_of(dataclasses.replace(config, data=shifted))
    assert again.fingerprint == public.fingerprint


def test_mask_on_public_labels_reads_none_of_the_run(tmp_path):
    config = masked_config(tmp_path)
    own, public = open_dataset(config.data), faces_of(config)
    blind = own.all_labels._replace(private=np.full_like(own.all_labels.private, -1))
    phase = phase_of(part_of(config, dataclasses.replace(own, all_labels=blind)))
    assert (phase.name, phase.epochs) == ("regions", 1)
    # 135 faces in batches of 64: the incomplete batch is dropped.
    assert phase.steps_per_epoch == 2
    images, labels = read_by(phase)
    assert len(images) == 128 and (labels >= 0).all()
    assert prints(images) <= prints(public.store.images(public.rows["train"]))
    phase.step(phase.inputs(0, 0))
    measured = phase.validate()
    assert set(measured) == {"region_reader_accuracy", "mask_area"}
    assert all(0 <= value <= 1 for value in measured.values())


def test_mask_on_train_labels_reads_labelled_training_rows(tmp_path):
    config = masked_config(tmp_path, labels="train")
    dataset = tiny_arrays(60, unlabelled=20)
    phase = phase_of(part_of(config, dataset))
    images, labels = read_by(phase)
    assert sorted(labels) == sorted(dataset.labels("train").private[:40])
    assert prints(images) == prints(dataset.store.images(np.arange(40)))
    phase.step(phase.inputs(0, 0))
    # Held-out rows are covered by the mask itself, without exploration.
    measured = phase.validate()
    assert round(12 * measured["region_reader_accuracy"]) == pytest.approx(
        12 * measured["region_reader_accuracy"]
    )
    assert not (tmp_path / "cache").exists()


def test_mask_figures_match_hand_calculation(tmp_path):
    config, dataset = masked_config(tmp_path, labels="train"), tiny_arrays(40)
    encoder = build_encoder(config.model, 32, seed=1, removal=config.removal)
    part = MaskFitting(config, dataset, encoder)
    rng, odds = np.random.default_rng(0), part._finder
    last = [layer for layer in odds.layers if layer.weights][-1]
    last.kernel.assign(rng.normal(0, 1, last.kernel.shape))
    last.bias.assign(np.zeros(last.bias.shape))
    rows = dataset.rows["validation"]
    picture = tf.cast(dataset.store.images(rows), tf.float32) / 255.0
    cells = np.float32(odds(picture).numpy() > 0)
    assert 0.05 < cells.mean() < 0.95
    logits = part._reader(part._cover([picture, cells]), training=False).numpy()
    hits = np.mean(logits.argmax(1) == dataset.labels_of(rows).private)
    assert phase_of(part).validate() == pytest.approx(
        {"region_reader_accuracy": hits, "mask_area": cells.mean()}
    )


def test_mask_without_labelled_validation_rows_measures_nothing(tmp_path):
    dataset = tiny_arrays(40)
    dataset = dataclasses.replace(
        dataset, rows=dataset.rows | {"validation": np.zeros(0, np.int64)}
    )
    part = part_of(masked_config(tmp_path, labels="train"), dataset)
    assert phase_of(part).validate() == {}


def test_mask_with_other_private_classes_is_refused(tmp_path):
    part = part_of(masked_config(tmp_path), tiny_arrays(40))
    with pytest.raises(UsageError, match=r"--region_labels=public: .*--private_label=iris"):
        phase_of(part)


def test_mask_phase_order_depends_on_scope(tmp_path):
    config = masked_config(tmp_path, region_epochs=7)
    assert list(schedule.phase_epochs(config)) == ORDER
    assert schedule.phase_epochs(config)["regions"] == 7
    everything = dataclasses.replace(config.privacy, dp_scope="all")
    private = dataclasses.replace(
        config,
        privacy=everything,
        model=dataclasses.replace(config.model, backbone="another run"),
        train=dataclasses.replace(config.train, model="mtl_adv_dp"),
    )
    assert list(schedule.phase_epochs(private)) == ["regions", "business", *ORDER[2:]]
    for model in ("mtl_dp", "stl"):
        other = dataclasses.replace(config, train=dataclasses.replace(config.train, model=model))
        assert "regions" not in schedule.phase_epochs(other)


def test_mask_is_off_until_trained(tmp_path):
    config, dataset = masked_config(tmp_path, labels="train"), tiny_arrays(40)
    run = new_run(config, dataset, tmp_path)
    phases, bundle = Phases(run), run.bundle
    seen = {}
    for name in schedule.phase_epochs(config):
        phases.build(name)
        seen[name] = is_masked(bundle.encoder)
    assert list(seen) == ORDER
    assert seen == dict.fromkeys(ORDER, True) | {"business": False, "regions": False}
    # A resumed run may build an earlier phase after a later one.
    phases.build("business")
    assert not is_masked(bundle.encoder)
    assert phases.networks["region_reader"]


@pytest.mark.usefixtures("untraced_here")
def test_run_with_mask_releases_mask_without_reader(tmp_path):
    train = dict.fromkeys((f"{name}_epochs" for name in ORDER if name != "regions"), 1)
    config = masked_config(tmp_path, train=train | {"early_gates": False}, region_rows=80)
    run = fit(config, run_dir=tmp_path / "run")
    assert is_masked(run.bundle.encoder)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [line["phase"] for line in lines] == ORDER
    assert "mask_area" in json.dumps(lines[1])
    weights = sorted(path.name for path in (tmp_path / "run" / "models").iterdir())
    assert weights == [
        f"{name}.weights.h5" for name in ("business", "discriminator", "encoder", "restorer")
    ], "the reader is not part of what is released"


def test_mask_colour_axis_is_found_before_first_epoch_and_stays(tmp_path):
    config, dataset = masked_config(tmp_path, labels="train", mask_fill="colour"), tiny_arrays(60)
    encoder = build_encoder(config.model, 32, seed=1, removal=config.removal)
    part = MaskFitting(config, dataset, encoder)
    phase, colour = phase_of(part), first_layer(encoder, WithoutAxis)
    np.testing.assert_array_equal(colour.axis.numpy(), np.zeros(3))
    phase.before_epoch(1)
    np.testing.assert_array_equal(colour.axis.numpy(), np.zeros(3))
    phase.before_epoch(0)
    rows = dataset.rows["train"]
    expected = colour_axis(
        [(dataset.store.images(rows), dataset.labels_of(rows).private)],
        len(dataset.private_classes),
    )
    np.testing.assert_allclose(colour.axis.numpy(), expected, atol=1e-6)
    weights = [weight.numpy() for weight in part._finder.weights]
    for step in range(3):
        phase.step(phase.inputs(0, step % phase.steps_per_epoch))
    np.testing.assert_allclose(colour.axis.numpy(), expected, atol=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(weights, part._finder.weights, strict=True)]
    assert sum(change > 0 for change in moved) == len(moved) - 1, "all of it but the axis"


@pytest.mark.parametrize(("epochs", "warmup"), [(0, 0), (1, 2), (1, 500)])
def test_mask_phase_shorter_than_warmup_is_refused(tmp_path, epochs, warmup):
    config = masked_config(tmp_path, region_epochs=epochs, mask_warmup_steps=warmup)
    message = rf"--region_epochs={epochs}: .*--mask_warmup_steps={warmup};"
    with pytest.raises(UsageError, match=message):
        part_of(config, tiny_arrays(40))


def test_mask_colour_axis_of_too_few_rows_is_refused(tmp_path):
    config = masked_config(
        tmp_path, labels="train", mask_fill="colour", region_epochs=9, mask_warmup_steps=0
    )
    data = tiny_arrays(40)
    few = dataclasses.replace(data, rows=data.rows | {"train": data.rows["train"][:1]})
    with pytest.raises(UsageError, match="--mask_fill=colour: 1 labelled rows"):
        phase_of(part_of(config, few)).before_epoch(0)


SIZE, CLASSES, ROWS = 32, 3, 8


class Game:
    """New networks and optimizers, equal for equal seeds, and the step on them."""

    def __init__(self, *, price=3.0, warmup_steps=0, seed=5, rate=1e-2, bias=None):
        inputs = keras.Input((SIZE, SIZE, 3))
        self.finder = keras.Model(inputs, find_regions(inputs, cell=4, width=4, seed=1))
        self.reader = build_region_reader(SIZE, CLASSES, width=4, seed=1)
        self.cover = Cover(4, "grey")
        self.optimizers = keras.optimizers.Adam(rate), keras.optimizers.Adam(3 * rate)
        if bias is not None:
            last = [layer for layer in self.finder.layers if layer.weights][-1]
            last.kernel.assign(np.zeros(last.kernel.shape))
            last.bias.assign([bias])
        self.step = make_region_step(
            self.finder,
            self.reader,
            self.cover,
            self.optimizers,
            price=price,
            warmup_steps=warmup_steps,
            seed=seed,
        )

    def run(self, count, batch=None):
        for _ in range(count):
            actual = self.step(*map(tf.constant, batch or rows()))
        return {name: float(value) for name, value in actual.items()}

    @property
    def variables(self):
        optimizers = [v for optimizer in self.optimizers for v in optimizer.variables]
        return [*self.finder.weights, *self.reader.weights, *optimizers]

    def odds(self, image):
        return self.finder(np.float32(image) / 255).numpy().astype(np.float64)


def rows(labels=None, mask=None, seed=0, count=ROWS):
    """Images whose class is the colour of their centre."""
    rng = np.random.default_rng(seed)
    known = np.arange(count) % CLASSES
    image = rng.integers(0, 80, (count, SIZE, SIZE, 3)).astype(np.uint8)
    image[np.arange(count), 12:20, 12:20, known] = 255
    labels = known if labels is None else np.array(labels)
    return image, labels.astype(np.int32), np.ones(count, bool) if mask is None else np.array(mask)


def values(weights):
    return [weight.numpy() for weight in weights]


def moved(before, weights):
    return any(not np.array_equal(a, b.numpy()) for a, b in zip(before, weights, strict=True))


def _log_softmax(logits):
    logits = logits.astype(np.float64)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def _logits(game, image, cells):
    """Returns the reader's logits in training mode without changing its statistics."""
    kept = values(game.reader.weights)
    actual = game.reader(game.cover([np.float32(image) / 255, cells]), training=True).numpy()
    game.reader.set_weights(kept)
    return actual


def test_region_step_during_warmup_gives_figures_by_hand():
    """Nothing is covered and every row is read; the area is that of the mask explored later."""
    game, (image, labels, mask) = Game(warmup_steps=5), rows()
    logits = _log_softmax(_logits(game, image, np.zeros((ROWS, 8, 8, 1), np.float32)))
    area = np.mean(1 / (1 + np.exp(-game.odds(image))))
    actual = game.run(1, (image, labels, mask))
    assert actual["reader_loss"] == pytest.approx(-logits[range(ROWS), labels].mean(), rel=1e-5)
    assert actual["mask_area"] == pytest.approx(area, rel=1e-5)
    assert actual["mask_confusion"] == 0.0


def test_region_step_figures_match_hand_calculation():
    """A certain mask covers all but every fourth row, which the reader still sees."""
    game, (image, labels, mask) = Game(bias=60.0), rows()
    cells = np.ones((ROWS, 8, 8, 1), np.float32)
    cells[::4] = 0.0
    logits = _log_softmax(_logits(game, image, cells))
    actual = game.run(1, (image, labels, mask))
    covered = np.arange(ROWS) % 4 > 0
    expected = -logits[covered].mean() - np.log(CLASSES)
    assert actual["reader_loss"] == pytest.approx(-logits[range(ROWS), labels].mean(), rel=1e-5)
    assert actual["mask_confusion"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert actual["mask_area"] == pytest.approx(1.0)


def test_region_step_during_warmup_updates_only_the_reader():
    game = Game(warmup_steps=3)
    mask, reader = values(game.finder.weights), values(game.reader.weights)
    game.run(3)
    assert not moved(mask, game.finder.weights)
    assert moved(reader, game.reader.weights)
    assert int(game.optimizers[0].iterations) == 0 and int(game.optimizers[1].iterations) == 3
    game.run(1)
    assert moved(mask, game.finder.weights)
    assert int(game.optimizers[0].iterations) == 1 and int(game.optimizers[1].iterations) == 4


def test_region_step_updates_mask_frozen_in_its_encoder():
    """`mask.masked` freezes the mask's weights; the step names them itself."""
    game = Game()
    game.finder.trainable = False
    before = values(game.finder.weights)
    game.run(1)
    assert moved(before, game.finder.weights)


def test_region_step_with_higher_price_covers_less():
    areas = [Game(price=price).run(60)["mask_area"] for price in (0.01, 3.0, 100.0)]
    assert areas[0] > areas[1] + 0.02 > areas[2] + 0.02
    assert areas[2] < 0.05


def test_region_step_trains_reader():
    game = Game(warmup_steps=1000)
    first = game.run(1)["reader_loss"]
    assert game.run(40)["reader_loss"] < 0.3 * first


def test_region_step_covers_informative_cells():
    """The class is the colour of the centre: the centre is covered, and the rest is not.

    Mask and reader chase each other, so one moment is not enough: the odds are the mean over many,
    once the game has settled. How long that takes differs between processors.
    """
    game = Game(price=3.0, warmup_steps=20)
    game.run(40, rows(count=32))
    for moment in range(28):
        game.run(5, rows(seed=moment, count=32))
    covered = []
    for moment in range(28, 40):
        game.run(5, rows(seed=moment, count=32))
        covered.append(1 / (1 + np.exp(-game.odds(rows(seed=100, count=32)[0])[..., 0])))
    middle = np.zeros((8, 8), bool)
    middle[3:5, 3:5] = True
    inside, outside = (np.mean(np.array(covered)[..., where]) for where in (middle, ~middle))
    assert inside > 0.5
    assert inside > 3 * outside


def test_region_step_ignores_padding_and_unknown_labels():
    mask, labels = np.arange(ROWS) < 6, np.arange(ROWS) % CLASSES
    labels[2] = -1
    first, second = Game(warmup_steps=1), Game(warmup_steps=1)
    for game, padding in ((first, [0, 1]), (second, [2, -1])):
        labels[6:] = padding
        game.run(3, rows(labels, mask))
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_region_step_resumed_gives_same_steps():
    whole, stopped = Game(warmup_steps=2), Game(warmup_steps=2)
    batches = [rows(seed=seed) for seed in range(6)]
    for batch in batches:
        whole.run(1, batch)
    for batch in batches[:3]:
        stopped.run(1, batch)
    again = Game(warmup_steps=2)
    for kept, variable in zip(stopped.variables, again.variables, strict=True):
        variable.assign(kept)
    for batch in batches[3:]:
        again.run(1, batch)
    for a, b in zip(whole.variables, again.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    # The control: draws of another seed lead elsewhere.
    other = Game(warmup_steps=2, seed=6)
    for batch in batches:
        other.run(1, batch)
    assert moved(values(whole.finder.weights), other.finder.weights)


IMAGE, COLOUR_CLASSES = 12, 4
PLANTED = np.array([0.48, -0.76, 0.44])
PLANTED /= np.linalg.norm(PLANTED)


def planted(rows=4000, strength=20.0, seed=0):
    """Images of correlated noise in which the class moves some pixels along `PLANTED`."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, COLOUR_CLASSES, rows)
    mixing = np.array([[30.0, 10, 0], [10, 20, 5], [0, 5, 15]])
    images = 128 + rng.normal(0, 1, (rows, IMAGE, IMAGE, 3)) @ mixing
    pattern = rng.normal(0, 1, (COLOUR_CLASSES, 3, 3, 1)) * PLANTED * strength
    images[:, 4:7, 5:8] += pattern[labels]
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), labels


def in_parts(images, labels, size=700):
    return [(images[k : k + size], labels[k : k + size]) for k in range(0, len(labels), size)]


def degrees(axis, other=PLANTED):
    return np.degrees(np.arccos(min(1.0, abs(float(axis @ other)))))


def test_colour_axis_finds_planted_axis_in_any_batches():
    images, labels = planted()
    axis = colour_axis([(images, labels)], COLOUR_CLASSES)
    assert axis.dtype == np.float32 and np.linalg.norm(axis) == pytest.approx(1.0, abs=1e-6)
    assert degrees(axis) < 2.0
    assert axis[np.argmax(np.abs(axis))] > 0
    np.testing.assert_allclose(
        colour_axis(in_parts(images, labels), COLOUR_CLASSES), axis, atol=1e-5
    )
    # A class that never occurs changes nothing.
    np.testing.assert_allclose(colour_axis([(images, labels)], COLOUR_CLASSES + 3), axis, atol=1e-6)


def test_colour_axis_with_more_images_is_closer():
    few, many = (
        np.mean(
            [degrees(colour_axis([planted(rows, 4.0, seed)], COLOUR_CLASSES)) for seed in range(6)]
        )
        for rows in (400, 6400)
    )
    assert many < 0.5 * few


def test_colour_axis_is_that_of_class_means_not_of_variance():
    """Two classes whose means differ by a known vector, with noise along another one."""
    rng = np.random.default_rng(3)
    labels = np.arange(20_000) % 2
    loud, informative = (
        np.array([1.0, 1.0, 1.0]) / np.sqrt(3),
        np.array([1.0, -1.0, 0.0]) / np.sqrt(2),
    )
    colour = (
        128 + rng.normal(0, 25, (20_000, 1)) * loud + np.where(labels, 8, -8)[:, None] * informative
    )
    images = np.rint(colour + rng.normal(0, 2, (20_000, 3))).astype(np.uint8)[:, None, None]
    axis = colour_axis([(np.broadcast_to(images, (20_000, 4, 4, 3)), labels)], 2)
    assert degrees(axis, informative) < 3.0


def test_colour_axis_of_too_few_images_is_refused():
    images, labels = planted(8)
    for part in (slice(0, 1), labels == labels[0]):
        with pytest.raises(ValueError, match="two classes and more images"):
            colour_axis([(images[part], labels[part])], COLOUR_CLASSES)


@pytest.mark.parametrize(("size", "cells"), [(32, 16), (64, 32), (96, 24), (128, 32)])
def test_region_reader_accepts_any_size(size, cells):
    reader = build_region_reader(size, 8, width=4, seed=0)
    assert reader.input_shape == (None, size, size, 4)
    assert reader(np.zeros((2, size, size, 4), np.float32)).shape == (2, 8)
    assert reader.get_layer("third").output.shape[1:3] == (cells, cells)


def test_region_reader_parameters_match_hand_calculation():
    """Kernels without bias, four numbers for each normalised channel, and the logits."""
    w, classes = 16, 8
    first, second, third = 25 * 4 * w, 9 * w * 2 * w, 9 * 2 * w * 2 * w
    norms = 4 * (w + 2 * w + 2 * w)
    assert build_region_reader(64, classes, width=w, seed=0).count_params() == (
        first + second + third + norms + 2 * w * classes + classes
    )
    # A larger image takes one more halving.
    assert build_region_reader(128, classes, width=w, seed=0).count_params() == (
        first + second + third + norms + 2 * w * classes + classes + 9 * w * w + 4 * w
    )


def test_region_reader_weights_follow_from_seed():
    first, again, other = (build_region_reader(32, 3, width=4, seed=s) for s in (1, 1, 2))
    for a, b in zip(first.weights, again.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.abs(first.weights[0].numpy() - other.weights[0].numpy()).max() > 0.01


def test_region_reader_finds_detail_anywhere():
    """A spot moved by whole cells, far from the border, gives the same logits."""
    reader = build_region_reader(32, 3, width=4, seed=1)
    here, there = (np.zeros((1, 32, 32, 4), np.float32) for _ in range(2))
    spot = np.random.default_rng(0).normal(size=(4, 4, 4))
    here[0, 12:16, 12:16], there[0, 16:20, 14:18] = spot, spot
    np.testing.assert_allclose(reader(here), reader(there), atol=1e-5)
    assert np.abs(reader(here).numpy() - reader(np.zeros_like(here)).numpy()).max() > 1e-3
