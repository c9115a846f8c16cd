import contextlib
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy.accounting.calibration import affordable_together
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, Ledger, LedgerHeader, read_ledger

DELTA = 1e-5
PRE, ADV = SampledGaussian(3.0, 0.1, rows=640), SampledGaussian(4.0, 0.1, rows=640)
HEADER = LedgerHeader({"discriminator": PRE, "adversarial": ADV}, l2_norm_clip=1.0)


def lines(folder):
    return (folder / LEDGER_FILE).read_text().splitlines()


def test_a_new_ledger(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        assert ledger.spent("discriminator") == ledger.covered("adversarial") == 0
        assert ledger.epsilon(DELTA) == 0 and ledger.void == ""
        assert len(ledger.run_id) == 32
    assert (tmp_path / LEDGER_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]
    assert read_ledger(tmp_path).header == HEADER


def test_what_is_reserved_is_on_disk_before_it_runs(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 50)
        assert read_ledger(tmp_path).spent("discriminator") == 50
        assert ledger.covered("discriminator") == 50


def test_a_continued_run_counts_what_was_left(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 50)
        run_id = ledger.run_id
    # Killed at some point up to 50; the last checkpoint was at 30.
    with Ledger(tmp_path, HEADER, checkpoint={"discriminator": 30}, run_id=run_id) as ledger:
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (50, 30)
        ledger.reserve("discriminator", 50)
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (100, 80)
        ledger.settle("discriminator", 45)
        # 15 ran here, up to 50 before.
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (65, 45)
        ledger.reserve("adversarial", 5)
    assert read_ledger(tmp_path).spent("discriminator") == 65
    assert read_ledger(tmp_path).spent("adversarial") == 5


def test_settling_never_takes_back_what_ran(tmp_path):
    with Ledger(tmp_path, HEADER, checkpoint={}) as ledger:
        ledger.reserve("discriminator", 20)
        ledger.settle("discriminator", 12)
        # A process that went back to an older checkpoint without saying so.
        with pytest.raises(RunError, match="open the ledger anew"):
            ledger.settle("discriminator", 11)
        with pytest.raises(RunError, match="3 updates of discriminator ran without"):
            ledger.settle("discriminator", 15)
        assert read_ledger(tmp_path).spent("discriminator") == 15


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_count_is_never_under_and_at_most_a_block_over_per_process(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ledger")
    block = data.draw(st.integers(1, 9), label="block")
    ran, checkpoint = 0, 0
    for process in range(1, 1 + data.draw(st.integers(1, 5), label="processes")):
        with Ledger(folder, HEADER, checkpoint={"adversarial": checkpoint}) as ledger:
            step = checkpoint
            for _ in range(data.draw(st.integers(0, 25), label="updates")):
                if step == ledger.covered("adversarial"):
                    ledger.reserve("adversarial", block)
                step, ran = step + 1, ran + 1
                if data.draw(st.booleans(), label="checkpoint"):
                    checkpoint = step
                    if data.draw(st.booleans(), label="settled before the kill"):
                        ledger.settle("adversarial", checkpoint)
                assert ran <= ledger.spent("adversarial") <= ran + block * process
        assert ran <= read_ledger(folder).spent("adversarial") <= ran + block * process


@pytest.mark.parametrize("torn", [b'{"kind": "reser', b"\0" * 9, b'{"kind": "reserve"}'])
def test_a_torn_last_line_is_cut_off(tmp_path, torn):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    with open(tmp_path / LEDGER_FILE, "ab") as file:
        file.write(torn)
    assert read_ledger(tmp_path).spent("adversarial") == 7
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 3)
    assert read_ledger(tmp_path).spent("adversarial") == 10
    assert all(isinstance(json.loads(line), dict) for line in lines(tmp_path))


@pytest.mark.parametrize(
    "damage", ["not json", "[]", '{"kind": "gift"}', '{"kind": "reserve"}', '{"count": -3}']
)
def test_a_damaged_ledger_is_refused(tmp_path, damage):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    path = tmp_path / LEDGER_FILE
    path.write_text("\n".join([*lines(tmp_path), damage, lines(tmp_path)[-1]]) + "\n")
    with pytest.raises(RunError, match=r"damaged|unknown record"):
        Ledger(tmp_path, HEADER)
    negative = {"kind": "reserve", "phase": "adversarial", "count": -3}
    path.write_text("\n".join([*path.read_text().splitlines()[:3], json.dumps(negative)]) + "\n")
    with pytest.raises(RunError, match="damaged"):
        read_ledger(tmp_path)


def test_a_file_that_is_no_ledger_is_refused(tmp_path):
    (tmp_path / LEDGER_FILE).write_text('{"kind": "header", "version": 99}\n')
    with pytest.raises(RunError, match="not a ledger of version 2"):
        Ledger(tmp_path, HEADER)
    (tmp_path / LEDGER_FILE).write_text("")
    with pytest.raises(RunError, match="not a ledger"):
        Ledger(tmp_path, HEADER)


def test_a_ledger_of_updates_with_cut_noise_is_void(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    path = tmp_path / LEDGER_FILE
    older = [json.loads(line) for line in lines(tmp_path)]
    older[0]["version"] = 1
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    assert "noise that is cut" in read_ledger(tmp_path).void
    with Ledger(tmp_path, HEADER) as ledger:
        assert "noise that is cut" in ledger.void and ledger.spent("adversarial") == 7


def test_another_header_is_refused(tmp_path):
    Ledger(tmp_path, HEADER).close()
    changes = {
        "l2_norm_clip=2.0: this run's ledger was begun with 1.0": {"l2_norm_clip": 2.0},
        "max_images_per_person=3": {"max_images_per_person": 3},
        "phases.adversarial.noise_multiplier=2.0": {
            "phases": {"discriminator": PRE, "adversarial": SampledGaussian(2.0, 0.1, rows=640)}
        },
        "phases.adversarial": {"phases": {"discriminator": PRE}},
    }
    for words, change in changes.items():
        values = {"phases": HEADER.phases, "l2_norm_clip": 1.0} | change
        with pytest.raises(UsageError, match=words):
            Ledger(tmp_path, LedgerHeader(**values))
    almost = SampledGaussian(4.0 * (1 + 1e-12), 0.1, rows=640)
    Ledger(tmp_path, LedgerHeader({"discriminator": PRE, "adversarial": almost}, 1.0)).close()


def test_a_checkpoint_without_its_ledger_is_refused(tmp_path):
    with pytest.raises(RunError, match="no such file, but the checkpoint has 3 private updates"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 3})
    assert not (tmp_path / LEDGER_FILE).exists()
    with Ledger(tmp_path, HEADER, checkpoint={"adversarial": 0}) as ledger:
        ledger.reserve("adversarial", 5)
    with pytest.raises(RunError, match="5 updates of adversarial, but the checkpoint has 6"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 6})
    with pytest.raises(RunError, match="another run"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 5}, run_id="0" * 32)
    with pytest.raises(RunError, match="unknown phases"):
        Ledger(tmp_path, HEADER, checkpoint={"restorer": 5})
    with pytest.raises(RunError, match="cannot read the ledger"):
        read_ledger(tmp_path / "nowhere")


def test_one_process_at_a_time(tmp_path):
    with Ledger(tmp_path, HEADER), pytest.raises(RunError, match="in use by another process"):
        Ledger(tmp_path, HEADER)
    Ledger(tmp_path, HEADER).close()


def test_a_refused_ledger_is_not_left_locked(tmp_path):
    Ledger(tmp_path, HEADER).close()
    with contextlib.suppress(RunError):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 6})
    Ledger(tmp_path, HEADER).close()


def test_a_full_disk_stops_updates(tmp_path, monkeypatch):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 5)

        def fail(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(RunError, match="No space left"):
            ledger.reserve("adversarial", 5)
        monkeypatch.undo()
        assert ledger.covered("adversarial") == 5
        with pytest.raises(RunError, match="start again"):
            ledger.reserve("adversarial", 5)
    # It may be on disk or not: then it counts, though it did not run.
    assert read_ledger(tmp_path).spent("adversarial") in (5, 10)


def test_a_void_process_voids_the_run(tmp_path):
    Ledger(tmp_path, HEADER, void="a test key").close()
    with Ledger(tmp_path, HEADER) as ledger:
        assert ledger.void == "a test key"
    assert read_ledger(tmp_path).void == "a test key"


def test_epsilon_of_a_phase_and_of_the_run(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 20)
        ledger.reserve("adversarial", 30)
        both = [MechanismRun(PRE, 20), MechanismRun(ADV, 30)]
        assert ledger.epsilon(DELTA) == epsilon(both, DELTA)
        assert ledger.epsilon(DELTA, "rdp", phase="adversarial") == epsilon(both[1:], DELTA, "rdp")
        assert ledger.epsilon(DELTA, person=True) == math.inf
        assert read_ledger(tmp_path).phases() == dict(zip(HEADER.phases, both, strict=True))
    bounded = LedgerHeader({"adversarial": ADV}, 1.0, max_images_per_person=2)
    (tmp_path / LEDGER_FILE).unlink()
    with Ledger(tmp_path, bounded) as ledger:
        ledger.reserve("adversarial", 30)
        person = ledger.epsilon(DELTA, "rdp", person=True)
        assert ledger.epsilon(DELTA, "rdp") < person < math.inf


def test_training_stops_before_it_overspends(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        target, done = 1.0, 0

        def affordable(phase, count, within=("adversarial",)):
            state = read_ledger(tmp_path)
            return affordable_together(state, [phase], count, target, DELTA, within=within)

        while granted := affordable("adversarial", 40):
            ledger.reserve("adversarial", granted)
            done += granted
        assert done > 40 and ledger.epsilon(DELTA) <= target
        assert affordable("adversarial", 1) == 0
        assert epsilon([MechanismRun(ADV, round(done * 1.02))], DELTA) > target
        # Another phase has a budget of its own, unless the budget is that of the whole run.
        assert affordable("discriminator", 10, ("discriminator",)) == 10
        assert affordable("discriminator", 10, None) < 10


def test_shuffled_epochs_count_what_was_repeated(tmp_path):
    mechanism = SampledGaussian(9.0, 0.1, SHUFFLED_EPOCHS, rows=640)
    header = LedgerHeader({"adversarial": mechanism}, 1.0)
    # Three processes die in the first five of ten steps: a row was used in each of them.
    for _ in range(3):
        with Ledger(tmp_path, header) as ledger:
            ledger.reserve("adversarial", 5)
    with Ledger(tmp_path, header) as ledger:
        ledger.reserve("adversarial", 20)
        spent = ledger.phases()["adversarial"]
        assert (spent.steps, spent.exposures) == (35, 5)
    # From the middle of one epoch into the next one: two passes.
    with Ledger(tmp_path, header, checkpoint={"adversarial": 18}) as ledger:
        ledger.reserve("adversarial", 3)
        assert ledger.phases()["adversarial"].exposures == 7
        target = epsilon([MechanismRun(mechanism, 80)], DELTA) * 1.001
        # An eighth pass is affordable, to the end of the epoch that has begun and of the next.
        state = read_ledger(tmp_path)
        assert affordable_together(state, ["adversarial"], 100, target, DELTA) == 19


def test_unknown_phases_and_empty_reservations_are_refused(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        with pytest.raises(UsageError, match="unknown phase 'restorer'"):
            ledger.reserve("restorer", 5)
        with pytest.raises(ValueError, match="count > 0"):
            ledger.reserve("adversarial", 0)
