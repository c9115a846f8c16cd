"""docs/results-schema.md and results.json know the same keys."""

import json
import re
from pathlib import Path

from tf_mtl_privacy.reporting.results import NO_EPSILON, build_results

DOCUMENT = Path(__file__).parents[2] / "docs" / "results-schema.md"
# Documented, and only there under circumstances that these results do not have.
ELSEWHERE = {"utility.<task>.reason", "training.tasks.<task>", "restoration.mean_image_reason"}
ELSEWHERE |= {"privacy.discriminator.reason", "privacy.probe", "privacy.leakage"}
ELSEWHERE |= {
    f"privacy.leakage.claim.{name}" for name in ("upper", "target", "level", "all_attackers")
}


def _documented():
    return re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)


def _pattern(key):
    parts = re.split(r"<\w+>", key)
    return re.compile(r"[^.]+".join(re.escape(part) for part in parts))


def _leaves(value, path=""):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def test_every_key_is_documented(results, bare_results):
    patterns = [_pattern(key) for key in _documented()]
    for found in (results, bare_results):
        for path, value in _leaves(found):
            if value != {}:
                assert any(pattern.fullmatch(path) for pattern in patterns), path


def test_every_documented_key_is_there(results, bare_results):
    paths = [path for found in (results, bare_results) for path, _ in _leaves(found)]
    missing = {key for key in _documented() if not any(_pattern(key).fullmatch(p) for p in paths)}
    assert missing == ELSEWHERE


def test_the_whole_is_json_without_nan(results, bare_results):
    for found in (results, bare_results):
        assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


def test_a_run_that_says_nothing_about_training_claims_nothing(results):
    from tf_mtl_privacy.config import Config

    found = build_results(Config(), {}, {}, results["evaluated_on"], {})
    assert found["dp"] == {"epsilon_pld": None, "epsilon_rdp": None, "reason": NO_EPSILON}
    assert found["gates"] == {} and found["stop_rule"] is None and found["training"] is None
