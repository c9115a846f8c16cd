"""A half-trained private run whose ledger is gone, or older than its checkpoint, is refused."""

import pytest

from tests.training.tiny import private_config, tiny_arrays
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, read_ledger
from tf_mtl_privacy.training.fit import fit

pytestmark = pytest.mark.usefixtures("untraced")

CONFIG = private_config({"noise_multiplier": 2.0}, discriminator_epochs=3)


class PowerCutError(Exception):
    """Raised where a test wants a run to end without a word."""


def train(run_dir, until=""):
    """Trains until a report begins with `until`; what it reports is not yet in a checkpoint."""

    def report(text):
        if until and text.startswith(until):
            raise PowerCutError

    return fit(CONFIG, tiny_arrays(), run_dir=run_dir, report=report)


def test_an_optimizer_restored_without_its_ledger_is_refused(tmp_path):
    path = tmp_path / "checkpoints" / LEDGER_FILE
    with pytest.raises(PowerCutError):
        train(tmp_path, "discriminator, epoch 1 of 3")
    # Three steps of an epoch ran; checkpoints are every two.
    older = path.read_bytes()
    assert read_ledger(path.parent).spent("discriminator") == 4
    with pytest.raises(PowerCutError):
        train(tmp_path, "discriminator, epoch 3 of 3")
    newest = path.read_bytes()
    files = sorted(file.name for file in path.parent.iterdir())

    path.unlink()
    with pytest.raises(RunError, match="no such file, but the checkpoint has 8 private updates"):
        train(tmp_path)
    assert not path.exists(), "a new ledger would count from zero"

    path.write_bytes(older)
    with pytest.raises(RunError, match="4 updates of discriminator, but the checkpoint has 8"):
        train(tmp_path)
    assert path.read_bytes() == older
    assert sorted(file.name for file in path.parent.iterdir()) == files
    assert not (tmp_path / "training.json").exists()

    path.write_bytes(newest)
    phase = train(tmp_path).status["dp"]["phases"]["discriminator"]
    # Two power cuts lost a step each, which stays counted; what was only reserved does too.
    assert phase["steps_in_weights"] == 9 and 9 + 2 <= phase["steps"] <= 9 + 2 * 2
