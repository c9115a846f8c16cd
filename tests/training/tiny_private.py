"""A tiny run of `--dp_scope=all` on a tiny public backbone."""

import dataclasses

from tests.training.tiny import tiny_config

# 72 rows in batches of 16 make 5 steps an epoch, two epochs a phase.
STEPS = 10
# Kind of private update -> the phase that makes it.
UPDATES = {
    "business": "business",
    "discriminator": "discriminator",
    "restorer": "restorer",
    "adversarial_discriminator": "adversarial",
    "adversarial_encoder": "adversarial",
    "adversarial_restorer": "adversarial",
}


def backbone_config(cache_dir):
    """A run without privacy on synthetic faces that no other run trains on."""
    epochs = {
        f"{name}_epochs": 1 for name in ("business", "discriminator", "restorer", "adversarial")
    }
    config = tiny_config("mtl_adv", seed=5, **epochs)
    data = dataclasses.replace(
        config.data, cache_dir=str(cache_dir), synthetic_stream="backbone", synthetic_shift="light"
    )
    return dataclasses.replace(config, data=data)


def all_private_config(cache_dir, backbone, target_epsilon=0.0, **train):
    """Everything private, from the run in the folder `backbone`."""
    config = tiny_config("mtl_adv_dp", **({"early_gates": False} | train))
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_dir=str(cache_dir)),
        model=dataclasses.replace(config.model, backbone=str(backbone)),
        privacy=dataclasses.replace(
            config.privacy, dp_scope="all", target_epsilon=target_epsilon, noise_multiplier=3.0
        ),
    )
