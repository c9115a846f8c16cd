"""Finished run folders with the results that docs/results keeps, and small made-up files beside."""

import io
import json
from pathlib import Path

from PIL import Image

from tests.reporting.audits import make_audit
from tf_mtl_privacy.privacy.noise_record import NOISE

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "results"
GENDER = (0.5, 0.9, 0.95)


def kept_results(name="demo_cut_noise", noise=NOISE):
    """A results.json of the project's own pages, with a record of the noise that they lack."""
    found = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    if noise:
        found["dp"]["noise"] = noise
    return found


def metrics():
    """One epoch of business, two of the discriminator, one of the restorer, three joint ones."""
    lines = [{"phase": "business", "epoch": 1, "validation_gender_accuracy": 0.91}]
    lines += [
        {
            "phase": "discriminator",
            "epoch": epoch,
            "validation_privacy_accuracy": 0.2,
            "validation_privacy_balanced_accuracy": 0.1 * epoch,
        }
        for epoch in (1, 2)
    ]
    lines.append({"phase": "restorer", "epoch": 1, "validation_psnr_db": 30.5})
    for epoch, gender in enumerate(GENDER, start=1):
        joint = {"phase": "adversarial", "epoch": epoch, "beta": 0.1 if epoch < 3 else 0.3}
        joint["validation_gender_accuracy"] = gender
        joint["validation_privacy_accuracy"] = 0.125
        joint["validation_psnr_db"] = 31.0 + epoch
        lines.append(joint)
    lines[-1]["validation_fresh_probe_balanced_accuracy"] = 0.14
    return lines


def sheet(colour="teal"):
    """A small PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (160, 80), colour).save(buffer, "PNG")
    return buffer.getvalue()


def write_run(folder, results=None, audit=True, pictures=True, epochs=True, **others):
    """Writes a run folder; `others` are further JSON files by name without the ending."""
    results = results or kept_results()
    folder.mkdir(parents=True)
    files = {"results": results, **others}
    if audit:
        files["audit"] = make_audit(results) if audit is True else audit
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    if epochs:
        lines = "".join(json.dumps(line) + "\n" for line in metrics())
        (folder / "metrics.jsonl").write_text(lines, encoding="utf-8")
    if pictures:
        (folder / "restored.png").write_bytes(sheet())
        (folder / "regions.png").write_bytes(sheet("orange"))
    return folder
