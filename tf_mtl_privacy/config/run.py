"""Configuration of a run: all sections, the checks across them, and notes on odd choices."""

from __future__ import annotations

import dataclasses
from typing import Any, get_type_hints

from tf_mtl_privacy.config.data import DataConfig, as_recorded
from tf_mtl_privacy.config.model import ModelConfig
from tf_mtl_privacy.config.options import parse_thresholds
from tf_mtl_privacy.config.privacy import PrivacyConfig
from tf_mtl_privacy.config.removal import RemovalConfig
from tf_mtl_privacy.config.renamed import with_new_names
from tf_mtl_privacy.config.train import GameConfig, LossConfig, TrainConfig
from tf_mtl_privacy.errors import UsageError

# Names of files in a run folder.
CONFIG_FILE, LABELS_FILE = "config.json", "labels.json"
RESULTS_FILE, AUDIT_FILE, METRICS_FILE = "results.json", "audit.json", "metrics.jsonl"
# Folder of an audit's partial results.
AUDIT_FOLDER = "audit"
_DISCRIMINATOR_OPTIONS = (
    "discriminator_steps",
    "discriminators",
    "discriminator_restart_epochs",
    "discriminator_labels",
    "beta_warmup_epochs",
)


@dataclasses.dataclass(frozen=True)
class Config:
    """Configuration of a run, one section per field."""

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
            if self.data.is_evaluation_only:
                raise UsageError(evaluation_only(self.data.dataset))
            raise UsageError(
                f"--model={self.train.model} needs a private label: give --private_label, or train "
                "--model=stl"
            )

        erasure = self.removal_in_force.erasure
        if erasure != "none" and not self.train.adversarial_epochs:
            raise UsageError(
                f"--erasure={erasure}: is fitted in the joint phase, which --adversarial_epochs=0 "
                "skips; give at least 1, or --erasure=none"
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
            ("pixel_path", self.model.pixel_path, "passes on pixels, whose scale must not change"),
            (
                "dp_scope=all",
                self.privacy.dp_scope == "all",
                "cannot clip gradients of networks that draw random numbers",
            ),
        ):
            if used:
                raise UsageError(
                    f"--feature_noise={noise}: --{flag} {why}; leave out one of the two"
                )

    def _check_whitening(self) -> None:
        if not (self.model.discriminator_whitening and self.train.has_discriminator):
            return
        if self.privacy.dp_scope == "all":
            raise UsageError(
                "--discriminator_whitening: would put statistics of validation rows into released "
                "weights without noise; leave it out with --dp_scope=all"
            )
        if not self.train.discriminator_epochs:
            raise UsageError(
                "--discriminator_whitening: is computed before the discriminator's pre-training, "
                "which --discriminator_epochs=0 skips; give at least 1, or leave the flag out"
            )

    def _check_public_faces(self) -> None:
        data, removal = self.data, self.removal_in_force
        masks = removal.has_mask and removal.region_labels == "public"
        option = "--region_labels" if masks else "--erasure_labels"
        flag, other = f"{option}=public", f"{option}=train"
        if data.dataset != "synthetic_faces":
            raise UsageError(
                f"{flag}: public faces with a private label exist for synthetic_faces only; "
                f"with --dataset={data.dataset} give {other}"
            )
        if data.effective_private_label == "identity":
            raise UsageError(
                f"{flag}: other pictures of the same people are not public; give {other}"
            )
        if data.synthetic_stream == "backbone":
            raise UsageError(
                f"{flag}: the public faces are the stream 'backbone', on which --synthetic_stream="
                f"backbone trains; give {other}"
            )

    def _check_plain_game(self) -> None:
        """Refuses options of the game: accounting covers one planned update per step only."""
        plain = GameConfig()
        for flag in _DISCRIMINATOR_OPTIONS:
            value = getattr(self.game, flag)
            if value != getattr(plain, flag):
                raise UsageError(
                    f"--{flag}={value}: only for --dp_scope=discriminator; with --dp_scope=all "
                    "leave it out"
                )

    def _check_choices(self) -> None:
        # On synthetic faces the checks' attackers learn from faces that no run trains on.
        if self.data.dataset != "synthetic_faces":
            refuse_choices(self, f"--dataset={self.data.dataset}")

    def _check_everything_private(self) -> None:
        removal = self.removal_in_force
        if removal.erasure != "none":
            raise UsageError(
                f"--erasure={removal.erasure}: is not refitted with --dp_scope=all; leave it out"
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
                    f"--{flag}={value}: with --dp_scope=all a file needs --public_weights, which "
                    "confirms that it was trained on public data only"
                )

    @property
    def removal_in_force(self) -> RemovalConfig:
        """The removal that is applied: none for a model without the adversarial game."""
        return self.removal if self.train.is_adversarial else RemovalConfig()

    @property
    def effective_perceptual_weights(self) -> str:
        """The perceptual weights with 'auto' resolved; 'none' if the perceptual loss is unused."""
        loss = self.loss
        if not self.train.has_discriminator or not loss.perceptual_weight:
            return "none"
        if loss.perceptual_weights != "auto":
            return loss.perceptual_weights
        return "imagenet" if self.model.effective_encoder_weights == "imagenet" else "none"

    @property
    def freezes_backbone(self) -> bool:
        """True if only the encoder's adapter is trained."""
        return self.model.freeze_backbone or self.privacy.dp_scope == "all"

    def _check_goals(self, flag: str) -> None:
        """Refuses given goals for unknown tasks; the default goals may name other tasks."""
        text = getattr(self.train, flag)
        if text == getattr(TrainConfig, flag):
            return
        for task in parse_thresholds(flag, text):
            if task not in self.data.task_attributes:
                raise UsageError(
                    f"--{flag}={text}: no such task: {task}; the tasks are "
                    f"{', '.join(self.data.task_attributes)}"
                )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Returns section name -> option name -> value, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, sections: Any) -> Config:
        """Reads what `to_dict` returned, now or in an earlier version.

        Absent options take their defaults; old names of options are accepted.

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
        for name, values in with_new_names(sections).items():
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
    """Returns section name -> its dataclass, in order."""
    return get_type_hints(Config)


def refuse_choices(config: Config, data: str) -> None:
    """Refuses options that let an attacker choose the released weights with `--dp_scope=all`.

    A fresh attacker of the checks learns from training rows without noise, so no epsilon covers
    what it chooses.

    Args:
        config: configuration of a run with `--dp_scope=all`.
        data: the data, for the message.

    Raises:
        UsageError: an attacker's result would choose which weights are released.
    """
    for flag, plain in (("checkpoint_selection", "last"), ("check_epochs", 0)):
        value = getattr(config.game, flag)
        if value != plain:
            raise UsageError(
                f"--{flag}={value}: with --dp_scope=all and {data} the released weights would "
                "depend on an attacker trained without noise on training rows; give "
                f"--{flag}={plain}"
            )


def evaluation_only(dataset: str) -> str:
    """Returns the message that refuses to train on a data set without training rows."""
    return (
        f"--dataset={dataset}: is for evaluation only, it has no training rows; train on other "
        "data, then run python -m tf_mtl_privacy.evaluate --run_dir=RUN_DIR "
        f"--dataset={dataset} --data_dir=FOLDER"
    )


def notes(config: Config) -> list[str]:
    """Returns notes to print before a run starts, possibly none.

    They are about valid choices that change the meaning of a run's figures: removal options for a
    model without the adversarial game (models may share a flagfile), features that contain the
    picture, and step sizes or losses of a flagfile for another encoder.
    """
    lines, unused = [], config.removal.switched_on
    if unused and not config.train.is_adversarial:
        lines.append(
            f"note: --model={config.train.model} has no adversarial game, so it ignores "
            f"{', '.join(unused)}"
        )
    if config.model.pixel_path and not config.removal_in_force.has_mask:
        lines.append("note: --pixel_path without a mask: the features contain the picture itself")
    return lines + _notes_on_encoder(config)


def _notes_on_encoder(config: Config) -> list[str]:
    lines, train, usual = [], config.train, TrainConfig()
    if not config.model.has_start and train.learning_rate < usual.learning_rate:
        line = (
            f"note: the encoder starts from random weights, for which --learning_rate="
            f"{train.learning_rate:g} is small ({usual.learning_rate:g} is usual)"
        )
        compact = config.model.encoder == "compact"
        hint = "; add --flagfile=compact.cfg after the others for the compact encoder's values"
        lines.append(line + hint * compact)
    wanted = train.has_discriminator and config.loss.perceptual_weight > 0
    is_off = config.effective_perceptual_weights == "none"
    if wanted and config.loss.perceptual_weights == "auto" and is_off:
        lines.append(
            "note: --perceptual_weights=auto: no perceptual loss, because the encoder does not "
            "start from ImageNet weights"
        )
    return lines
