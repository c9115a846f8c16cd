import re

import pytest

from tests.cli.test_main import processor_seconds
from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.cli.accounting import main
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.keys import key_for_tests
from tf_mtl_privacy.reporting.formats import number
from tf_mtl_privacy.training.private_updates import private_plan

SMALL = ("--rows=8000", "--batch_size=128", "--epochs=2")


def run(capsys, *argv):
    assert main(parse("accounting", list(argv))) == 0
    return capsys.readouterr().out


def figures(text, pattern):
    found = re.search(pattern, text)
    assert found, text
    return [float(figure) for figure in found.groups()]


def test_accounting_help_is_fast_and_loads_nothing_heavy(python):
    before = processor_seconds()
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.accounting", "--help")
    seconds = processor_seconds() - before
    assert done.returncode == 0 and "--target_epsilon" in done.stdout
    loaded = set(re.findall(r"\|\s+([\w.]+)$", done.stderr, re.MULTILINE))
    assert "tf_mtl_privacy.accounting" in done.stdout and "tf_mtl_privacy.cli.flags" in loaded
    assert not loaded & {"tensorflow", "keras", "dp_accounting", "scipy", "matplotlib"}
    assert seconds < 2


def test_accounting_loads_no_tensorflow(python):
    program = (
        "import sys; from tf_mtl_privacy.cli.accounting import main; "
        "from tf_mtl_privacy.cli.flags import parse; main(parse('accounting', sys.argv[1:])); "
        "assert 'tensorflow' not in sys.modules and 'matplotlib' not in sys.modules"
    )
    done = python("-c", program, *SMALL, "--noise_multiplier=2")
    assert done.returncode == 0, done.stderr


def test_accounting_reproduces_the_published_example(capsys):
    text = run(
        capsys,
        f"--sampling_probability={256 / 60_000}",
        "--steps=14063",
        "--noise_multiplier=1.12",
        "--delta=1e-5",
    )
    assert "14,063 steps, 60 epochs" in text
    assert figures(text, r"([\d.]+) by privacy loss dist[^\n]*\n\s+([\d.]+) by Renyi") == [
        2.311,
        2.519,
    ]
    # sqrt(2 ln(1.25e5)) / 1.12 = 4.3257, rounded up
    assert figures(text, r"paper's formula\s+([\d.]+) for a single update") == [4.326]
    for words in ("add or remove", "Poisson: each image", "inf: the number of images per person"):
        assert words in text
    rows = re.findall(r"^ *([\d,]+) +[\d.]+ +([\d.]+) +([\d.]+)$", text, re.MULTILINE)
    assert len(rows) == 10 and rows[-1] == ("14,063", "2.311", "2.519")
    assert all(float(pld) < float(rdp) for _, pld, rdp in rows)
    assert [float(pld) for _, pld, _ in rows] == sorted(float(pld) for _, pld, _ in rows)


def test_accounting_noise_for_epsilon_gives_that_epsilon(capsys):
    text = run(capsys, *SMALL, "--target_epsilon=0.5")
    (noise,) = figures(text, r"noise multiplier\s+([\d.]+) keeps epsilon at or below 0.5")
    (epsilon,) = figures(text, r"epsilon of an image\s+([\d.]+) by privacy")
    assert 0.495 <= epsilon <= 0.5
    text = run(capsys, *SMALL, f"--noise_multiplier={noise}")
    assert figures(text, r"epsilon of an image\s+([\d.]+) by privacy")[0] == pytest.approx(
        epsilon, abs=2e-3
    )


def test_epochs_are_those_of_training(capsys):
    config = tiny_config("mtl_adv_dp", adversarial_epochs=6, batch_size=32)
    plan = private_plan(config, tiny_arrays(200), key_for_tests(0))
    assert plan is not None
    planned = plan.updates["adversarial_discriminator"].planned
    # 200 rows in batches of 32 are 6.25 -> 7 steps an epoch; 6 * 6.25 would be 38.
    assert planned == 42
    flags = ["--rows=200", "--batch_size=32", "--epochs=6", "--noise_multiplier=1.5"]
    assert f"{planned} steps" in run(capsys, *flags)


def test_accounting_large_target_is_reached(capsys):
    flags = ["--rows=60000", "--batch_size=250", "--epochs=60", "--delta=8e-6"]
    text = run(capsys, *flags, "--target_epsilon=50")
    (noise,) = figures(text, r"noise multiplier\s+([\d.]+) keeps epsilon at or below 50\n")
    (found,) = figures(text, r"epsilon of an image\s+([\d.]+) by privacy")
    assert 49.5 < found <= 50 and noise < 0.41


def test_accounting_unreachable_target_is_explained(capsys):
    flags = ["--rows=2000", "--batch_size=100", "--steps=200"]
    text = " ".join(run(capsys, *flags, "--target_epsilon=1e6").split())
    (told,) = figures(text, r"keeps epsilon at or below 1e\+06; epsilon is then ([\d.]+)")
    (found,) = figures(text, r"epsilon of an image ([\d.]+) by privacy")
    assert told == found < 100
    assert "infinite with less noise: the noise ends at 16.3 standard deviations" in text


def test_accounting_overflow_that_limits_epsilon_is_reported(capsys):
    flags = ["--rows=2000", "--batch_size=100", "--steps=200"]
    text = " ".join(
        run(capsys, *flags, "--target_epsilon=50", "--overflow_probability=1e-15").split()
    )
    assert figures(text, r"at or below 50; epsilon is then ([\d.]+)")[0] < 20
    assert "lower --overflow_probability to 1e-" in text


def test_accounting_person_level_epsilon_and_plot(capsys, tmp_path):
    path = tmp_path / "plots" / "epsilon.png"
    text = run(
        capsys, *SMALL, "--noise_multiplier=2", "--max_images_per_person=3", f"--plot={path}"
    )
    pld, rdp = figures(
        text, r"epsilon of a person\s+([\d.]+) by PLD, ([\d.]+) by RDP, for at most 3"
    )
    (image,) = figures(text, r"epsilon of an image\s+([\d.]+) by privacy")
    assert image < pld < rdp
    assert path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000
    assert f"Plot: {path}" in text


def test_accounting_shuffled_epochs_use_whole_mechanisms(capsys):
    text = run(capsys, *SMALL, "--sampling=shuffled_epochs", "--noise_multiplier=8")
    assert "126 steps" in text and "2 whole Gaussian mechanisms" in text and "zero out" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--rows=8000", "--batch_size=128", "--epochs=2"], "--target_epsilon: expected one of"),
        ([*SMALL, "--noise_multiplier=1", "--target_epsilon=1"], "expected only one of them"),
        (
            [*SMALL, "--steps=9", "--noise_multiplier=1"],
            "--epochs, --steps: expected only one of them",
        ),
        (["--rows=9", "--steps=9", "--noise_multiplier=1"], "--sampling_probability: expected one"),
        (
            ["--batch_size=9", "--steps=9", "--noise_multiplier=1"],
            "--batch_size=9: expected --rows",
        ),
        (["--rows=5", "--batch_size=9", "--steps=9", "--noise_multiplier=1"], "at most --rows=5"),
        ([*SMALL, "--noise_multiplier=-1"], "--noise_multiplier=-1.0: expected >= 0"),
        ([*SMALL, "--noise_multiplier=1", "--sampling=urn"], "--sampling=urn: expected one of"),
        ([*SMALL, "--noise_multiplier=1", "--delta=0.01"], "--delta=0.01: expected at most 1e-05"),
        ([*SMALL, "--noise_multiplier=1", "--plot=x.gif"], "--plot=x.gif: expected a name that"),
        ([*SMALL, "--noise_multiplier=1", "--run_dir=x"], "--run_dir"),
    ],
)
def test_accounting_wrong_request_is_one_line(flags, words):
    with pytest.raises(UsageError) as caught:
        main(parse("accounting", flags))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_accounting_wrong_request_exits_with_2(python):
    done = python("-m", "tf_mtl_privacy.accounting", *SMALL, "--noise_multiplier=1", "--delta=0.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1 and "--delta=0.5" in done.stderr


def test_accounting_statement_agrees_with_tensorflow_privacy(python):
    done = python("-m", "tf_mtl_privacy.accounting", *SMALL, "--noise_multiplier=2", "--statement")
    assert done.returncode == 0, done.stderr
    assert "DP-SGD performed over 8000 examples with 128 examples per iteration" in done.stdout
    assert "without microbatching" in done.stdout
    (theirs,) = figures(done.stdout, r"assuming Poisson sampling \(\*\):\s+([\d.]+)")
    (ours,) = figures(done.stdout, r"([\d.]+) by Renyi")
    assert theirs == pytest.approx(ours, abs=2e-3)


def test_number_rounds_up():
    assert [number(value) for value in (2.31028, 0.05, 12.3451, 8123.4, 0.0, float("inf"))] == [
        "2.311",
        "0.05000",
        "12.35",
        "8124",
        "0",
        "inf",
    ]
