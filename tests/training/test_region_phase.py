"""The mask's phase: whose labels it reads, what it measures, where it stands among the phases."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.training.tiny import new_run, tiny_arrays, tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.removal.base import public_faces
from tf_mtl_privacy.removal.mask import colour_of, is_masked
from tf_mtl_privacy.removal.mask_training import MaskFitting, colour_axis
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
    """(pictures, labels) of one epoch, without padding."""
    batches = [
        [np.array(part) for part in phase.inputs(0, step)] for step in range(phase.steps_per_epoch)
    ]
    images = np.concatenate([image[mask] for image, _, mask in batches])
    return images, np.concatenate([labels[mask] for _, labels, mask in batches])


def prints(images):
    return {image.tobytes() for image in images}


def test_public_faces_are_of_no_split_of_the_run(tmp_path):
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
    # Faces that are shifted on purpose are for evaluation.
    shifted = dataclasses.replace(config.data, synthetic_shift="blur")
    again = faces_of(dataclasses.replace(config, data=shifted))
    assert again.fingerprint == public.fingerprint


def test_public_labels_train_the_mask_and_those_of_the_run_are_not_read(tmp_path):
    config = masked_config(tmp_path)
    own, public = open_dataset(config.data), faces_of(config)
    blind = own.all_labels._replace(private=np.full_like(own.all_labels.private, -1))
    phase = phase_of(part_of(config, dataclasses.replace(own, all_labels=blind)))
    assert (phase.name, phase.epochs) == ("regions", 1)
    # 135 faces in batches of 64: what is left over goes into no batch's statistics.
    assert phase.steps_per_epoch == 2
    images, labels = read_by(phase)
    assert len(images) == 128 and (labels >= 0).all()
    assert prints(images) <= prints(public.store.images(public.rows["train"]))
    phase.step(phase.inputs(0, 0))
    measured = phase.validate()
    assert set(measured) == {"region_reader_accuracy", "mask_area"}
    assert all(0 <= value <= 1 for value in measured.values())


def test_train_labels_are_those_of_the_labelled_training_rows(tmp_path):
    config = masked_config(tmp_path, labels="train")
    dataset = tiny_arrays(60, unlabelled=20)
    phase = phase_of(part_of(config, dataset))
    images, labels = read_by(phase)
    assert sorted(labels) == sorted(dataset.labels("train").private[:40])
    assert prints(images) == prints(dataset.store.images(np.arange(40)))
    phase.step(phase.inputs(0, 0))
    # By hand: held-out rows are covered as the mask is, not as it tries.
    measured = phase.validate()
    assert round(12 * measured["region_reader_accuracy"]) == pytest.approx(
        12 * measured["region_reader_accuracy"]
    )
    assert not (tmp_path / "cache").exists()


def test_what_is_measured_by_hand(tmp_path):
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


def test_without_labelled_held_out_rows_nothing_is_measured(tmp_path):
    dataset = tiny_arrays(40)
    dataset = dataclasses.replace(
        dataset, rows=dataset.rows | {"validation": np.zeros(0, np.int64)}
    )
    part = part_of(masked_config(tmp_path, labels="train"), dataset)
    assert phase_of(part).validate() == {}


def test_other_private_classes_than_the_public_faces_are_refused(tmp_path):
    part = part_of(masked_config(tmp_path), tiny_arrays(40))
    with pytest.raises(UsageError, match=r"--region_labels=public: .*--private_label=iris"):
        phase_of(part)


def test_where_the_phase_stands(tmp_path):
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


def test_the_mask_is_off_until_it_is_trained_and_on_from_then(tmp_path):
    config, dataset = masked_config(tmp_path, labels="train"), tiny_arrays(40)
    run = new_run(config, dataset, tmp_path)
    phases, bundle = Phases(run), run.bundle
    seen = {}
    for name in schedule.phase_epochs(config):
        phases.build(name)
        seen[name] = is_masked(bundle.encoder)
    assert list(seen) == ORDER
    assert seen == dict.fromkeys(ORDER, True) | {"business": False, "regions": False}
    # A run that is gone on with comes from a later phase or from an earlier one.
    phases.build("business")
    assert not is_masked(bundle.encoder)
    assert phases.networks["region_reader"]


@pytest.mark.usefixtures("untraced_here")
def test_a_whole_run_with_a_mask(tmp_path):
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


def test_the_colour_is_found_before_the_first_epoch_and_stays(tmp_path):
    config, dataset = masked_config(tmp_path, labels="train", mask_fill="colour"), tiny_arrays(60)
    encoder = build_encoder(config.model, 32, seed=1, removal=config.removal)
    part = MaskFitting(config, dataset, encoder)
    phase, colour = phase_of(part), colour_of(encoder)
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
def test_a_mask_that_would_never_learn_is_refused(tmp_path, epochs, warmup):
    config = masked_config(tmp_path, region_epochs=epochs, mask_warmup_steps=warmup)
    message = rf"--region_epochs={epochs}: .*--mask_warmup_steps={warmup};"
    with pytest.raises(UsageError, match=message):
        part_of(config, tiny_arrays(40))


def test_too_few_rows_for_a_colour_are_refused(tmp_path):
    config = masked_config(
        tmp_path, labels="train", mask_fill="colour", region_epochs=9, mask_warmup_steps=0
    )
    data = tiny_arrays(40)
    few = dataclasses.replace(data, rows=data.rows | {"train": data.rows["train"][:1]})
    with pytest.raises(UsageError, match="--mask_fill=colour: 1 labelled rows"):
        phase_of(part_of(config, few)).before_epoch(0)
