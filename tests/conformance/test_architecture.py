"""Consistency of help, shipped configurations, pages, README and Makefile with the code."""

import dataclasses
import re
from pathlib import Path

import pytest

from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.cli.flagfiles import shipped
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config, section_types
from tf_mtl_privacy.config.renamed import RENAMED_OPTIONS

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    "tf_mtl_privacy",
    "tests",
    "configs",
    "docs",
    "benchmarks",
    "experiments",
    "notebooks",
    ".ci",
)
# Flags of other programs that the pages may name.
FOREIGN = {
    "name",
    "help",
    "helpfull",
    "flagfile",
    "check",
    "editable",
    "quiet",
    "version",
    "logdir",
    # TensorFlow Serving, and tools for exported models.
    "enable_batching",
    "batching_parameters_file",
    "tag",
    "data",
    "wrap",
    "dir",
    "all",
}


def project_files() -> list[Path]:
    inside = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    top = [path for path in ROOT.iterdir() if path.name not in (".git", ".venv")]
    return [path for path in (*top, *inside) if path.is_file() and "__pycache__" not in path.parts]


def pages() -> list[Path]:
    return [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "experiments").rglob("*.md"),
        *(ROOT / "configs").glob("*.cfg"),
    ]


def flags_named(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--([a-z][a-z0-9_]*)(?![\w-])", text))


def option_owners(command: str) -> list[type]:
    entry = COMMANDS[command]
    return [entry.options, *(section_types()[name] for name in entry.sections)]


def flags_of(command: str) -> set[str]:
    owners = option_owners(command)
    fields = [field for owner in owners for field in dataclasses.fields(owner)]
    negated = {f"no{field.name}" for field in fields if isinstance(field.default, bool)}
    return {field.name for field in fields} | negated


def flags_of_experiments() -> set[str]:
    return set().union(
        *(
            flags_added(path)
            for folder in ("benchmarks", "experiments")
            for path in (ROOT / folder).rglob("*.py")
        )
    )


def flags_added(path: Path) -> set[str]:
    """Flags of a script that uses argparse."""
    return set(re.findall(r'add_argument\(\s*"--([a-z_]+)"', path.read_text(encoding="utf-8")))


def script_of(name: str) -> Path | None:
    """File behind `python -m experiments.NAME` (dots between parts), or None."""
    path = ROOT.joinpath("experiments", *name.split("."))
    matches = [file for file in (path / "__main__.py", path.with_suffix(".py")) if file.is_file()]
    return matches[0] if matches else None


ALL_FLAGS = FOREIGN.union(flags_of_experiments(), *(flags_of(name) for name in COMMANDS))


def test_options_help_is_a_sentence():
    owners = [*section_types().values(), *(command.options for command in COMMANDS.values())]
    poor = [
        field.name
        for owner in owners
        for field in dataclasses.fields(owner)
        if len(field.metadata["help"]) < 10 or not field.metadata["help"].endswith(".")
    ]
    assert poor == []


def test_option_names_of_a_command_are_unique():
    for command in COMMANDS:
        owners = option_owners(command)
        names = [field.name for owner in owners for field in dataclasses.fields(owner)]
        assert len(names) == len(set(names))


def test_file_names_of_run_folders_are_defined_once():
    names = re.compile(r'"(?:results\.json|audit\.json|metrics\.jsonl)"')
    named = {
        path.relative_to(ROOT).as_posix()
        for folder in ("tf_mtl_privacy", "benchmarks", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        if names.search(path.read_text(encoding="utf-8"))
    }
    assert named == {"tf_mtl_privacy/config/run.py"}


@pytest.mark.parametrize("name", sorted(shipped()))
def test_shipped_configurations_parse(name):
    data = ["--data_dir=photographs"] if name.startswith(("celeba", "photographs")) else []
    config = parse("train", [f"--flagfile={name}", *data]).config
    assert isinstance(config, Config) and config != Config()
    model = re.search(r"_(stl|mtl_adv_dp|mtl_adv|mtl_dp)\.cfg$", name)
    # The public encoder is trained without DP: its pictures show no real person.
    usual = "mtl_adv" if name == "backbone.cfg" else "mtl_adv_dp"
    assert config.train.model == (model[1] if model else usual)


def test_documented_configurations_are_shipped():
    models = ("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp")
    bases = ("synthetic", "synthetic_small", "celeba")
    promised = {"demo.cfg", "celeba_identity.cfg", *(f"{base}.cfg" for base in bases)}
    promised |= {"backbone.cfg", "synthetic_dp_all.cfg"}
    promised |= {f"{base}_{model}.cfg" for base in bases for model in models}
    assert promised <= set(shipped())


def test_celeba_configuration_has_the_papers_numbers():
    config = parse("train", ["--flagfile=celeba.cfg", "--data_dir=x"]).config
    loss, privacy, train = config.loss, config.privacy, config.train
    assert (loss.alpha, loss.beta, loss.beta_late, loss.gamma) == (0.4, 0.1, 0.3, 0.3)
    assert (loss.beta_switch, loss.beta_max, loss.beta_check_epochs) == (0.5, 0.5, 10)
    assert loss.beta_check_accuracy == 0.6
    assert privacy.l2_norm_clip == 1.0
    assert (privacy.target_epsilon_pretrain, privacy.target_epsilon_adversarial) == (2.0, 0.5)
    # CelebA's official partition has 162,770 training rows.
    assert privacy.delta <= 1 / (2 * 162_770)
    assert (train.gate_business, train.gate_discriminator, train.gate_psnr) == (
        "gender=0.90",
        0.8,
        30,
    )
    assert train.stop_business == "gender=0.95,age=0.80"
    assert (train.stop_change, train.stop_epochs) == (0.01, 5)
    assert (train.stop_privacy, train.stop_membership, train.stop_psnr) == (0.15, 0.10, 32)
    model = config.model
    assert (model.encoder, model.effective_encoder_weights) == ("resnet50", "imagenet")
    assert config.data.image_size == 128


def test_project_files_name_no_registry_and_no_machine_path():
    # Split here so that this file does not contain them.
    hosts = [
        "py" + "pi.org",
        "python" + "hosted",
        "index" + "-url",
        "extra" + "-index",
        "conda" + ".org",
    ]
    paths = [f"/{name}/" for name in ("ro" + "ot", "ho" + "me", "wo" + "rk", "Us" + "ers")]
    texts = {
        path: path.read_bytes().decode("utf-8", errors="ignore")
        for path in project_files()
        if path.suffix not in (".png", ".npz", ".h5")
    }
    assert len(texts) > 40
    matches = [
        f"{path.relative_to(ROOT)}: {needle}"
        for path, text in texts.items()
        for needle in (*hosts, *paths)
        if needle in text
    ]
    assert matches == []


def test_extras_are_installed_from_the_checkout_everywhere():
    """The package is on no registry, so another project could own its name there."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = set(re.findall(r'^        "(\w+)": \[', setup, re.MULTILINE))
    assert {"serving", "onnx", "perceptual", "test"} <= extras
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    sources += (ROOT / "tf_mtl_privacy").rglob("*.py")
    named = set()
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert f"{'tf_mtl_privacy'}[" not in text, path
        matches = re.findall(r"pip install (\S+)\[(\w+)\]", text)
        assert {place for place, _ in matches} <= {"'."}, path
        named |= {extra for _, extra in matches}
        named |= set(re.findall(r"install_command\([\"'](\w+)", text))
    assert {"serving", "onnx", "perceptual"} <= named <= extras


def test_flags_named_on_pages_exist():
    unknown = [
        f"{page.name}: --{name}"
        for page in pages()
        for name in sorted(flags_named(page.read_text(encoding="utf-8")) - ALL_FLAGS)
        # The history names options as they were called then.
        if page.name != "CHANGELOG.md" or name not in RENAMED_OPTIONS
    ]
    assert unknown == []


def test_commands_on_pages_exist_and_have_the_flags():
    checked = 0
    for page in pages():
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for command, rest in re.findall(
            r"(?:python -m tf_mtl_privacy\.|tf-mtl-privacy )(\w+)([^\n`]*)", text
        ):
            package = ROOT / "tf_mtl_privacy"
            modules = (package / f"{command}.py", package / command / "__main__.py")
            assert any(module.is_file() for module in modules), f"{page.name}: {command}"
            assert flags_named(rest) <= flags_of(command) | FOREIGN, f"{page.name}: {command}{rest}"
            checked += 1
    assert checked >= 4


def commands_of_experiments(text: str) -> list[tuple[str, str]]:
    """(name, flags) of every `python -m experiments.NAME FLAGS` in a page or docstring."""
    matches = re.findall(r"python -m experiments\.([\w.]*\w)((?:[^`\n]|\n(?!\n|python ))*)", text)
    return [(name, rest) for name, rest in matches if name != "NAME"]


def test_experiment_commands_on_pages_exist_and_have_the_flags():
    checked = 0
    for page in pages():
        for name, rest in commands_of_experiments(page.read_text(encoding="utf-8")):
            script = script_of(name)
            assert script is not None, f"{page}: experiments.{name}"
            own, _, further = rest.partition(" -- ")
            assert flags_named(own) <= flags_added(script) | FOREIGN, f"{page}: {name}{rest}"
            assert flags_named(further) <= flags_of("train") | FOREIGN, f"{page}: {name}{rest}"
            checked += 1
    assert checked >= 10


def test_experiments_name_their_command_in_readme_and_docstring():
    scripts = [
        path
        for path in (ROOT / "experiments").rglob("*.py")
        if "def main(" in path.read_text(encoding="utf-8")
    ]
    assert len(scripts) >= 10
    for path in scripts:
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__main__" else parts)
        command = f"python -m {module}"
        assert re.search(rf"{command}(?![\w.])", path.read_text(encoding="utf-8")), path
        readme = (ROOT / "experiments" / parts[1] / "README.md").read_text(encoding="utf-8")
        assert re.search(rf"{command}(?![\w.])", readme), f"{parts[1]}: {command}"


def test_benchmarks_named_on_pages_exist():
    there = {path.stem for path in (ROOT / "benchmarks").rglob("*.py")}
    texts = [*pages(), *(ROOT / "tf_mtl_privacy").rglob("*.py"), ROOT / "Makefile"]
    named = {
        (path.name, name)
        for path in texts
        if path.name != "CHANGELOG.md"
        for name in re.findall(r"benchmarks[./](?:peers[./])?(\w+)", path.read_text("utf-8"))
        if name not in there
    }
    assert named == set()


def test_make_targets_on_pages_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE))
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")]
    named = {name for text in texts for name in re.findall(r"(?:`|^)make ([a-z]+)", text, re.M)}
    assert {"demo", "test", "lint"} <= named <= targets
    assert "make browser lint test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_demo_reports_on_the_run_it_trained():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    train, report = (
        line.split(" -m ")[1] for line in recipe.splitlines() if "tf_mtl_privacy" in line
    )
    assert train.startswith("tf_mtl_privacy.train") and report.startswith("tf_mtl_privacy.report")
    folders = [
        parse(name, line.split()[1:]).options.run_dir
        for name, line in (("train", train), ("report", report))
    ]
    assert folders[0] == folders[1]


def test_checks_planted_mistakes_are_found():
    fence = "python -m experiments.c \\\n  --y\npython -m experiments.d"
    text = f"`python -m experiments.a.b --x` {fence}"
    assert [name for name, _ in commands_of_experiments(text)] == ["a.b", "c", "d"]
    assert flags_named(commands_of_experiments(text)[1][1]) == {"y"}
    assert script_of("ablations") and script_of("ablations.page") and not script_of("nosuch")
    text = "pip --no-deps --alpha=1 `--nosuch`, a--b, ---"
    assert flags_named(text) == {"alpha", "nosuch"}
    assert "nosuch" not in ALL_FLAGS and "noearly_gates" in flags_of("train")
    assert "noalpha" not in flags_of("train")


def test_tf_functions_do_not_use_autograph():
    """No function branches on a tensor, and AutoGraph would take a quarter of the tracing time."""
    made = [
        (path, re.findall(r"tf\.function\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", text), text)
        for path in (ROOT / "tf_mtl_privacy").rglob("*.py")
        if "tf.function" in (text := path.read_text(encoding="utf-8"))
    ]
    assert sum(len(calls) for _, calls, _ in made) > 20
    for path, calls, text in made:
        assert not re.search(r"@tf\.function\n", text), path
        assert [call for call in calls if "autograph=False" not in call] == [], path
