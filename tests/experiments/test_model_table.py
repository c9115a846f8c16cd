"""experiments/model_table: which runs are trained, and what is printed."""

from experiments.model_table.__main__ import main
from tests.fake_trainer import FakeTrainer
from tf_mtl_privacy.cli.flags import parse


def test_model_table_trains_missing_runs_and_prints(tmp_path, capsys):
    arguments = [f"--runs={tmp_path}", "--seeds=2", "--", "--train_rows=300"]
    trainer = FakeTrainer(**{"mtl_dp-seed1": [1]})
    assert main(arguments, trainer) == 1
    shown = capsys.readouterr()
    assert "not done: mtl_dp-seed1" in shown.err and "Missing" in shown.out
    assert main(arguments, trainer) == 0
    assert "Missing" not in capsys.readouterr().out
    models = ("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp", "dp_scope_all")
    expected = [f"{model}-seed{seed}" for seed in (0, 1) for model in models]
    expected.insert(4, "backbone")
    assert trainer.trained == [*expected, "mtl_dp-seed1"]
    assert all(parse("train", c[3:]).config.data.train_rows == 300 for c in trainer.commands)
    stopped = FakeTrainer(**{"stl-seed2": [130]})
    assert main([f"--runs={tmp_path}", "--seeds=3", *arguments[2:]], stopped) == 130
