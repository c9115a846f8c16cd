"""Flags and flagfiles: where files are found, what wins, what is refused and how it is said."""

import dataclasses
import json
import re

import pytest

from tests.cli.parsing import in_an_empty_folder, refused, train  # noqa: F401
from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.cli.flags import HelpRequested, parse
from tf_mtl_privacy.config import Config, section_types


def test_without_flags_everything_has_its_default():
    parsed = train()
    assert parsed.config == Config()
    assert parsed.explicit == frozenset()
    assert (parsed.options.run_dir, parsed.options.log_images) == ("runs/default", False)
    assert parsed.data is parsed.config.data


def test_all_ways_to_write_a_flag():
    argv = ["--alpha=0.5", "--batch_size", "64", "-seed=3", "--noearly_gates", "--freeze_backbone"]
    parsed = train(*argv, "--encoder_weights=w.h5", "--tasks=gender=Male,age=Young")
    config = parsed.config
    assert (config.loss.alpha, config.train.batch_size, config.train.seed) == (0.5, 64, 3)
    assert (config.train.early_gates, config.model.freeze_backbone) == (False, True)
    assert config.data.task_attributes == {"gender": "Male", "age": "Young"}
    assert {"alpha", "batch_size", "seed", "early_gates", "tasks"} <= parsed.explicit
    assert "beta" not in parsed.explicit


def test_parses_do_not_share_flags():
    assert train("--alpha=0.9").config.loss.alpha == 0.9
    assert train().config.loss.alpha == Config().loss.alpha
    assert parse("prepare", ["--force"]).options.force is True


def test_shipped_flagfile_from_any_folder():
    for written in (["--flagfile=synthetic_small.cfg"], ["--flagfile", "synthetic_small.cfg"]):
        data = train(*written).config.data
        # synthetic_small.cfg lowers the rows of synthetic.cfg, which it includes.
        assert data.train_rows < train("--flagfile=synthetic.cfg").config.data.train_rows


def test_a_file_of_ones_own_comes_before_a_shipped_one(tmp_path):
    (tmp_path / "elsewhere" / "demo.cfg").write_text("--alpha=0.77\n")
    assert train("--flagfile=demo.cfg").config.loss.alpha == 0.77


def test_nested_flagfiles_are_found_beside_the_including_one(tmp_path):
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "top.cfg").write_text(
        "# top\n\n// also a comment\n--flagfile=../base.cfg\n--gamma 0.2\n"
    )
    (tmp_path / "a" / "base.cfg").write_text("  --alpha=0.6\n--gamma=0.9\n--flagfile demo.cfg\n")
    config = train(f"--flagfile={deep}/top.cfg").config
    assert (config.loss.alpha, config.loss.gamma) == (
        train("--flagfile=demo.cfg").config.loss.alpha,
        0.2,
    )


@pytest.mark.parametrize(
    ("argv", "alpha"),
    [
        (["--flagfile=own.cfg"], 0.6),
        (["--flagfile=own.cfg", "--alpha=0.1"], 0.1),
        (["--alpha=0.1", "--flagfile=own.cfg"], 0.6),
        (["--alpha=0.1", "--alpha=0.2"], 0.2),
        (["--flagfile=own.cfg", "--flagfile=other.cfg"], 0.7),
    ],
)
def test_the_later_flag_wins(tmp_path, argv, alpha):
    (tmp_path / "elsewhere" / "own.cfg").write_text("--alpha=0.6\n")
    (tmp_path / "elsewhere" / "other.cfg").write_text("--alpha=0.7")
    assert train(*argv).config.loss.alpha == alpha


def test_circle_of_flagfiles(tmp_path):
    folder = tmp_path / "elsewhere"
    (folder / "one.cfg").write_text("--flagfile=two.cfg\n")
    (folder / "two.cfg").write_text("--flagfile=one.cfg\n")
    assert "one.cfg -> two.cfg -> one.cfg" in refused("--flagfile=one.cfg")
    # Twice the same file is no circle.
    (folder / "three.cfg").write_text("--alpha=0.3\n")
    assert train("--flagfile=three.cfg", "--flagfile=three.cfg").config.loss.alpha == 0.3


def test_bad_flagfiles(tmp_path):
    folder = tmp_path / "elsewhere"
    message = refused("--flagfile=nowhere.cfg")
    assert "nowhere.cfg" in message and "celeba.cfg" in message and "demo.cfg" in message
    assert "--flagfile=" in refused("--flagfile=") and "--flagfile=" in refused("--flagfile")
    (folder / "words.cfg").write_text("--alpha=0.3\nalpha 0.3\n")
    assert "words.cfg:2" in refused("--flagfile=words.cfg")
    (folder / "typo.cfg").write_text("# a comment\n--alhpa=0.3\n")
    message = refused("--flagfile=typo.cfg")
    assert "--alhpa" in message and "typo.cfg:2" in message and "--alpha" in message
    (folder / "binary.cfg").write_bytes(b"\xff\xfe\x00")
    assert "binary.cfg" in refused("--flagfile=binary.cfg")
    (folder / "includes.cfg").write_text("--flagfile=gone.cfg\n")
    assert "includes.cfg:1" in refused("--flagfile=includes.cfg")


def test_unknown_flags_are_named_with_the_closest_one():
    assert "did you mean --batch_size?" in refused("--batchsize=3")
    assert "--zzz" in refused("--zzz")
    assert "--undefok" in refused("--undefok=alpha", "--alpha=1")
    assert "flag of train" in refused("--alpha=0.3", verb="evaluate")
    assert "flag of train" in refused("--alpha=0.3", "x.png", verb="predict")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--alpha=x", "a number >= 0"),
        ("--alpha=-0.1", ">= 0"),
        ("--alpha=nan", ">= 0"),
        ("--beta=inf", ">= 0"),
        ("--beta_switch=1.5", "<= 1"),
        ("--batch_size=0", ">= 1"),
        ("--batch_size=1.5", "an integer >= 1"),
        ("--batch_size=", "an integer >= 1"),
        ("--learning_rate=0", "> 0"),
        ("--image_size=16", ">= 32"),
        ("--image_size=66", "multiple of 8"),
        ("--image_size=256", "32 to 128"),
        ("--early_gates=maybe", "true or false"),
        ("--encoder=vgg", "one of compact, resnet50, mobilenet_v2"),
        ("--model=MTL", "one of stl, mtl_adv, mtl_dp, mtl_adv_dp"),
        ("--feature_stride=5", "4, 8, 16 or 32"),
        ("--dataset=mnist", "celeba"),
        ("--tasks=gender", "name=attribute"),
        ("--gate_business=gender=95", "[0, 1]"),
        ("--delta=0", "> 0"),
        ("--noise_multiplier=0", "allow_zero_noise"),
        ("--threads=-1", ">= 0"),
        ("--run_dir=", "a folder"),
    ],
)
def test_bad_values_name_flag_value_and_range(flag, words):
    message = refused(flag)
    name, _, value = flag.partition("=")
    assert name in message and value.strip("-0.") in message and words in message


@pytest.mark.parametrize(
    "argv",
    [
        ["--dataset=celeba"],
        ["--beta=0.4", "--beta_max=0.3"],
        ["--target_epsilon_pretrain=2"],
        ["--encoder=compact", "--encoder_weights=imagenet"],
        ["--freeze_backbone"],
        ["--dataset=tfds:celeb_a", "--data_dir=x", "--private_label=identity"],
        ["--private_label=none"],
        ["--image_size=32", "--feature_stride=16", "--encoder=mobilenet_v2"],
    ],
)
def test_contradictions_are_refused_before_any_data_is_read(argv):
    assert "--" in refused(*argv)


def test_arguments_without_a_flag():
    assert "'celeba'" in refused("celeba")
    assert "--alpha" in refused("--alpha")
    assert "--input" in refused(verb="predict")


def test_saved_configuration_starts_the_same_run(tmp_path):
    first = train("--flagfile=demo.cfg", "--alpha=0.31", "--noearly_gates").config
    (tmp_path / "run").mkdir()
    saved = tmp_path / "run" / "config.json"
    saved.write_text(json.dumps(first.to_dict()))
    again = train(f"--config={saved}")
    assert again.config == first and "alpha" not in again.explicit
    changed = train(f"--config={saved}", "--alpha=0.2", "--early_gates").config
    assert (changed.loss.alpha, changed.train.early_gates) == (0.2, True)
    assert changed.data == first.data
    for text in ("{", "[]", '{"loss": {"alhpa": 1}}', '{"loss": {"alpha": -1}}'):
        saved.write_text(text)
        assert "config.json" in refused(f"--config={saved}")
    assert "gone.json" in refused("--config=gone.json")


@pytest.fixture
def run_dir(tmp_path):
    config = train("--flagfile=celeba.cfg", "--data_dir=photographs", "--test_rows=9").config
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    return folder


def test_evaluate_reads_the_run_s_configuration(run_dir):
    parsed = parse("evaluate", [f"--run_dir={run_dir}", "--split=validation"])
    assert parsed.config.data.dataset == "celeba" and parsed.options.split == "validation"
    assert parsed.data == parsed.config.data
    assert "--split=moon" in refused(f"--run_dir={run_dir}", "--split=moon", verb="evaluate")
    assert "no such folder" in refused("--run_dir=gone", verb="evaluate")
    (run_dir / "config.json").unlink()
    assert str(run_dir) in refused(f"--run_dir={run_dir}", verb="evaluate")


def test_evaluate_on_other_data(run_dir, tmp_path):
    moved = parse("evaluate", [f"--run_dir={run_dir}", "--data_dir=moved"])
    assert moved.data.data_dir == str(tmp_path / "elsewhere" / "moved")
    assert moved.data.test_rows == 9
    assert moved.config.data.data_dir.endswith("photographs")
    other = parse("evaluate", [f"--run_dir={run_dir}", "--dataset=lfw", "--data_dir=faces"])
    assert (other.data.dataset, other.data.image_size, other.data.test_rows) == ("lfw", 128, 0)
    assert other.data.effective_private_label == "none"
    assert "--data_dir" in refused(f"--run_dir={run_dir}", "--dataset=lfw", verb="evaluate")


def test_predict_takes_inputs_with_and_without_a_flag(run_dir):
    argv = ["a.png", f"--run_dir={run_dir}", "--input=b", "--input", "c", "--", "--d.png"]
    options = parse("predict", argv).options
    assert options.input == ("b", "c", "a.png", "--d.png")


def test_help_comes_before_errors():
    for argv in (["--help"], ["--alhpa=1", "-h"], ["--flagfile=nowhere", "--helpfull"]):
        with pytest.raises(HelpRequested):
            train(*argv)
    with pytest.raises(HelpRequested) as short:
        train("--help")
    with pytest.raises(HelpRequested) as full:
        train("--helpfull")
    assert "--target_epsilon_pretrain" in str(short.value) and "default 0.4" in str(full.value)
    assert "one of compact, resnet50, mobilenet_v2" in str(full.value)


@pytest.mark.parametrize("verb", sorted(COMMANDS))
def test_help_lists_the_choices_of_every_option_that_has_some(verb):
    with pytest.raises(HelpRequested) as shown:
        parse(verb, ["--help"])
    text = str(shown.value)
    command = COMMANDS[verb]
    owners = [command.options, *(section_types()[name] for name in command.sections)]
    fields = [field for owner in owners for field in dataclasses.fields(owner)]
    for field in fields:
        choices = field.metadata.get("choices")
        if choices:
            # Its own entry, and not where another option's text names it.
            entry = re.search(rf"\n  --{field.name}\s(.*?)(\n  --|\n\n)", text, re.DOTALL)
            assert f"({', '.join(choices)})" in " ".join(entry[1].split()), field.name
    with_choices = {field.name for field in fields if field.metadata.get("choices")}
    if verb == "train":
        assert {"model", "encoder", "mask_fill", "probe"} <= with_choices
