"""One update of the mask and its reader: its figures by hand, what moves and when."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.removal.mask import Cover, find_regions
from tf_mtl_privacy.removal.mask_training import build_region_reader, make_region_step

SIZE, CLASSES, ROWS = 32, 3, 8


class Game:
    """Fresh networks and optimizers, the same ones for the same seed, and the step on them."""

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
            found = self.step(*map(tf.constant, batch or rows()))
        return {name: float(value) for name, value in found.items()}

    @property
    def variables(self):
        optimizers = [v for optimizer in self.optimizers for v in optimizer.variables]
        return [*self.finder.weights, *self.reader.weights, *optimizers]

    def odds(self, image):
        return self.finder(np.float32(image) / 255).numpy().astype(np.float64)


def rows(labels=None, mask=None, seed=0, count=ROWS):
    """Pictures whose class is the colour of their middle."""
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
    """What the reader says in training mode, without any change of its statistics."""
    kept = values(game.reader.weights)
    found = game.reader(game.cover([np.float32(image) / 255, cells]), training=True).numpy()
    game.reader.set_weights(kept)
    return found


def test_region_step_during_warmup_gives_figures_by_hand():
    """Nothing is covered, every row is read; the area is that of the mask that is tried later."""
    game, (image, labels, mask) = Game(warmup_steps=5), rows()
    logits = _log_softmax(_logits(game, image, np.zeros((ROWS, 8, 8, 1), np.float32)))
    area = np.mean(1 / (1 + np.exp(-game.odds(image))))
    found = game.run(1, (image, labels, mask))
    assert found["reader_loss"] == pytest.approx(-logits[range(ROWS), labels].mean(), rel=1e-5)
    assert found["mask_area"] == pytest.approx(area, rel=1e-5)
    assert found["mask_confusion"] == 0.0


def test_the_figures_of_the_game_by_hand():
    """A mask that is certain covers every row but each fourth, which the reader goes on to see."""
    game, (image, labels, mask) = Game(bias=60.0), rows()
    cells = np.ones((ROWS, 8, 8, 1), np.float32)
    cells[::4] = 0.0
    logits = _log_softmax(_logits(game, image, cells))
    found = game.run(1, (image, labels, mask))
    covered = np.arange(ROWS) % 4 > 0
    expected = -logits[covered].mean() - np.log(CLASSES)
    assert found["reader_loss"] == pytest.approx(-logits[range(ROWS), labels].mean(), rel=1e-5)
    assert found["mask_confusion"] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert found["mask_area"] == pytest.approx(1.0)


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


def test_a_mask_that_is_not_trainable_in_its_encoder_still_learns():
    """As `models.mask.masked` has it: the step names the weights itself."""
    game = Game()
    game.finder.trainable = False
    before = values(game.finder.weights)
    game.run(1)
    assert moved(before, game.finder.weights)


def test_the_area_falls_with_the_price():
    areas = [Game(price=price).run(60)["mask_area"] for price in (0.01, 3.0, 100.0)]
    assert areas[0] > areas[1] + 0.02 > areas[2] + 0.02
    assert areas[2] < 0.05


def test_the_reader_learns_what_it_sees():
    game = Game(warmup_steps=1000)
    first = game.run(1)["reader_loss"]
    assert game.run(40)["reader_loss"] < 0.3 * first


def test_the_mask_hides_what_the_reader_finds():
    """The class is the colour of the middle: it is covered, and the rest is not.

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


def test_labels_of_padding_and_unknown_labels_are_never_read():
    mask, labels = np.arange(ROWS) < 6, np.arange(ROWS) % CLASSES
    labels[2] = -1
    first, second = Game(warmup_steps=1), Game(warmup_steps=1)
    for game, padding in ((first, [0, 1]), (second, [2, -1])):
        labels[6:] = padding
        game.run(3, rows(labels, mask))
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_game_that_is_gone_on_with_takes_the_same_steps():
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
