"""Evaluating a run: which file is written, and what is refused."""

import dataclasses
import json
import types

import numpy as np
import pytest

from tf_mtl_privacy.config import Config, DataConfig, TrainConfig
from tf_mtl_privacy.data import Labels
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.probes.saved import networks, weights_digest
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.reporting.evaluate_run import evaluate_run, results_path


@pytest.fixture
def run(bundle, dataset, monkeypatch):
    """A run whose loading and data are in memory."""
    saved = types.SimpleNamespace(
        config=Config(DataConfig(image_size=32), train=TrainConfig(model="mtl_adv")),
        task_classes=dataset.task_classes,
        private_classes=dataset.private_classes,
        bundle=bundle,
        single_task={},
        data_fingerprint=dataset.fingerprint,
        status={"gates": {}, "stop_rule": None, "training": {"steps": 5}, "dp": None},
        dataset=dataset,
    )
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: saved)
    monkeypatch.setattr("tf_mtl_privacy.data.opening.open_dataset", lambda _: saved.dataset)
    return saved


def test_the_result_is_written_and_returned(run, tmp_path):
    found = evaluate_run(tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == found
    assert found["schema_version"] == 1 and found["model"] == "mtl_adv"
    assert found["evaluated_on"]["dataset"] == "synthetic_faces"
    assert found["evaluated_on"]["changed"] == {}
    assert found["evaluated_on"]["data_fingerprint"] == run.data_fingerprint
    assert found["training"] == {"steps": 5}
    assert found["dp"]["epsilon_pld"] is None and found["dp"]["reason"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "regions.png",
        "restored.png",
        "results.json",
    ]
    assert found["regions"]["source"] == "discriminator" and found["regions"]["iou"] is None
    assert found["regions"]["reason"] == (
        "synthetic_faces does not say where the sensitive region is"
    )


def attackers(accuracy, setting="fast"):
    """A probe whose strongest attacker on features reads so much."""
    figures = {"name": "x", "accuracy": accuracy, "balanced_accuracy": accuracy, "n": 100}
    strongest = figures | {"ci95": [accuracy - 0.1, accuracy + 0.1]}
    return {"setting": setting, "features": {"strongest": strongest}, "not_checked": []}


def test_weaker_attackers_do_not_lower_the_leakage_of_the_same_weights(run, tmp_path, monkeypatch):
    def read(accuracy, audit=None):
        digest = weights_digest(networks(run))
        found = attackers(accuracy) | {"weights": digest}
        monkeypatch.setattr(
            "tf_mtl_privacy.evaluation.probes.saved.probe_run", lambda *a, **b: found
        )
        if audit is not None:
            about = {"schema_version": 1, "weights": digest, "attributes": audit}
            (tmp_path / "audit.json").write_text(json.dumps(about))
        result = evaluate_run(tmp_path, probe="fast")
        assert result["privacy"]["probe"]["features"]["strongest"]["accuracy"] == accuracy
        return result["privacy"]["leakage"]["features"]["accuracy"]

    assert read(0.5) == 0.5
    assert read(0.2) == 0.5
    # An audit by stronger attackers lies beside it.
    assert read(0.2, audit=attackers(0.8, "thorough")) == 0.8
    (tmp_path / "audit.json").unlink()
    assert read(0.2) == 0.8
    # Of other weights nothing is known yet, and a damaged result says nothing.
    run.bundle.encoder.set_weights([1.01 * values for values in run.bundle.encoder.get_weights()])
    assert read(0.2) == 0.2
    (tmp_path / "results.json").write_text("{")
    assert read(0.3) == 0.3


def test_pictures_of_people_are_written_only_when_asked_for(run, tmp_path):
    people = dataclasses.replace(run.config.data, dataset="csv", data_dir="x", tasks="gender=g")
    evaluate_run(tmp_path, people)
    assert [path.name for path in tmp_path.iterdir()] == ["results_csv.json"]
    evaluate_run(tmp_path, people, pictures=True)
    assert (tmp_path / "restored_csv.png").exists() and (tmp_path / "regions_csv.png").exists()


def test_what_is_different_and_noted_stands_in_the_result(run, tmp_path):
    run.dataset = dataclasses.replace(
        run.dataset,
        notes=("labels are classifier scores",),
        private_classes=("other",),
        task_classes={**run.dataset.task_classes, "gender": ("0", "1")},
    )
    found = evaluate_run(tmp_path, dataclasses.replace(run.config.data, synthetic_shift="blur"))
    assert found["evaluated_on"]["label_note"] == "labels are classifier scores"
    assert found["evaluated_on"]["changed"] == {"synthetic_shift": "blur"}
    assert len(found["evaluated_on"]["notes"]) == 1
    assert found["privacy"]["discriminator"] is None
    assert "another private label" in found["privacy"]["reason"]
    # The run's own class names, whatever the data calls them.
    assert set(found["utility"]["gender"]["recall"]) == {"female", "male"}


def test_data_that_sorts_the_same_classes_otherwise_gives_the_same_result(run, tmp_path):
    before = evaluate_run(tmp_path)
    data = run.dataset
    labels = dict(data.all_labels.business)
    # 'female', 'male' as 'male', 'female', with the numbers that belong to them.
    assert data.task_classes["gender"] == ("female", "male")
    labels["gender"] = np.where(labels["gender"] >= 0, 1 - labels["gender"], -1).astype(np.int32)
    count = len(data.private_classes)
    private = data.all_labels.private
    private = np.where(private >= 0, count - 1 - private, -1).astype(np.int32)
    run.dataset = dataclasses.replace(
        data,
        task_classes={**data.task_classes, "gender": ("male", "female")},
        private_classes=data.private_classes[::-1],
        all_labels=Labels(labels, private),
    )
    found = evaluate_run(tmp_path)
    assert found["utility"] == before["utility"] and found["privacy"] == before["privacy"]
    assert found["evaluated_on"]["notes"] == []


def test_single_task_networks_each_answer_for_their_own_task(run, tmp_path):
    import keras

    bundles = {}
    for task in run.task_classes:
        inputs = run.bundle.business.input
        head = keras.Model(inputs, {task: run.bundle.business.output[task]})
        bundles[task] = Bundle(run.bundle.encoder, head)
    together = evaluate_run(tmp_path)
    run.bundle, run.single_task = bundles["gender"], bundles
    found = evaluate_run(tmp_path)
    assert found["utility"] == together["utility"]
    assert found["privacy"]["discriminator"] is None and found["utility_on_restored"] is None
    assert found["regions"]["source"] is None


def test_another_image_size_is_refused(run, tmp_path):
    with pytest.raises(UsageError, match="--image_size=64: the run's networks take 32"):
        evaluate_run(tmp_path, dataclasses.replace(run.config.data, image_size=64))


def test_a_run_s_own_data_must_be_what_it_was_trained_on(run, tmp_path):
    run.data_fingerprint = "0123456789abcdef"
    with pytest.raises(RunError, match=r"fingerprint .*then 01234567.*test rows may be training"):
        evaluate_run(tmp_path)
    assert not list(tmp_path.iterdir())
    # Other data on purpose is fine, and its result does not take the place of the run's own.
    evaluate_run(tmp_path, dataclasses.replace(run.config.data, data_seed=1), pictures=False)
    assert [p.name for p in tmp_path.iterdir()] == ["results_synthetic_faces_data_seed-1.json"]


def test_two_folders_of_one_kind_have_two_results(run, tmp_path):
    people = dataclasses.replace(run.config.data, dataset="lfw", data_dir="x", private_label="none")
    first = run.dataset
    for prints in ("aaaaaaaa11", "bbbbbbbb22"):
        run.dataset = dataclasses.replace(first, digest=prints, key_folder=None)
        evaluate_run(tmp_path, people)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["results_lfw_aaaaaaaa.json", "results_lfw_bbbbbbbb.json"]


def test_a_split_without_rows_is_refused(run, tmp_path):
    rows = {**run.dataset.rows, "validation": np.zeros(0, np.int64)}
    run.dataset = dataclasses.replace(run.dataset, rows=rows)
    with pytest.raises(UsageError, match="--split=validation: synthetic_faces has no such rows"):
        evaluate_run(tmp_path, split="validation")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_attackers_are_not_tested_on_rows_that_they_learn_from(run, tmp_path, split):
    """Of data that is not drawn they learn from validation rows, or from training rows."""
    with pytest.raises(UsageError) as error:
        evaluate_run(tmp_path, split=split, probe="fast")
    assert str(error.value) == (
        f"--split={split}: fresh attackers (--probe=fast) are tested on test rows; leave out one "
        "of the two"
    )
    assert not list(tmp_path.iterdir())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "split", "name"),
    [
        ({}, "test", "results.json"),
        ({"cache_dir": "/elsewhere"}, "test", "results.json"),
        ({}, "validation", "results_validation.json"),
        ({"synthetic_shift": "blur"}, "test", "results_synthetic_faces_synthetic_shift-blur.json"),
        ({"dataset": "lfw", "data_dir": "x"}, "test", "results_lfw.json"),
        (
            {"dataset": "tfds:celeb_a", "data_dir": "x"},
            "train",
            "results_tfds_celeb_a_train.json",
        ),
    ],
)
def test_results_of_other_data_have_their_own_file(changes, split, name, tmp_path):
    own = DataConfig()
    used = dataclasses.replace(own, **changes)
    assert results_path(tmp_path, own, used, split) == tmp_path / name


def test_another_folder_of_pictures_is_other_data(tmp_path):
    own = DataConfig(dataset="csv", data_dir="/data/mine", tasks="gender=g")
    used = dataclasses.replace(own, data_dir="/data/yours")
    found = results_path(tmp_path, own, used, fingerprint="0123456789abcdef")
    assert found.name == "results_csv_01234567.json"
    # Here the same files lie in another place.
    assert results_path(tmp_path, own, used).name == "results.json"
    assert results_path(tmp_path, own, own).name == "results.json"
