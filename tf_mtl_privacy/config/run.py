"""The whole of a run's configuration."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from tf_mtl_privacy.config.data import DataConfig, as_recorded
from tf_mtl_privacy.config.game import GameConfig
from tf_mtl_privacy.config.loss import LossConfig
from tf_mtl_privacy.config.model import ModelConfig
from tf_mtl_privacy.config.options import parse_thresholds
from tf_mtl_privacy.config.privacy import PrivacyConfig
from tf_mtl_privacy.config.removal import RemovalConfig
from tf_mtl_privacy.config.train import TrainConfig
from tf_mtl_privacy.errors import UsageError

FOR_EVALUATION_ONLY = (
    "--dataset=lfw: is for evaluation only, it has no training rows; train on other data, then run "
    "python -m tf_mtl_privacy.evaluate --run_dir=RUN_DIR --dataset=lfw --data_dir=FOLDER"
)
# Names of files in a run folder, for all who write or read them.
CONFIG_FILE, LABELS_FILE = "config.json", "labels.json"
RESULTS_FILE, AUDIT_FILE, METRICS_FILE = "results.json", "audit.json", "metrics.jsonl"
# What an audit keeps on its way.
AUDIT_FOLDER = "audit"
_OF_DISCRIMINATORS = (
    "discriminator_steps",
    "discriminators",
    "discriminator_restart_epochs",
    "discriminator_labels",
    "beta_warmup_epochs",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The whole of a run's configuration."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    privacy: PrivacyConfig = dataclasses.field(default_factory=PrivacyConfig)
    removal: RemovalConfig = dataclasses.field(default_factory=RemovalConfig)
    game: GameConfig = dataclasses.field(default_factory=GameConfig)

    def __post_init__(self) -> None:
        if self.data.image_size // self.model.feature_stride < 2:
            raise UsageError(
                f"--feature_stride={self.model.feature_stride}: leaves fewer than 2x2 cells of "
                f"--image_size={self.data.image_size}"
            )
        if self.data.image_size % self.model.feature_stride:
            raise UsageError(
                f"--feature_stride={self.model.feature_stride}: must divide "
                f"--image_size={self.data.image_size}"
            )
        if self.model.encoder != "compact" and (
            self.data.image_size < 64 or self.data.image_size % 32
        ):
            raise UsageError(
                f"--image_size={self.data.image_size}: {self.model.encoder} takes multiples of 32 "
                "from 64"
            )
        if self.privacy.dp_scope == "all":
            self._check_everything_private()
            self._check_plain_game()
            self._check_choices()
        for flag in ("gate_business", "stop_business"):
            self._check_goals(flag)
        if self.train.has_discriminator and self.data.effective_private_label == "none":
            if self.data.dataset == "lfw":
                raise UsageError(FOR_EVALUATION_ONLY)
            raise UsageError(
                f"--model={self.train.model} needs a private label: give --private_label, or train "
                "--model=stl"
            )

        erasure = self.removal_in_force.erasure
        if erasure != "none" and not self.train.adversarial_epochs:
            raise UsageError(
                f"--erasure={erasure}: is fitted in the joint phase, and there is none with "
                "--adversarial_epochs=0; give at least 1, or --erasure=none"
            )
        self._check_noise()
        self._check_whitening()
        if self.removal_in_force.reads_public_faces:
            self._check_public_faces()

    def _check_noise(self) -> None:
        noise = self.removal_in_force.feature_noise
        if not noise:
            return
        for flag, used, why in (
            ("pixel_path", self.model.pixel_path, "hands pixels on whose scale must stay as it is"),
            (
                "dp_scope=all",
                self.privacy.dp_scope == "all",
                "clips gradients of networks that draw no random numbers",
            ),
        ):
            if used:
                raise UsageError(f"--feature_noise={noise}: --{flag} {why}; leave out one of them")

    def _check_whitening(self) -> None:
        if not (self.model.discriminator_whitening and self.train.has_discriminator):
            return
        if self.privacy.dp_scope == "all":
            raise UsageError(
                "--discriminator_whitening: would put figures of validation rows into released "
                "weights, without noise; leave it out with --dp_scope=all"
            )
        if not self.train.discriminator_epochs:
            raise UsageError(
                "--discriminator_whitening: is set before the discriminator's pre-training, and "
                "there is none with --discriminator_epochs=0; give at least 1, or leave it out"
            )

    def _check_public_faces(self) -> None:
        data, removal = self.data, self.removal_in_force
        masks = removal.has_mask and removal.region_labels == "public"
        option = "--region_labels" if masks else "--erasure_labels"
        flag, other = f"{option}=public", f"{option}=train"
        if data.dataset != "synthetic_faces":
            raise UsageError(
                f"{flag}: there are public faces with a private label for synthetic_faces only; "
                f"with --dataset={data.dataset} give {other}"
            )
        if data.effective_private_label == "identity":
            raise UsageError(
                f"{flag}: other pictures of the same people are not public; give {other}"
            )
        if data.synthetic_stream == "backbone":
            raise UsageError(
                f"{flag}: those faces are the stream 'backbone', on which --synthetic_stream="
                f"backbone trains; give {other}"
            )

    def _check_plain_game(self) -> None:
        """Each update of everything is planned once; the game's further ones are not among them."""
        plain = GameConfig()
        for flag in _OF_DISCRIMINATORS:
            value = getattr(self.game, flag)
            if value != getattr(plain, flag):
                raise UsageError(
                    f"--{flag}={value}: only for --dp_scope=discriminator; with --dp_scope=all "
                    "leave it out"
                )

    def _check_choices(self) -> None:
        # Where faces are drawn the attackers of the checks learn from some that nobody trains on.
        if self.data.dataset != "synthetic_faces":
            refuse_choices(self, f"--dataset={self.data.dataset}")

    def _check_everything_private(self) -> None:
        removal = self.removal_in_force
        if removal.erasure != "none":
            raise UsageError(
                f"--erasure={removal.erasure}: nothing refits it with --dp_scope=all; leave it out"
            )
        if removal.has_mask and removal.region_labels == "train":
            raise UsageError(
                "--dp_scope=all: --region_labels=train reads private labels without noise; give "
                "--region_labels=public"
            )
        if not self.train.is_private:
            raise UsageError(
                f"--dp_scope=all: --model={self.train.model} has no DP-SGD; give --model=mtl_dp or "
                "--model=mtl_adv_dp"
            )
        if not self.model.has_start:
            raise UsageError(
                "--dp_scope=all needs a public backbone: give --backbone=RUN_DIR (a run on "
                "synthetic faces), --encoder_weights=imagenet or --encoder_weights=FILE"
            )

        for flag, value in (
            ("encoder_weights", self.model.effective_encoder_weights),
            ("perceptual_weights", self.effective_perceptual_weights),
        ):
            if value not in ("none", "imagenet", "hed") and not self.privacy.public_weights:
                raise UsageError(
                    f"--{flag}={value}: with --dp_scope=all a file needs --public_weights, by "
                    "which you say that it was trained on public data only"
                )

    @property
    def removal_in_force(self) -> RemovalConfig:
        """What removes information in this run: a model without the game has none of it."""
        return self.removal if self.train.is_adversarial else RemovalConfig()

    @property
    def effective_perceptual_weights(self) -> str:
        """'none', 'imagenet', 'hed' or a file; 'none' where nothing uses the perceptual loss."""
        loss = self.loss
        if not self.train.has_discriminator or not loss.perceptual_weight:
            return "none"
        if loss.perceptual_weights != "auto":
            return loss.perceptual_weights
        return "imagenet" if self.model.effective_encoder_weights == "imagenet" else "none"

    @property
    def freezes_backbone(self) -> bool:
        """Whether only the adapter of the encoder is trained."""
        return self.model.freeze_backbone or self.privacy.dp_scope == "all"

    def _check_goals(self, flag: str) -> None:
        """Goals that were given must be for tasks that there are; the usual ones need not be."""
        text = getattr(self.train, flag)
        if text == getattr(TrainConfig, flag):
            return
        for task in parse_thresholds(flag, text):
            if task not in self.data.task_attributes:
                raise UsageError(
                    f"--{flag}={text}: there is no task {task}; the tasks are "
                    f"{', '.join(self.data.task_attributes)}"
                )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Section name -> option name -> value, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, sections: Any) -> Config:
        """The inverse of `to_dict`; options that are absent take their defaults.

        Raises:
            UsageError: an unknown section or option, or a value out of range.
        """
        if not isinstance(sections, dict):
            raise UsageError("configuration: expected an object with sections")
        kinds = section_types()
        unknown = set(sections) - set(kinds)
        if unknown:
            raise UsageError(f"configuration: unknown section {sorted(unknown)[0]!r}")
        parts = {}
        for name, values in sections.items():
            names = {field.name for field in dataclasses.fields(kinds[name])}
            if not isinstance(values, dict):
                raise UsageError(
                    f"configuration: section {name!r} is {values!r:.40}: expected an object with "
                    "options"
                )
            if set(values) - names:
                wrong = sorted(set(values) - names)[0]
                raise UsageError(f"configuration: section {name!r} has no option {wrong!r}")
            parts[name] = kinds[name](**(as_recorded(values) if name == "data" else values))
        return cls(**parts)


def section_types() -> dict[str, Any]:
    """Section name -> its dataclass, in order."""
    return get_type_hints(Config)


def refuse_choices(config: Config, data: str) -> None:
    """With everything private, nothing that reads training rows without noise may choose weights.

    Args:
        config: of a run with `--dp_scope=all`.
        data: its data in words; a fresh attacker of the checks learns from its training rows.

    Raises:
        UsageError: what such an attacker finds would choose which weights are released.
    """
    for flag, plain in (("checkpoint_selection", "last"), ("check_epochs", 0)):
        value = getattr(config.game, flag)
        if value != plain:
            raise UsageError(
                f"--{flag}={value}: with --dp_scope=all and {data} a fresh attacker that reads "
                f"training rows without noise would choose what is released; give --{flag}={plain}"
            )
