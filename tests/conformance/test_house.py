"""What the papers of the house say is true: help, shipped configurations, README, Makefile."""

import dataclasses
import re
from pathlib import Path

import pytest

from tf_mtl_privacy.config import Config, section_types
from tf_mtl_privacy.flagfiles import shipped
from tf_mtl_privacy.flags import parse
from tf_mtl_privacy.verbs import VERBS

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
# Flags of other programs that our pages may name.
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
    # Of TensorFlow Serving, and of the tools that are used with an exported model.
    "enable_batching",
    "batching_parameters_file",
    "tag",
    "data",
    "wrap",
    "dir",
    "all",
}


def house_files() -> list[Path]:
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


def flags_of(verb: str) -> set[str]:
    owners = [VERBS[verb].options, *(section_types()[name] for name in VERBS[verb].sections)]
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
    found = [file for file in (path / "__main__.py", path.with_suffix(".py")) if file.is_file()]
    return found[0] if found else None


ALL_FLAGS = FOREIGN.union(flags_of_experiments(), *(flags_of(verb) for verb in VERBS))


def test_every_option_has_a_help_that_is_a_sentence():
    owners = [*section_types().values(), *(verb.options for verb in VERBS.values())]
    poor = [
        field.name
        for owner in owners
        for field in dataclasses.fields(owner)
        if len(field.metadata["help"]) < 10 or not field.metadata["help"].endswith(".")
    ]
    assert poor == []


def test_no_two_sections_share_an_option_name():
    for verb in VERBS.values():
        owners = [verb.options, *(section_types()[name] for name in verb.sections)]
        names = [field.name for owner in owners for field in dataclasses.fields(owner)]
        assert len(names) == len(set(names))


def test_a_file_of_a_run_folder_is_named_in_one_place():
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
    # The public encoder is trained without privacy: nobody is on its pictures.
    usual = "mtl_adv" if name == "backbone.cfg" else "mtl_adv_dp"
    assert config.train.model == (model[1] if model else usual)


def test_every_promised_configuration_is_shipped():
    models = ("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp")
    bases = ("synthetic", "synthetic_small", "celeba")
    promised = {"demo.cfg", "celeba_identity.cfg", *(f"{base}.cfg" for base in bases)}
    promised |= {"backbone.cfg", "synthetic_dp_all.cfg"}
    promised |= {f"{base}_{model}.cfg" for base in bases for model in models}
    assert promised <= set(shipped())


def test_celeba_has_the_paper_s_numbers():
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


def test_no_registry_host_and_no_path_of_one_machine():
    # Put together here so that this file does not name them either.
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
        for path in house_files()
        if path.suffix not in (".png", ".npz", ".h5")
    }
    assert len(texts) > 40
    found = [
        f"{path.relative_to(ROOT)}: {needle}"
        for path, text in texts.items()
        for needle in (*hosts, *paths)
        if needle in text
    ]
    assert found == []


def test_extras_are_installed_by_one_command_everywhere():
    """The package is on no registry: its name there could be anybody's."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = set(re.findall(r'^        "(\w+)": \[', setup, re.MULTILINE))
    assert {"serving", "onnx", "perceptual", "test"} <= extras
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    sources += (ROOT / "tf_mtl_privacy").rglob("*.py")
    named = set()
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert f"{'tf_mtl_privacy'}[" not in text, path
        found = re.findall(r"pip install (\S+)\[(\w+)\]", text)
        assert {place for place, _ in found} <= {"'."}, path
        named |= {extra for _, extra in found}
        named |= set(re.findall(r"install_command\([\"'](\w+)", text))
    assert {"serving", "onnx", "perceptual"} <= named <= extras


def test_every_flag_that_pages_name_exists():
    unknown = [
        f"{page.name}: --{name}"
        for page in pages()
        for name in sorted(flags_named(page.read_text(encoding="utf-8")) - ALL_FLAGS)
    ]
    assert unknown == []


def test_commands_on_pages_have_a_module_and_its_flags():
    checked = 0
    for page in pages():
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for verb, rest in re.findall(r"python -m tf_mtl_privacy\.(\w+)([^\n`]*)", text):
            package = ROOT / "tf_mtl_privacy"
            modules = (package / f"{verb}.py", package / verb / "__main__.py")
            assert any(module.is_file() for module in modules), f"{page.name}: {verb}"
            assert flags_named(rest) <= flags_of(verb) | FOREIGN, f"{page.name}: {verb}{rest}"
            checked += 1
    assert checked >= 4


def commands_of_experiments(text: str) -> list[tuple[str, str]]:
    """(name, flags) of every `python -m experiments.NAME FLAGS` in a page or docstring."""
    found = re.findall(r"python -m experiments\.([\w.]*\w)((?:[^`\n]|\n(?!\n|python ))*)", text)
    return [(name, rest) for name, rest in found if name != "NAME"]


def test_commands_of_experiments_on_pages_have_a_script_and_its_flags():
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


def test_every_experiment_has_a_readme_and_names_its_own_command():
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


def test_no_page_names_an_experiment_as_a_benchmark():
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


def test_the_demo_ends_with_the_report_of_what_it_trained():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", makefile, flags=re.MULTILINE)[1]
    train, report = (
        line.split(" -m ")[1] for line in recipe.splitlines() if "tf_mtl_privacy" in line
    )
    assert train.startswith("tf_mtl_privacy.train") and report.startswith("tf_mtl_privacy.report")
    folders = [
        parse(verb, line.split()[1:]).options.run_dir
        for verb, line in (("train", train), ("report", report))
    ]
    assert folders[0] == folders[1]


def test_the_checks_see_what_they_look_for():
    fence = "python -m experiments.c \\\n  --y\npython -m experiments.d"
    text = f"`python -m experiments.a.b --x` {fence}"
    assert [name for name, _ in commands_of_experiments(text)] == ["a.b", "c", "d"]
    assert flags_named(commands_of_experiments(text)[1][1]) == {"y"}
    assert script_of("ablations") and script_of("ablations.page") and not script_of("nosuch")
    text = "pip --no-deps --alpha=1 `--nosuch`, a--b, ---"
    assert flags_named(text) == {"alpha", "nosuch"}
    assert "nosuch" not in ALL_FLAGS and "noearly_gates" in flags_of("train")
    assert "noalpha" not in flags_of("train")


def test_no_graph_is_made_by_way_of_autograph():
    """No function branches on a tensor; to translate each for that takes a quarter of tracing."""
    made = [
        (path, re.findall(r"tf\.function\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)", text), text)
        for path in (ROOT / "tf_mtl_privacy").rglob("*.py")
        if "tf.function" in (text := path.read_text(encoding="utf-8"))
    ]
    assert sum(len(calls) for _, calls, _ in made) > 20
    for path, calls, text in made:
        assert not re.search(r"@tf\.function\n", text), path
        assert [call for call in calls if "autograph=False" not in call] == [], path
