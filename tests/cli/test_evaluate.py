"""The command `evaluate`: other data sets, digests in run folders, and runs of older versions."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from tests.cli.conftest import TINY
from tests.evaluation.probes.conftest import TINY as TINY_ATTACK
from tests.fakes.folders import write_celeba, write_lfw
from tests.privacy.test_noise_record import LINE
from tests.reporting.report.runs import kept_results
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.data import fingerprints
from tf_mtl_privacy.data.fingerprints import keyed
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.membership import lira
from tf_mtl_privacy.evaluation.membership.run import MembershipBudget
from tf_mtl_privacy.evaluation.membership.saved import Shadows, attack_run
from tf_mtl_privacy.evaluation.probes import probe_cache, saved
from tf_mtl_privacy.evaluation.probes.budget import FAST
from tf_mtl_privacy.evaluation.probes.data import Labelled
from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
from tf_mtl_privacy.training.saved_run import load_run


@pytest.fixture(scope="module")
def celeba_run(tmp_path_factory, session_loaded):
    folder = tmp_path_factory.mktemp("celeba_run")
    write_celeba(folder / "celeba", count=40)
    flags = [flag for flag in TINY if "rows" not in flag]
    done = session_loaded(
        "tf_mtl_privacy.train",
        *flags,
        "--dataset=celeba",
        "--private_label=attributes:Eyeglasses",
        "--data_dir=celeba",
        "--cache_dir=cache",
        "--run_dir=run",
        cwd=folder,
        untraced=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_evaluate_celeba_run_on_lfw(celeba_run, loaded):
    write_lfw(celeba_run / "lfw")
    run_dir = celeba_run / "run"
    before = (run_dir / "results.json").read_text()
    done = loaded(
        "tf_mtl_privacy.evaluate",
        f"--run_dir={run_dir}",
        "--dataset=lfw",
        f"--data_dir={celeba_run / 'lfw'}",
        "--verbose",
    )
    assert done.returncode == 0, done.stderr
    (path,) = run_dir.glob("results_lfw_????????.json")
    results = json.loads(path.read_text())
    assert results["evaluated_on"]["data_fingerprint"].startswith(path.stem.rsplit("_", 1)[1])
    assert set(results["utility"]) == {"gender", "age", "expression"}
    assert results["utility"]["gender"]["n"] == 4
    assert "classifier scores" in results["evaluated_on"]["label_note"]
    assert "classifier scores" in " ".join(done.stdout.split())
    assert results["privacy"]["discriminator"] is None, "its classes mean nothing there"
    assert (run_dir / "results.json").read_text() == before


def test_no_file_of_the_run_has_a_digest_that_a_guess_could_be_checked_against(celeba_run):
    (meta,) = (celeba_run / "cache").glob("celeba-*/meta.json")
    store = json.loads(meta.read_text())
    results = json.loads((celeba_run / "run" / "results.json").read_text())
    mac, _, key_id = results["evaluated_on"]["data_fingerprint"].partition(".")
    assert len(mac) == 64 and len(key_id) == 8
    secret = (celeba_run / "cache" / "fingerprint.key").read_bytes()
    files = [path for path in (celeba_run / "run").rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        for text in (store["fingerprint"][:8], store["checksum"][:8]):
            assert text.encode() not in content, path
        assert secret not in content and secret.hex().encode() not in content


def recorded_digests(monkeypatch):
    """Collects every plain digest of pictures, labels or row numbers made from now on."""
    plain = []

    def published(digest, key):
        plain.append(digest)
        return fingerprints.published(digest, key)

    for module in (probe_cache, lira):
        monkeypatch.setattr(module, "published", published)
    return plain


def test_kept_readings_and_shadows_have_no_plain_digest_and_are_found_again(
    celeba_run, tmp_path, monkeypatch
):
    run_dir = shutil.copytree(celeba_run / "run", tmp_path / "run")
    attacked = ("features", "features_again", "images", "pixels", "untrained", "logits", "planted")
    attackers = dict.fromkeys(attacked, ("knn_whitened",))
    setting = dataclasses.replace(FAST, **TINY_ATTACK, **attackers)
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", setting)
    with monkeypatch.context() as patch:
        plain = recorded_digests(patch)
        first = evaluate_run(run_dir, probe="fast")["privacy"]["probe"]
        run = load_run(run_dir)
        dataset = open_dataset(run.config.data)
        # Membership needs 20 rows on either side; these 40 are cut anew.
        halves = {"train": np.arange(20), "test": np.arange(20, 40)}
        dataset = dataclasses.replace(dataset, rows=dataset.rows | halves)
        effort = MembershipBudget(24, ("logistic",), 8, 2, 1)
        trained = []

        def train(number, rows, place):
            trained.append(number)
            return saved.networks(run)

        full = Shadows(2, run_dir / "audit" / "shadows", train)
        attack_run(run, dataset, run.config.data, effort, full)
        assert trained == [0, 1] and len(plain) > 4
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert {"plan.json"} < {path.name for path in files}
    assert [path for path in files if path.name.startswith("attackers-")]
    for path in files:
        for text in plain:
            assert text.encode() not in path.read_bytes() and text not in path.name, path
    # The same machine has the same secret: nothing is made twice.
    again = evaluate_run(run_dir, probe="fast")["privacy"]["probe"]
    assert again["kept_readings"] > 0 == first["kept_readings"]
    attack_run(run, dataset, run.config.data, effort, full)
    assert trained == [0, 1]
    # A plan of an earlier version, with the plain digest, is written anew and not refused.
    plan = run_dir / "audit" / "shadows" / "plan.json"
    content = json.loads(plan.read_text())
    assert content["rows"] == keyed(plain[-1], dataset.key) != plain[-1]
    plan.write_text(json.dumps(content | {"rows": plain[-1]}))
    attack_run(run, dataset, run.config.data, effort, full)
    assert trained == [0, 1] and json.loads(plan.read_text()) == content
    plan.write_text(json.dumps(content | {"rows": "0" * 16}))
    with pytest.raises(RunError, match="shadow models of another model or other rows"):
        attack_run(run, dataset, run.config.data, effort, full)


def test_digests_of_synthetic_faces_are_plain():
    part = Labelled(np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1]))
    plain, secret = probe_cache.part_digest(part, None), probe_cache.part_digest(part, b"k" * 32)
    assert len(plain) == 16 and secret == keyed(plain, b"k" * 32)
    assert probe_cache.rows_digest("no rows", b"k" * 32) == "no rows"


def test_evaluate_moved_data_is_the_same_data(celeba_run, session_loaded):
    config = json.loads((celeba_run / "run" / "config.json").read_text())["data"]
    assert config["data_dir"] == str(celeba_run / "celeba")
    assert config["cache_dir"] == str(celeba_run / "cache")
    run_dir = celeba_run / "run"
    command = ("tf_mtl_privacy.evaluate", f"--run_dir={run_dir}")
    done = session_loaded(*command, "--data_dir=celeba", cwd=celeba_run)
    assert done.returncode == 0, done.stderr
    assert str(run_dir / "results.json") in done.stdout


def test_evaluate_labels_that_move_training_rows_into_the_test_set_are_refused(celeba_run, loaded):
    done = loaded(
        "tf_mtl_privacy.evaluate",
        f"--run_dir={celeba_run / 'run'}",
        "--private_label=identity",
        "--num_identities=4",
    )
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "--split=test: the run was trained on" in line and "Traceback" not in done.stderr


def test_evaluate_other_split_writes_its_own_file(celeba_run, loaded):
    run_dir = celeba_run / "run"
    done = loaded("tf_mtl_privacy.evaluate", f"--run_dir={run_dir}", "--split=validation")
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "results_validation.json").read_text())
    assert results["counts"]["evaluated"] == 8
    assert results["evaluated_on"]["split"] == "validation"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--run_dir=nowhere"], ["nowhere", "no such folder"]),
        (["--run_dir=."], ["config.json"]),
        (["--split=exam"], ["--split", "exam"]),
        (["--image_size=64"], ["--image_size", "32"]),
        (["--dataset=lfw"], ["--data_dir"]),
    ],
)
def test_wrong_requests_are_one_line(celeba_run, loaded, flags, words):
    done = loaded("tf_mtl_privacy.evaluate", f"--run_dir={celeba_run / 'run'}", *flags)
    assert done.returncode == 2, done.stderr
    line = done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and all(word in line for word in words), line


def test_evaluate_unfinished_run_is_refused(celeba_run, loaded, tmp_path):
    unfinished = tmp_path / "run"
    unfinished.mkdir()
    config = (celeba_run / "run" / "config.json").read_text()
    (unfinished / "config.json").write_text(config)
    done = loaded("tf_mtl_privacy.evaluate", f"--run_dir={unfinished}")
    assert done.returncode == 2 and "not finished" in done.stderr


STATED = "epsilon 1.9991"


@pytest.fixture
def old_run(trained, tmp_path):
    """A copy of the tiny run with the `dp` section of a published result in its files."""
    folder = shutil.copytree(trained[0], tmp_path / "run")
    dp = kept_results("synthetic_dp_all", noise=None)["dp"]
    for name in ("training.json", "results.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"dp": dp}))
    (folder / "privacy.txt").write_text("encoder, as released: epsilon 2.000\n")
    return folder


def test_evaluate_and_export_void_epsilon_is_withdrawn(old_run, tmp_path, capsys):
    line = f"{STATED} {LINE}"
    assert load_run(old_run).status["dp"]["void_reason"] == line

    # Before the run is evaluated again results.json still has the figure.
    target = tmp_path / "model"
    arguments = [f"--run_dir={old_run}", f"--export_dir={target}"]
    assert execute("export", arguments) == 0
    assert f"Privacy: No privacy guarantee holds: {line}" in capsys.readouterr().out
    card = json.loads((target / "1" / "assets.extra" / "privacy_card.json").read_text())
    assert set(card["released"].values()) == {None} and card["void"] == line

    assert execute("evaluate", [f"--run_dir={old_run}"]) == 0
    screen = capsys.readouterr().out
    assert "void" in screen.lower() and "2.000" not in screen
    assert execute("evaluate", [f"--run_dir={old_run}", "--verbose"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"VOID, no privacy guarantee holds: {line}" in shown and "2.000" not in shown
    dp = json.loads((old_run / "results.json").read_text())["dp"]
    assert dp["void"] and dp["epsilon_pld"] is None and dp["void_reason"] == line
    assert line in " ".join((old_run / "privacy.txt").read_text().split())
    assert "as released" not in (old_run / "privacy.txt").read_text()
