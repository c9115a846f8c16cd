"""The budget enforcer with a real ledger on disk and optimizers that only count."""

import dataclasses

import pytest

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy.accounting.events import SampledGaussian
from tf_mtl_privacy.privacy.ledger import LEDGER_FILE, LedgerHeader, read_ledger
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.private_updates import Budget, PrivatePlan, Update

DELTA = 1e-5
PHASES = {
    "pre": ("discriminator", SampledGaussian(2.0, 0.1, rows=640)),
    "game": ("adversarial", SampledGaussian(3.0, 0.2, rows=640)),
    "restore": ("adversarial", SampledGaussian(2.5, 0.1, rows=640)),
}


@dataclasses.dataclass
class Counter:
    iterations: int = 0


def plan(*budgets):
    updates = {name: Update(phase, None, m, 64.0, 20) for name, (phase, m) in PHASES.items()}
    header = LedgerHeader({name: m for name, (_, m) in PHASES.items()}, l2_norm_clip=1.0)
    return PrivatePlan(updates, tuple(budgets), header, DELTA)


def spending(folder, optimizers, *budgets, run_id="", block=4, void=""):
    return BudgetEnforcer(folder, plan(*budgets), optimizers, run_id=run_id, block=block, void=void)


def optimizers():
    return {name: Counter() for name in PHASES}


def spent(folder):
    state = read_ledger(folder)
    return tuple(state.spent(name) for name in PHASES)


def step(own, *names):
    for name in names:
        own[name].iterations += 1


def cost(counts):
    return reference_epsilon(
        [
            (m.noise_multiplier, m.sampling_probability, count)
            for (_, m), count in zip(PHASES.values(), counts, strict=True)
        ],
        DELTA,
        interval=1e-3,
    )


def run(own, spender, phase, left, names):
    """Steps until `left` are done or the budget is exhausted; returns the number of steps."""
    done = 0
    while done < left and spender.cover(phase, left - done):
        step(own, *names)
        done += 1
    return done


def test_older_ledger_that_lacks_lost_updates_is_refused(tmp_path):
    own, path = optimizers(), tmp_path / LEDGER_FILE
    with spending(tmp_path, own) as spender:
        run(own, spender, "discriminator", 4, ["pre"])
        spender.settle()
        old, saved = path.read_bytes(), dict(spender.counted())
        assert saved == {"pre": 4, "game": 0, "restore": 0}
        assert spender.cover("discriminator", 8)  # reserved; then the process dies
    run_id = read_ledger(tmp_path).run_id
    restored = {name: Counter(saved[name]) for name in PHASES}
    with spending(tmp_path, restored, run_id=run_id) as spender:
        assert spender.cover("discriminator", 8)
        step(restored, "pre")
        later = spender.counted()
        spender.settle()
        assert spender.counted() == later == {"pre": 4 + 4 + 1, "game": 0, "restore": 0}
    path.write_bytes(old)
    restored["pre"].iterations = 4
    changes = {"run_id": run_id, "block": 4, "void": ""}
    with pytest.raises(RunError, match="counts 4 updates of pre, but had counted 9"):
        BudgetEnforcer(tmp_path, plan(), restored, counted=later, **changes)
    BudgetEnforcer(tmp_path, plan(), restored, counted=saved, **changes).close()


def test_block_is_on_disk_before_first_step(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        assert spent(tmp_path) == (0, 0, 0)
        seen = []
        for left in range(10, 0, -1):
            assert spender.cover("discriminator", left)
            step(own, "pre")
            seen.append(spent(tmp_path)[0])
        # Blocks of four, and the last one no larger than what is left.
        assert seen == [4] * 4 + [8] * 4 + [10] * 2
    assert spent(tmp_path) == (10, 0, 0)


def test_covered_step_writes_nothing(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        spender.cover("discriminator", 9)
        before = (tmp_path / LEDGER_FILE).read_bytes()
        for _ in range(3):
            assert spender.cover("discriminator", 9)
        assert (tmp_path / LEDGER_FILE).read_bytes() == before


def test_step_reserves_each_of_its_updates(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        assert spender.cover("adversarial", 3)
        assert spent(tmp_path) == (0, 3, 3)
        step(own, "game", "restore")
        spender.settle()
        assert spent(tmp_path) == (0, 1, 1)


def test_partly_covered_step_reserves_missing_updates(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        assert spender.cover("adversarial", 4)
        step(own, *["game"] * 4)
        assert spender.cover("adversarial", 4)
        assert spent(tmp_path) == (0, 8, 4)


def test_phase_without_private_updates_reserves_nothing(tmp_path):
    with spending(tmp_path, optimizers(), Budget(("pre",), 1e-6)) as spender:
        assert spender.cover("business", 10) and spender.cover("restorer", 10)
        assert spent(tmp_path) == (0, 0, 0)
        assert not spender.cover("discriminator", 10)
        assert spent(tmp_path) == (0, 0, 0), "what may not run is not counted"


def test_settle_returns_unused_reservations(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        run(own, spender, "discriminator", 5, ["pre"])
        assert spender.cover("discriminator", 15)
        spender.settle()
        assert spent(tmp_path) == (5, 0, 0)
        before = (tmp_path / LEDGER_FILE).read_bytes()
        spender.settle()
        assert (tmp_path / LEDGER_FILE).read_bytes() == before
        assert spender.cover("discriminator", 15), "what runs next is reserved again"
        assert spent(tmp_path) == (9, 0, 0)


def test_enforcer_stops_at_end_of_budget(tmp_path):
    # Between nine steps and ten of both updates, after six of the other phase.
    target = (cost((6, 9, 9)) + cost((6, 10, 10))) / 2
    own = optimizers()
    with spending(tmp_path, own, Budget(tuple(PHASES), target)) as spender:
        assert run(own, spender, "discriminator", 6, ["pre"]) == 6
        assert run(own, spender, "adversarial", 50, ["game", "restore"]) == 9
        assert not spender.cover("adversarial", 41)
        spender.settle()
        assert spent(tmp_path) == (6, 9, 9)
        assert [spender.state.spent(name) for name in PHASES] == [6, 9, 9]


def test_enforcer_keeps_budgets_apart(tmp_path):
    before, joint = (cost((6, 0, 0)) + cost((7, 0, 0))) / 2, cost((0, 5, 5)) + 0.001
    own = optimizers()
    budgets = Budget(("pre",), before), Budget(("game", "restore"), joint)
    with spending(tmp_path, own, *budgets) as spender:
        assert run(own, spender, "discriminator", 50, ["pre"]) == 6
        assert run(own, spender, "adversarial", 50, ["game", "restore"]) == 5
    assert cost((6, 5, 5)) > max(before, joint)


def test_updates_lost_in_kill_stay_counted(tmp_path):
    target = (cost((0, 9, 9)) + cost((0, 10, 10))) / 2
    budget = Budget(("game", "restore"), target)
    first = optimizers()
    spender = spending(tmp_path, first, budget)
    for _ in range(5):
        assert spender.cover("adversarial", 18)
        step(first, "game", "restore")
    spender.close()  # as a kill does: nothing is settled
    assert spent(tmp_path) == (0, 8, 8)
    # The checkpoint has two of the five, the budget one more.
    second = {"pre": Counter(0), "game": Counter(2), "restore": Counter(2)}
    with spending(tmp_path, second, budget, run_id=read_ledger(tmp_path).run_id) as spender:
        assert run(second, spender, "adversarial", 18, ["game", "restore"]) == 1
    assert spent(tmp_path) == (0, 9, 9) and second["game"].iterations == 3
    assert cost(spent(tmp_path)) <= target


def test_enforcer_without_budgets_never_stops(tmp_path):
    own = optimizers()
    with spending(tmp_path, own, block=100) as spender:
        assert run(own, spender, "discriminator", 500, ["pre"]) == 500
    assert spent(tmp_path) == (500, 0, 0)


def test_optimizer_without_ledger_is_refused(tmp_path):
    own = {"pre": Counter(3), "game": Counter(0), "restore": Counter(0)}
    with pytest.raises(RunError, match="no such file, but the checkpoint has 3 private updates"):
        spending(tmp_path, own, run_id="ab" * 16)
    assert not (tmp_path / LEDGER_FILE).exists()


def test_older_or_foreign_ledger_is_refused(tmp_path):
    own = optimizers()
    with spending(tmp_path, own) as spender:
        run_id = spender.run_id
        run(own, spender, "discriminator", 2, ["pre"])
    older = (tmp_path / LEDGER_FILE).read_bytes()
    with spending(tmp_path, own, run_id=run_id) as spender:
        run(own, spender, "discriminator", 4, ["pre"])
    (tmp_path / LEDGER_FILE).write_bytes(older)
    with pytest.raises(RunError, match="2 updates of pre, but the checkpoint has 6"):
        spending(tmp_path, own, run_id=run_id)
    with pytest.raises(RunError, match="another run"):
        spending(tmp_path, optimizers(), run_id="00" * 16)


def test_ledger_with_other_noise_is_refused(tmp_path):
    spending(tmp_path, optimizers()).close()
    other = plan()
    changed = {**other.header.phases, "pre": SampledGaussian(1.0, 0.1, rows=640)}
    other = dataclasses.replace(other, header=dataclasses.replace(other.header, phases=changed))
    with pytest.raises(UsageError, match=r"phases\.pre\.noise_multiplier=1\.0"):
        BudgetEnforcer(tmp_path, other, optimizers(), run_id="", block=4, void="")


def test_reason_that_voids_process_stays_in_ledger(tmp_path):
    spending(tmp_path, optimizers(), void="a fixed key").close()
    with spending(tmp_path, optimizers()) as spender:
        assert spender.state.void == "a fixed key"
