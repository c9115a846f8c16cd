"""A stand-in for training: writes the results.json of a command's own configuration."""

from pathlib import Path

from tests.reporting.table_runs import results
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.files import write_json


class FakeTrainer:
    """Writes results; `codes` (run folder's name -> exit codes, one per call) may fail it."""

    def __init__(self, figures=None, **codes):
        self.commands, self.trained, self.codes = [], [], codes
        self._figures = figures or (lambda config: {})

    def __call__(self, command):
        parsed = parse("train", command[3:])
        folder = parsed.options.run_dir.rpartition("/")[2]
        self.commands.append(command)
        self.trained.append(folder)
        codes = self.codes.get(folder, [])
        if code := codes.pop(0) if codes else 0:
            return code
        config = parsed.config
        scope = "dp_scope_all" if config.privacy.dp_scope == "all" else config.train.model
        found = results(scope, config.train.seed, **self._figures(config))
        found["config"] = config.to_dict()
        if parsed.options.probe == "none":
            found["privacy"]["probe"] = None
        Path(parsed.options.run_dir).mkdir(parents=True, exist_ok=True)
        write_json(f"{parsed.options.run_dir}/results.json", found)
        return 0
