"""Old names of options: accepted with a note as flags, silently in saved configurations."""

import dataclasses
import json
from pathlib import Path

import pytest

from tf_mtl_privacy.cli.commands import COMMANDS
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config, section_types
from tf_mtl_privacy.config.renamed import RENAMED_OPTIONS, with_new_names
from tf_mtl_privacy.errors import UsageError

KEPT = Path(__file__).resolve().parents[1] / "data_files"
OLD_CONFIG = KEPT / "config_before_renames.json"
# Old flag -> (command, other flags it needs, value, value under the new name).
OLD_FLAGS = {
    "keep": ("train", [], "best", "best"),
    "region_head_start": ("train", [], "7", 7),
    "mask_price": ("train", [], "2.5", 2.5),
    "removal_off": ("evaluate", ["--probe=fast"], "runs/b", "runs/b"),
    "power_run": ("audit", [], "runs/b", "runs/b"),
    "merge_rows": ("serve", ["--export_dir=e"], "8", 8),
    "merge_ms": ("serve", ["--export_dir=e"], "1.5", 1.5),
    "largest_batch": ("serve", ["--export_dir=e"], "9", 9),
    "largest_request": ("serve", ["--export_dir=e"], "3", 3 * 2**20),
    "largest_queue": ("serve", ["--export_dir=e"], "11", 11),
}


@pytest.fixture
def run_dir(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(Config().to_dict()))
    return tmp_path


def value_of(parsed, name):
    owners = [parsed.options, *vars(parsed.config).values()]
    (value,) = [getattr(owner, name) for owner in owners if hasattr(owner, name)]
    return value


def test_renamed_options_are_all_tested_and_their_new_names_exist():
    assert set(OLD_FLAGS) == set(RENAMED_OPTIONS)
    for old, (command, *_) in OLD_FLAGS.items():
        entry = COMMANDS[command]
        owners = [entry.options, *(section_types()[name] for name in entry.sections)]
        names = {field.name for owner in owners for field in dataclasses.fields(owner)}
        assert RENAMED_OPTIONS[old].name in names and old not in names


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("old", OLD_FLAGS)
def test_parse_old_flag_sets_the_new_option_with_one_note(old, separate, run_dir, capsys):
    command, more, text, value = OLD_FLAGS[old]
    flags = [f"--{old}", text] if separate else [f"--{old}={text}"]
    runs = [f"--run_dir={run_dir}"] if COMMANDS[command].reads_run else []
    parsed = parse(command, [*runs, *more, *flags])
    new = RENAMED_OPTIONS[old].name
    assert value_of(parsed, new) == value and new in parsed.explicit
    note = capsys.readouterr().err
    assert note.startswith(f"note: --{old} is now --{new}") and note.count("\n") == 1
    assert note.endswith("; the old name will be removed in the next version\n")


@pytest.mark.parametrize("old", OLD_FLAGS)
def test_parse_old_and_new_flag_together_is_refused(old, run_dir):
    command, more, text, _ = OLD_FLAGS[old]
    new = RENAMED_OPTIONS[old].name
    with pytest.raises(UsageError, match=f"--{old}: is the old name of --{new}, which is given"):
        parse(command, [f"--run_dir={run_dir}", *more, f"--{old}={text}", f"--{new}={text}"])


def test_parse_old_flagfile_sets_the_new_options(capsys):
    config = parse("train", [f"--flagfile={KEPT / 'before_renames.cfg'}"]).config
    assert config.game.checkpoint_selection == "best" and config.game.check_epochs == 1
    assert (config.removal.mask_warmup_steps, config.removal.mask_area_penalty) == (150, 2.5)
    assert capsys.readouterr().err.count("note: --") == 3
    # Twice the same old name gives one note, and a later flag wins as usual.
    config = parse("train", ["--keep=last", "--keep=best"]).config
    assert config.game.checkpoint_selection == "best"
    assert capsys.readouterr().err.count("note: --") == 1


def test_parse_wrong_value_of_an_old_flag_names_the_new_one():
    with pytest.raises(UsageError, match="--checkpoint_selection=first: expected one of"):
        parse("train", ["--keep=first"])
    with pytest.raises(UsageError, match="--max_request_bytes=many: expected an integer"):
        parse("serve", ["--export_dir=e", "--largest_request=many"])


def test_parse_old_name_after_the_separator_is_an_argument(run_dir, capsys):
    parsed = parse("predict", [f"--run_dir={run_dir}", "--", "--keep=x"])
    assert parsed.options.input == ("--keep=x",) and capsys.readouterr().err == ""


def test_parse_old_flag_of_another_command_is_unknown(run_dir):
    with pytest.raises(UsageError, match="--power_run: unknown flag"):
        parse("train", ["--power_run=x"])


def test_config_from_before_the_renames_opens_silently(tmp_path, capsys):
    saved = json.loads(OLD_CONFIG.read_text())
    config = Config.from_dict(saved)
    assert config.game.checkpoint_selection == saved["game"]["keep"] == "last"
    assert config.removal.mask_area_penalty == saved["removal"]["mask_price"] == 2.0
    assert config.removal.mask_warmup_steps == saved["removal"]["region_head_start"] == 200
    # Everything else is as it was saved, and the saved text of today opens, too.
    new = config.to_dict()
    assert new == with_new_names(saved) and Config.from_dict(new) == config
    (tmp_path / "config.json").write_text(OLD_CONFIG.read_text())
    assert parse("evaluate", [f"--run_dir={tmp_path}"]).config == config
    assert parse("train", [f"--config={OLD_CONFIG}"]).config == config
    assert capsys.readouterr().err == ""


def test_config_with_an_old_and_a_new_name_is_refused():
    with pytest.raises(UsageError, match="section 'game' has no option 'keep'"):
        Config.from_dict({"game": {"keep": "last", "checkpoint_selection": "best"}})


def test_run_folder_from_before_the_renames_is_resumed(tmp_path):
    from tf_mtl_privacy.training.run_dir import claim

    run_dir = tmp_path / "run"
    run_dir.mkdir(mode=0o700)
    (run_dir / "config.json").write_text(OLD_CONFIG.read_text())
    (run_dir / "training.json").write_text("{}")
    config = Config.from_dict(json.loads(OLD_CONFIG.read_text()))
    with claim(run_dir, config) as folder:
        assert folder == run_dir
    penalty = dataclasses.replace(config.removal, mask_area_penalty=9.0)
    other = dataclasses.replace(config, removal=penalty)
    refused = "--mask_area_penalty=2.0, not 9.0"
    with pytest.raises(UsageError, match=refused), claim(run_dir, other):
        pass


def test_audit_with_old_names_belongs_to_the_same_configuration():
    from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of

    old = json.loads(OLD_CONFIG.read_text())
    new = Config.from_dict(old).to_dict()
    assert audit_is_of({"config": new}, {"config": old})
    new["removal"]["mask_area_penalty"] = 9.0
    assert not audit_is_of({"config": new}, {"config": old})
