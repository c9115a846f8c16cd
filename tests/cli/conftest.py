import json

import pytest

# Networks and phases that train in seconds, on data of any size.
SMALL = (
    "--compact_width=8",
    "--feature_channels=4",
    "--business_units=8",
    "--discriminator=dense",
    "--discriminator_units=8",
    "--restorer_width=8",
    "--batch_size=16",
    "--business_epochs=1",
    "--discriminator_epochs=1",
    "--restorer_epochs=1",
    "--adversarial_epochs=1",
    "--probe=none",
)
# A run that trains in seconds; every command-line test that needs one shares it.
TINY = (
    "--image_size=32",
    "--train_rows=64",
    "--validation_rows=24",
    "--test_rows=40",
    *SMALL,
)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def tiny(cache_dir):
    """Flags of the tiny run."""
    return (*TINY, f"--cache_dir={cache_dir}")


@pytest.fixture(scope="session")
def trained(tmp_path_factory, cache_dir, session_loaded):
    """(run folder, what the terminal showed) of one finished tiny run."""
    run_dir = tmp_path_factory.mktemp("runs") / "tiny"
    arguments = (*TINY, f"--cache_dir={cache_dir}", f"--run_dir={run_dir}")
    done = session_loaded("tf_mtl_privacy.train", *arguments)
    assert done.returncode == 0, done.stderr
    return run_dir, done


@pytest.fixture(scope="session")
def results(trained):
    return json.loads((trained[0] / "results.json").read_text())
