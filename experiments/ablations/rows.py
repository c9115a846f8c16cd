"""Rows of the ablation table: flags that differ from `COMMON`, and a description of each row."""

from __future__ import annotations

# Flags of every row, so that a row means the same on any base flagfile: the adversarial game with
# one small discriminator under DP-SGD, and no other method that removes the private label.
COMMON = (
    "--model=mtl_adv_dp",
    "--mask=none",
    # Without a mask the pixel path passes the whole picture, label included.
    "--nopixel_path",
    "--feature_noise=0",
    "--erasure=none",
    "--objective=confusion",
    "--discriminator=dense",
    "--discriminator_steps=1",
    "--discriminators=1",
    "--discriminator_restart_epochs=0",
    "--discriminator_labels=private",
    "--beta_warmup_epochs=0",
)
# beta_max as well: a failed check would raise beta from 0.
_IGNORED = ("--beta=0", "--beta_late=0", "--beta_max=0")
_NO_GAME = ("--discriminator_epochs=0", *_IGNORED)
_MASK = ("--mask=learned",)
_NOISE = ("--feature_noise=1",)
_LEACE = ("--erasure=leace",)
_PLAIN = ("--model=mtl_adv",)
# A discriminator that learns the label from these features, given enough epochs.
_READER = (
    "--discriminator=soft",
    "--discriminator_units=96",
    "--discriminator_whitening",
    "--discriminator_learning_rate=2e-3",
    "--discriminator_epochs=20",
)

ROWS: dict[str, tuple[str, ...]] = {
    # Nothing is removed: this model has no game, and `COMMON` switches off the rest.
    "nothing": ("--model=mtl_dp",),
    "game_confusion": (),
    "game_paper": ("--objective=paper",),
    "game_paper_bounded": ("--objective=paper_bounded",),
    "game_entropy": ("--objective=entropy",),
    "plain_game_confusion": _PLAIN,
    "plain_game_paper": (*_PLAIN, "--objective=paper"),
    "plain_game_paper_bounded": (*_PLAIN, "--objective=paper_bounded"),
    "plain_game_entropy": (*_PLAIN, "--objective=entropy"),
    "game_shuffled_labels": ("--discriminator_labels=shuffled",),
    "game_two_steps": ("--discriminator_steps=2",),
    "game_two_discriminators": ("--discriminators=2",),
    "game_pooled": ("--discriminator=pooled",),
    "game_warmup": ("--beta_warmup_epochs=4",),
    "game_restart": ("--discriminator_restart_epochs=2",),
    "mask": (*_MASK, *_NO_GAME),
    "mask_game": _MASK,
    "mask_shuffled_labels": (*_MASK, "--discriminator_labels=shuffled"),
    # As in synthetic.cfg: the restorer also gets the covered picture.
    "mask_pixel_path": (*_MASK, "--pixel_path", *_NO_GAME),
    "mask_pixel_path_game": (*_MASK, "--pixel_path"),
    "mask_grey_fill": (*_MASK, "--mask_fill=grey"),
    "mask_mean_fill": (*_MASK, "--mask_fill=mean"),
    "mask_no_margin": (*_MASK, "--mask_margin=0"),
    # Fewer rows than the drawn faces, hence more epochs for as many updates.
    "mask_train_labels": (*_MASK, "--region_labels=train", "--region_epochs=6"),
    "mask_cell_4": (*_MASK, "--mask_cell=4"),
    "noise": (*_NOISE, *_NO_GAME),
    "noise_game": _NOISE,
    "leace": (*_LEACE, *_NO_GAME),
    "leace_game": _LEACE,
    # The discriminator keeps learning and the encoder ignores it.
    "plain_reader": (*_PLAIN, *_READER, *_IGNORED),
    "plain_reader_game": (*_PLAIN, *_READER),
    "plain_reader_two_steps": (*_PLAIN, *_READER, "--discriminator_steps=2"),
    "plain_reader_paper_bounded": (*_PLAIN, *_READER, "--objective=paper_bounded"),
    "plain_reader_unwhitened": (*_PLAIN, *_READER, "--nodiscriminator_whitening"),
    "plain_reader_shuffled": (*_PLAIN, *_READER, "--discriminator_labels=shuffled"),
    # Fewer weights: the noise of DP-SGD grows with their number.
    "reader_game": (*_READER, "--discriminator_units=24"),
}

DESCRIPTIONS: dict[str, str] = {
    "nothing": "no game and no mask; D trains, the encoder ignores it",
    "game_confusion": "the game under DP-SGD",
    "game_paper": "same, with the objective of the paper",
    "game_paper_bounded": "same, with the objective of the paper, bounded",
    "game_entropy": "same, and the encoder raises the entropy of D",
    "plain_game_confusion": "the game without DP-SGD",
    "plain_game_paper": "same, with the objective of the paper",
    "plain_game_paper_bounded": "same, with the objective of the paper, bounded",
    "plain_game_entropy": "same, and the encoder raises the entropy of D",
    "game_shuffled_labels": "game_confusion; D learns shuffled labels",
    "game_two_steps": "game_confusion; two updates of D per update of the encoder",
    "game_two_discriminators": "game_confusion; two discriminators",
    "game_pooled": "game_confusion; D pools cells by attention",
    "game_warmup": "game_confusion; beta grows from 0 over all four epochs",
    "game_restart": "game_confusion; D restarts every two epochs",
    "mask": "the mask, no game",
    "mask_game": "the mask and the game under DP-SGD",
    "mask_shuffled_labels": "the mask and a game with shuffled labels",
    "mask_pixel_path": "the mask and the pixel path, no game",
    "mask_pixel_path_game": "the mask, the pixel path and the game under DP-SGD",
    "mask_grey_fill": "mask_game; covered pixels become grey",
    "mask_mean_fill": "mask_game; covered pixels become their mean colour",
    "mask_no_margin": "mask_game; no margin around the regions found",
    "mask_train_labels": "mask_game; the mask learns from labels of training rows",
    "mask_cell_4": "mask_game; cells of 4 pixels a side",
    "noise": "noise as large as the features, no game",
    "noise_game": "the same noise and the game under DP-SGD",
    "leace": "closed-form erasure, no game",
    "leace_game": "erasure and the game under DP-SGD",
    "plain_reader": "D learns the label; the encoder ignores it",
    "plain_reader_game": "the game against that D, without DP-SGD",
    "plain_reader_two_steps": "same, two updates of D per update of the encoder",
    "plain_reader_paper_bounded": "same, with the objective of the paper, bounded",
    "plain_reader_unwhitened": "plain_reader_game; the input of D is not whitened",
    "plain_reader_shuffled": "plain_reader_game; D learns shuffled labels",
    "reader_game": "the game under DP-SGD at epsilon 0.5; D has 24 units",
}


def row_flags(name: str) -> tuple[str, ...]:
    """Returns every flag of a row, shared ones first."""
    return (*COMMON, *ROWS[name])
