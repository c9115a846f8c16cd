"""The plan of a run's private updates; each epsilon is checked with dp-accounting."""

import dataclasses
import re

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.keys import key_for_tests
from tf_mtl_privacy.training import private_updates
from tf_mtl_privacy.training.private_updates import private_plan, with_bounded_people

DELTA = 1e-5
EPOCHS = {"discriminator_epochs": 3, "adversarial_epochs": 2, "batch_size": 32}


def plan_of(privacy=None, dataset=None, model="mtl_adv_dp", **train):
    config = tiny_config(model, privacy, **(EPOCHS | train))
    return private_plan(config, dataset or tiny_arrays(200), key_for_tests(0))


def all_config(**privacy):
    """A `--dp_scope=all` configuration; planning does not need its backbone."""
    base = tiny_config("mtl_adv_dp", **EPOCHS)
    return dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, backbone="a run"),
        privacy=dataclasses.replace(base.privacy, dp_scope="all", **privacy),
    )


def parts(plan, names=None):
    chosen = [plan.updates[name] for name in names or plan.updates]
    return [
        (u.mechanism.noise_multiplier, u.mechanism.sampling_probability, u.planned) for u in chosen
    ]


def test_plan_batches_and_steps_match_hand_calculation():
    plan = plan_of({"noise_multiplier": 1.7})
    # 200 rows, 32 a step: q = 0.16, an epoch is 6.25 -> 7 steps.
    assert list(plan.updates) == ["discriminator", "adversarial_discriminator"]
    for name, epochs in (("discriminator", 3), ("adversarial_discriminator", 2)):
        update = plan.updates[name]
        assert update.mechanism.sampling_probability == pytest.approx(0.16)
        assert (update.mechanism.rows, update.mechanism.sampling) == (200, "poisson")
        assert update.batch_size == pytest.approx(32) and update.planned == 7 * epochs
        assert update.sampler.steps_per_epoch == 7
        assert 0 < update.mechanism.overflow_probability <= 1e-15
        assert update.mechanism.noise_multiplier == 1.7
    assert plan.budgets == () and plan.delta == DELTA
    assert plan.header.phases == {n: u.mechanism for n, u in plan.updates.items()}
    assert (plan.header.l2_norm_clip, plan.header.max_images_per_person) == (1.0, 0)
    assert plan.of_phase("adversarial") == ("adversarial_discriminator",)
    assert plan.of_phase("business") == plan.of_phase("restorer") == ()


def test_plan_pretraining_draws_labelled_rows_and_joint_phase_all():
    plan = plan_of(dataset=tiny_arrays(200, unlabelled=50))
    pretrain, game = plan.updates["discriminator"], plan.updates["adversarial_discriminator"]
    assert (pretrain.mechanism.rows, game.mechanism.rows) == (150, 200)
    # 150 / 32 = 4.7 -> 5 steps.
    assert pretrain.mechanism.sampling_probability == pytest.approx(32 / 150)
    assert (pretrain.planned, game.planned) == (15, 14)
    drawn = {"discriminator": set(), "adversarial_discriminator": set()}
    for name, seen in drawn.items():
        for epoch in range(20):
            rows, mask = plan.updates[name].sampler.batch(epoch, 0)
            seen.update(rows[mask].tolist())
    assert max(drawn["discriminator"]) < 150 <= max(drawn["adversarial_discriminator"])


def test_plan_batch_larger_than_data_is_all_rows():
    plan = plan_of({"target_epsilon": 2.0}, batch_size=1000)
    update = plan.updates["discriminator"]
    assert update.mechanism.sampling_probability == 1.0 and update.batch_size == 200
    assert (update.sampler.steps_per_epoch, update.planned) == (1, 3)
    assert 0.97 * 2 < reference_epsilon(parts(plan), DELTA) <= 2


@pytest.mark.parametrize("target", [0.5, 1.5])
def test_plan_noise_reaches_target_of_whole_run(target):
    plan = plan_of({"target_epsilon": target})
    assert plan.budgets[0].updates == ("discriminator", "adversarial_discriminator")
    assert len(plan.budgets) == 1 and plan.budgets[0].target_epsilon == target
    assert 0.97 * target < reference_epsilon(parts(plan), DELTA) <= target
    noise = {part[0] for part in parts(plan)}
    assert len(noise) == 1, "the same noise in both phases"
    assert plan.header.phases["discriminator"].noise_multiplier in noise


def test_plan_noise_reaches_targets_of_two_phases():
    plan = plan_of({"target_epsilon_pretrain": 2.0, "target_epsilon_adversarial": 0.5})
    targets = {budget.updates: budget.target_epsilon for budget in plan.budgets}
    assert targets == {("discriminator",): 2.0, ("adversarial_discriminator",): 0.5}
    for names, target in targets.items():
        assert 0.97 * target < reference_epsilon(parts(plan, names), DELTA) <= target
    # Their composition costs more than either and less than the sum.
    assert 2.0 < reference_epsilon(parts(plan), DELTA) < 2.5


def test_plan_phase_without_steps_uses_no_budget():
    plan = plan_of({"target_epsilon": 1.0}, adversarial_epochs=0)
    assert plan.updates["adversarial_discriminator"].planned == 0
    assert 0.97 < reference_epsilon(parts(plan), DELTA) <= 1
    nothing = plan_of({"target_epsilon": 1.0}, adversarial_epochs=0, discriminator_epochs=0)
    assert all(update.planned == 0 for update in nothing.updates.values())


def test_plan_shuffled_epochs_are_one_sum_an_epoch():
    plan = plan_of({"target_epsilon": 2.0, "sampling": "shuffled_epochs"})
    noise = {update.mechanism.noise_multiplier for update in plan.updates.values()}
    assert {update.mechanism.sampling for update in plan.updates.values()} == {"shuffled_epochs"}
    # Three epochs of pre-training and two joint ones: a row is in five sums.
    assert 0.97 * 2 < reference_epsilon([(noise.pop(), 1.0, 5)], DELTA) <= 2 and not noise
    orders = [update.sampler.batch(0, 0)[0].tolist() for update in plan.updates.values()]
    assert orders[0] != orders[1]
    assert all(update.batch_size == 32 for update in plan.updates.values())


def test_plan_of_everything_private_shares_one_budget():
    config = all_config(target_epsilon=2.0)
    plan = private_plan(config, tiny_arrays(200, unlabelled=50), key_for_tests(0))
    planned = {name: update.planned for name, update in plan.updates.items()}
    # tiny_config has two epochs of what is not named in EPOCHS; 7 steps, 5 of labelled rows.
    assert planned == {
        "business": 14,
        "discriminator": 15,
        "restorer": 14,
        "adversarial_discriminator": 14,
        "adversarial_encoder": 14,
        "adversarial_restorer": 14,
    }
    assert len(plan.of_phase("adversarial")) == 3 and plan.of_phase("business") == ("business",)
    assert plan.budgets[0].updates == tuple(plan.updates)
    assert 0.97 * 2 < reference_epsilon(parts(plan), DELTA) <= 2


def test_plan_of_everything_private_takes_phase_targets():
    config = all_config(target_epsilon_pretrain=2.0, target_epsilon_adversarial=1.0)
    plan = private_plan(config, tiny_arrays(200), key_for_tests(0))
    before, joint = plan.budgets
    assert before.updates == ("business", "discriminator", "restorer")
    assert 0.97 * 2 < reference_epsilon(parts(plan, before.updates), DELTA) <= 2
    assert 0.97 < reference_epsilon(parts(plan, joint.updates), DELTA) <= 1


def test_plan_updates_have_their_own_batches_in_each_process():
    plans = [
        private_plan(all_config(), tiny_arrays(200), key_for_tests(number)) for number in (0, 1)
    ]
    first = [
        tuple(update.sampler.batch(0, 0)[0]) for plan in plans for update in plan.updates.values()
    ]
    assert len(set(first)) == 12


def test_plan_with_shared_sampler_is_refused(monkeypatch):
    sampler = plan_of().updates["discriminator"].sampler
    monkeypatch.setattr(private_updates, "_sampler", lambda *_: sampler)
    with pytest.raises(UsageError, match="use the same Poisson batches"):
        plan_of()


@pytest.mark.parametrize(
    ("rows", "delta", "good"), [(200, 1e-5, True), (200, 1.1e-5, False), (60_000, 9e-6, False)]
)
def test_plan_delta_is_bounded_by_number_of_rows(rows, delta, good):
    dataset = tiny_arrays(200)
    if rows > 200:  # more rows than pictures: the plan reads none
        dataset = dataclasses.replace(dataset, rows={"train": np.arange(rows) % 200})
    if good:
        assert plan_of({"delta": delta}, dataset).delta == delta
        return
    with pytest.raises(UsageError) as error:
        plan_of({"delta": delta}, dataset)
    bound = "1e-05" if rows == 200 else "8.33e-06, which is 1/(2N) for 60,000 rows"
    assert str(error.value) == f"--delta={delta:g}: expected at most {bound}"


@pytest.mark.parametrize("model", ["mtl_adv", "stl"])
def test_plan_of_plain_model_is_none(model):
    assert plan_of(model=model) is None


def test_bounded_people_limits_only_training_rows():
    person = np.arange(52) % 5
    dataset = tiny_arrays(40, person=person)
    config = tiny_config(privacy={"max_images_per_person": 3})
    bounded = with_bounded_people(config, dataset)
    kept = bounded.rows["train"]
    assert set(kept) <= set(dataset.rows["train"]) and (np.diff(kept) > 0).all()
    np.testing.assert_array_equal(np.bincount(person[kept]), [3] * 5)
    np.testing.assert_array_equal(bounded.rows["validation"], dataset.rows["validation"])
    assert with_bounded_people(tiny_config(), dataset) is dataset


def test_bounded_people_depend_on_image_names():
    person, keys = np.arange(52) % 5, np.array([f"{number}.jpg" for number in range(52)])
    config = tiny_config(privacy={"max_images_per_person": 3})

    def kept(rows):
        """Returns the names of the rows that are kept."""
        dataset = tiny_arrays(len(rows), person=np.append(person[rows], np.zeros(12, int)))
        dataset = dataclasses.replace(dataset, keys=np.append(keys[rows], keys[40:]))
        return set(dataset.keys[with_bounded_people(config, dataset).rows["train"]])

    everyone, others = np.arange(40), np.flatnonzero(person[:40] != 2)
    assert kept(others) == kept(everyone) & set(keys[others]) and len(kept(others)) == 12


def test_bounded_people_without_identities_are_refused():
    config = tiny_config(privacy={"max_images_per_person": 3})
    with pytest.raises(UsageError) as error:
        with_bounded_people(config, tiny_arrays(40))
    assert str(error.value) == (
        "--max_images_per_person=3: the data has no identities; leave it out, "
        "or use data with identities (synthetic_faces: --private_label=identity)"
    )
    person = np.where(np.arange(52) == 7, -1, 0)
    with pytest.raises(UsageError, match="1 of 40 rows have no identity"):
        with_bounded_people(config, tiny_arrays(40, person=person))


def test_bounded_people_with_old_split_are_refused():
    data = {"dataset": "csv", "data_dir": "x", "tasks": "gender=Male", "split_version": 1}
    data["private_label"] = "hat"
    config = dataclasses.replace(
        tiny_config(privacy={"max_images_per_person": 3}), data=DataConfig(**data)
    )
    with pytest.raises(UsageError, match=r"--split_version=1: .*person=3 gives no"):
        with_bounded_people(config, tiny_arrays(40, person=np.arange(52) % 4))


def test_plan_without_private_labels_is_refused():
    with pytest.raises(UsageError, match="no training row has one, so the discriminator") as error:
        plan_of({"noise_multiplier": 1.0}, tiny_arrays(40, unlabelled=40))
    assert "\n" not in str(error.value)


def test_plan_of_unreachable_target_states_reached_epsilon():
    (budget,) = plan_of({"target_epsilon": 400.0}).budgets
    plan = plan_of({"target_epsilon": 400.0})
    reached = reference_epsilon(parts(plan), DELTA)
    assert reached < 0.98 * 400
    found = re.match(
        r"epsilon of the plan is ([\d.]+), not the target 400; with less", budget.missed
    )
    assert found and reached <= float(found[1]) <= 1.01 * reached
    assert "the noise ends at 16.3 standard deviations" in budget.missed
    assert plan_of({"target_epsilon": 2.0}).budgets[0].missed == ""
