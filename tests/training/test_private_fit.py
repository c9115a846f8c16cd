"""Private training through `fit`: keys, bounded people, sampling, and void guarantees."""

import json

import keras
import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.tiny import private_config, tiny_arrays
from tf_mtl_privacy.data.store import ArrayStore
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import Bundle, build_bundle
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, read_ledger
from tf_mtl_privacy.training import context
from tf_mtl_privacy.training.fit import fit

pytestmark = pytest.mark.usefixtures("untraced")


def trained(run_dir, config=None, dataset=None, **options):
    """Returns the discriminator's weights and the `dp` section of the run's results."""
    config = config or private_config({"target_epsilon": 2.0})
    run = fit(config, dataset or tiny_arrays(), run_dir=run_dir, **options)
    status = json.loads((run_dir / "training.json").read_text())
    return [np.array(v) for v in run.bundle.discriminator.variables], status["dp"]


def same(ours, theirs):
    return [np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.fixture(scope="module")
def secret_run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("secret"))


def test_private_run_states_its_epsilon(secret_run):
    dp = secret_run[1]
    phase = dp["phases"]["discriminator"]
    # 40 rows, 16 a step: 3 steps an epoch, two epochs.
    assert (phase["steps"], phase["steps_in_weights"], phase["rows"]) == (6, 6, 40)
    assert phase["sampling_probability"] == pytest.approx(0.4)
    expected = reference_epsilon([(phase["noise_multiplier"], 0.4, 6)], 1e-5)
    assert 0.97 * 2 < dp["epsilon_pld"] <= 2
    assert dp["epsilon_pld"] == pytest.approx(expected, rel=1e-3)
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"] < dp["epsilon_rdp"]
    assert set(dp["released"].values()) == {None} and dp["scope"] == "discriminator"
    assert (dp["void"], dp["sampling"], dp["steps"]) == (False, "poisson", 6)
    assert dp["budget_ended"] == {} and dp["budgets"][0]["target_epsilon"] == 2.0
    game = dp["phases"]["adversarial_discriminator"]
    assert (game["steps"], game["steps_in_weights"], game["epsilon_pld"]) == (0, 0, 0)


def test_unreachable_target_is_reported_in_one_line(tmp_path, secret_run):
    lines = []
    config = private_config({"target_epsilon": 400.0}, discriminator_epochs=1)
    _, dp = trained(tmp_path, config, report=lines.append)
    (note,) = [line for line in lines if "not the target 400" in line]
    assert note == f"note: {dp['budgets'][0]['missed']}" and "\n" not in note
    # Rounded up to three decimals; the run took the whole plan.
    assert dp["epsilon_pld"] < 0.98 * 400
    assert float(note.split()[6].rstrip(",")) == pytest.approx(dp["epsilon_pld"], rel=5e-3)
    assert secret_run[1]["budgets"][0]["missed"] is None
    assert secret_run[1]["budgets"][0]["exceeded"] is None


def test_runs_with_secret_keys_differ(secret_run, tmp_path):
    again, dp = trained(tmp_path)
    assert not any(same(again, secret_run[0]))
    assert dp["epsilon_pld"] == secret_run[1]["epsilon_pld"]


def test_runs_with_same_test_key_are_equal_and_void(tmp_path):
    ours, dp = trained(tmp_path / "ours", test_key=5)
    theirs, _ = trained(tmp_path / "theirs", test_key=5)
    assert all(same(ours, theirs))
    assert not any(same(ours, trained(tmp_path / "other", test_key=6)[0]))
    assert dp["void"] and "fixed key" in dp["void_reason"] and "fixed key" in dp["reason"]
    assert dp["conditional"] == {"discriminator": None}
    assert dp["epsilon_pld"] is dp["as_run"]["epsilon_pld"] is None
    assert read_ledger(tmp_path / "ours" / "checkpoints").void == dp["void_reason"]


def test_phase_ended_by_gate_has_epsilon_of_its_plan(tmp_path):
    # Every discriminator meets a threshold of 0 after the first of two epochs.
    config = private_config(
        {"noise_multiplier": 3.0}, early_gates=True, gate_discriminator=0.0, adversarial_epochs=1
    )
    dp = trained(tmp_path, config)[1]
    phase, game = dp["phases"]["discriminator"], dp["phases"]["adversarial_discriminator"]
    assert (phase["steps"], phase["steps_planned"], phase["steps_in_weights"]) == (3, 6, 3)
    assert (game["steps"], game["steps_planned"]) == (3, 3)
    for actual, steps in ((dp, 9), (dp["as_run"], 6), (phase, 6), (game, 3)):
        expected = reference_epsilon([(3.0, 0.4, steps)], 1e-5)
        assert actual["epsilon_pld"] == pytest.approx(expected, rel=2e-3), steps
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"] and dp["budget_ended"] == {}


def test_zero_noise_voids_run(tmp_path):
    config = private_config(
        {"noise_multiplier": 0.0, "allow_zero_noise": True}, discriminator_epochs=1
    )
    dp = trained(tmp_path, config)[1]
    assert dp["void"] and "noise multiplier is zero" in dp["void_reason"]
    assert dp["epsilon_pld"] is None and dp["conditional"] == {"discriminator": None}


def test_shuffled_epochs_have_epsilon_of_unsampled_sums(tmp_path):
    config = private_config({"noise_multiplier": 3.0, "sampling": "shuffled_epochs"})
    dp = trained(tmp_path, config)[1]
    assert (dp["sampling"], dp["adjacency"]) == ("shuffled_epochs", "zero_out_one")
    assert dp["phases"]["discriminator"]["steps"] == 6
    # Every row is in one noisy sum of each of the two epochs.
    expected = reference_epsilon([(3.0, 1.0, 2)], 1e-5)
    assert dp["epsilon_pld"] == pytest.approx(expected, rel=1e-3)
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"]
    # Accounted as random sampling, it would look much better than it is.
    assert reference_epsilon([(3.0, 0.4, 6)], 1e-5) < 0.8 * expected


class Watched(ArrayStore):
    """A store that records which images were read."""

    def __init__(self, store):
        self.size, self.has_regions, self._images = store.size, False, store._images
        self._regions, self.read = None, set()

    def images(self, rows):
        self.read |= set(np.asarray(rows).tolist())
        return super().images(rows)


def test_bounded_run_reads_no_more_images_of_a_person_than_allowed(tmp_path):
    # Persons 0 to 4 have 8 images each in training; person 5 is in validation.
    person = np.where(np.arange(52) < 40, np.arange(52) % 5, 5)
    dataset = tiny_arrays(person=person, store=Watched)
    config = private_config(
        {"noise_multiplier": 4.0, "max_images_per_person": 3}, adversarial_epochs=1
    )
    dp = trained(tmp_path, config, dataset)[1]
    training = np.array(sorted(row for row in dataset.store.read if row < 40))
    np.testing.assert_array_equal(np.bincount(person[training], minlength=5), [3] * 5)
    assert dp["max_images_per_person"] == 3
    assert {phase["rows"] for phase in dp["phases"].values()} == {15}
    assert dp["epsilon_pld"] < dp["person"]["epsilon_pld"] <= dp["person"]["epsilon_rdp"]


def test_unbounded_run_has_no_epsilon_per_person(secret_run):
    assert secret_run[1]["person"] == {"epsilon_pld": None, "epsilon_rdp": None}


def test_bounded_run_without_identities_is_refused_before_training(tmp_path):
    config = private_config({"max_images_per_person": 3})
    with pytest.raises(UsageError, match="has no identities"):
        trained(tmp_path, config)
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "checkpoints").exists()


def test_large_delta_is_refused_before_training(tmp_path):
    config = private_config({"delta": 2e-5})
    with pytest.raises(UsageError, match="--delta=2e-05: expected at most 1e-05"):
        trained(tmp_path, config)
    assert not list(tmp_path.rglob("*.json")) and not (tmp_path / "checkpoints").exists()
    # The corrected command takes the same folder.
    allowed = private_config({"delta": 1e-5}, discriminator_epochs=0)
    assert trained(tmp_path, allowed)[1]["delta"] == 1e-5


class MinusMean(keras.layers.Layer):
    """Acts like BatchNormalization in training mode: each row depends on the others."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


def test_encoder_that_mixes_rows_is_refused(tmp_path, monkeypatch):
    def mixing(*arguments):
        bundle = build_bundle(*arguments)
        encoder = bundle.encoder
        mixed = keras.Model(encoder.inputs, MinusMean()(encoder.output))
        return Bundle(mixed, bundle.business, bundle.discriminator, bundle.restorer)

    monkeypatch.setattr(context, "build_bundle", mixing)
    with pytest.raises(UsageError, match="influence each other"):
        trained(tmp_path)
    assert not list(tmp_path.rglob(LEDGER_FILE)), "nothing was spent"
