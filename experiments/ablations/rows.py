"""The rows of the ablation table: name -> the flags by which it differs from `COMMON`."""

from __future__ import annotations

# What every row says first, so that a row means the same on any base: the game alone, one small
# discriminator under DP, and nothing else that removes the private label.
COMMON = (
    "--model=mtl_adv_dp",
    "--mask=none",
    # Without a mask it would hand on what the game is to remove, and no game could.
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
# beta_max too: a failed check would raise beta from 0.
_UNHEEDED = ("--beta=0", "--beta_late=0", "--beta_max=0")
_NO_GAME = ("--discriminator_epochs=0", *_UNHEEDED)
_MASK = ("--mask=learned",)
_NOISE = ("--feature_noise=1",)
_LEACE = ("--erasure=leace",)
_PLAIN = ("--model=mtl_adv",)
# A discriminator that learns to read these features, given passes enough.
_READER = (
    "--discriminator=soft",
    "--discriminator_units=96",
    "--discriminator_whitening",
    "--discriminator_learning_rate=2e-3",
    "--discriminator_epochs=20",
)

ROWS: dict[str, tuple[str, ...]] = {
    # Without the game nothing else is in force either.
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
    # What synthetic.cfg has: the restorer gets the covered picture itself.
    "mask_pixel_path": (*_MASK, "--pixel_path", *_NO_GAME),
    "mask_pixel_path_game": (*_MASK, "--pixel_path"),
    "mask_grey_fill": (*_MASK, "--mask_fill=grey"),
    "mask_mean_fill": (*_MASK, "--mask_fill=mean"),
    "mask_no_margin": (*_MASK, "--mask_margin=0"),
    # Fewer rows than drawn faces, so more passes: as many updates.
    "mask_train_labels": (*_MASK, "--region_labels=train", "--region_epochs=6"),
    "mask_cell_4": (*_MASK, "--mask_cell=4"),
    "noise": (*_NOISE, *_NO_GAME),
    "noise_game": _NOISE,
    "leace": (*_LEACE, *_NO_GAME),
    "leace_game": _LEACE,
    # The discriminator goes on learning and the encoder does not heed it.
    "plain_reader": (*_PLAIN, *_READER, *_UNHEEDED),
    "plain_reader_game": (*_PLAIN, *_READER),
    "plain_reader_two_steps": (*_PLAIN, *_READER, "--discriminator_steps=2"),
    "plain_reader_paper_bounded": (*_PLAIN, *_READER, "--objective=paper_bounded"),
    "plain_reader_unwhitened": (*_PLAIN, *_READER, "--nodiscriminator_whitening"),
    "plain_reader_shuffled": (*_PLAIN, *_READER, "--discriminator_labels=shuffled"),
    # Fewer weights, which noise leaves more of.
    "reader_game": (*_READER, "--discriminator_units=24"),
}


def row_flags(name: str) -> tuple[str, ...]:
    """Every flag of a row, those that it shares with the others first."""
    return (*COMMON, *ROWS[name])
