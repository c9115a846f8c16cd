"""The `dp` part of results, from ledgers written by hand."""

from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    PrivacyConfig,
    TrainConfig,
)
from tf_mtl_privacy.privacy.accounting.events import POISSON, SampledGaussian
from tf_mtl_privacy.privacy.ledger import VERSION, LedgerHeader, LedgerState
from tf_mtl_privacy.reporting.privacy_card import claims, label_access
from tf_mtl_privacy.training.dp_status import dp_status
from tf_mtl_privacy.training.private_updates import UPDATES, Budget, PrivatePlan, Update

ROWS, BATCH, DELTA = 1200, 48, 1e-5
# Update -> updates that its ledger counts; 3 of the last one did not reach the weights.
STEPS = {
    "business": 90,
    "discriminator": 50,
    "restorer": 40,
    "adversarial_discriminator": 75,
    "adversarial_encoder": 75,
    "adversarial_restorer": 75,
}
LOST = {"adversarial_discriminator": 3}
PUBLIC = "an encoder trained on synthetic faces, which show no real person"


def private_config(scope="discriminator", objective="confusion", model="mtl_adv_dp", **options):
    """A configuration of that scope, with a public backbone where it needs one."""
    return Config(
        model=ModelConfig(backbone="runs/backbone" if scope == "all" else ""),
        loss=LossConfig(objective=objective),
        train=TrainConfig(model=model),
        privacy=PrivacyConfig(dp_scope=scope, **options),
    )


def private_dp(
    scope="discriminator",
    *,
    noise=2.0,
    sampling=POISSON,
    void="",
    most_images=0,
    ended=(),
    early=(),
    planned=(),
    batch=BATCH,
    overflow=0.0,
    objective="confusion",
    noise_of=(),
    killed=0,
    budgets=(),
):
    """The `dp` part of a run with `STEPS` private updates and one kill in the joint phase.

    `ended` has the phases that a budget ended, `early` those that a gate did, `planned` the updates
    that were to be made where they are not those that were, `noise_of` another noise of updates,
    `killed` how many updates an earlier process had reserved when it was killed,
    `budgets` other budgets than 2 for the whole run.
    """
    names = list(UPDATES[scope])
    mechanisms = {
        name: SampledGaussian(
            dict(noise_of).get(name, noise), batch / ROWS, sampling, ROWS, overflow
        )
        for name in names
    }
    header = LedgerHeader(mechanisms, 1.0, max_images_per_person=most_images)
    records = [
        {"kind": "header", "version": VERSION, "run_id": "a", "header": header.to_dict()},
        {"kind": "session", "at": dict.fromkeys(names, 0), "void": void},
        *[{"kind": "reserve", "phase": names[-1], "count": killed}] * (killed > 0),
        *[{"kind": "session", "at": dict.fromkeys(names, 0), "void": void}] * (killed > 0),
        *({"kind": "reserve", "phase": name, "count": STEPS[name]} for name in names),
    ]
    # No sampler: nothing is drawn here.
    updates = {
        name: Update(phase, None, mechanisms[name], batch, dict(planned).get(name, STEPS[name]))
        for name, phase in UPDATES[scope].items()
    }
    plan = PrivatePlan(updates, tuple(budgets) or (Budget(tuple(names), 2.0),), header, DELTA)
    return dp_status(
        private_config(scope, objective),
        plan,
        LedgerState(records),
        {name: STEPS[name] - LOST.get(name, 0) for name in names},
        dict(ended),
        ended_early=early,
        public=PUBLIC if scope == "all" else "",
    )


def dp_sentences(dp):
    """Everything that is printed about differential privacy."""
    return [*claims(dp), *label_access(dp)]


def plain_dp(model="mtl_adv", **data):
    """The `dp` part of a run without private updates."""
    config = Config(data=DataConfig(**data), train=TrainConfig(model=model))
    return dp_status(config, None, None, {}, {})
