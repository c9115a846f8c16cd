"""Audits the private update as shipped and with planted faults.

    python -m experiments.dp_audit [--setting=fast] [--epsilon=2] [--repeats=5] [--canaries=N]

Prints one line per claim and fault: the claimed epsilon, the lower bounds found, the bounds of the
same guesses without noise, and the bounds on mu from one update repeated many times. The exit code
is 1 if a fault is missed or the shipped code is contradicted.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.dp_audit.canaries import MakeOptimizer, shipped_optimizer
from tf_mtl_privacy.evaluation.dp_audit.run import Claim, dp_audit, work
from tf_mtl_privacy.privacy.accounting.calibration import noise_for_epsilon
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian
from tf_mtl_privacy.progress import Progress

DELTA = 1e-5
# (name, sampling probability, updates)
CLAIMS = (("1 update, whole batches", 1.0, 1), ("320 updates, Poisson q = 0.05", 0.05, 320))
# A clip norm so large that nothing is clipped, with the noise that the claimed one would have.
_NEVER_CLIPS = 1e4


def halved_noise(model: Any, settings: Any) -> Any:
    """Makes the shipped optimizer with half of the claimed noise."""
    noise = settings.noise_multiplier / 2
    return shipped_optimizer(model, settings._replace(noise_multiplier=noise))


def clipping_off(model: Any, settings: Any) -> Any:
    """Makes the shipped optimizer with the claimed noise and without clipping."""
    return shipped_optimizer(
        model,
        settings._replace(
            l2_norm_clip=settings.l2_norm_clip * _NEVER_CLIPS,
            noise_multiplier=settings.noise_multiplier / _NEVER_CLIPS,
        ),
    )


FAULTS: Mapping[str, MakeOptimizer] = {
    "as shipped": shipped_optimizer,
    "noise halved": halved_noise,
    "clipping off": clipping_off,
}


def claim_near(target: float, probability: float, updates: int) -> Claim:
    """Returns the claim of that many updates with noise calibrated to the target epsilon."""
    noise = noise_for_epsilon(target, DELTA, probability, updates)
    phases = (MechanismRun(SampledGaussian(noise, probability), updates),)
    return Claim(phases, 1.0, DELTA, epsilon(phases, DELTA))


def line(name: str, audits: list[dict[str, Any]]) -> str:
    """Returns one line about the audits of a fault."""
    single = [one["single_step"] for one in audits]
    contradicted = sum(one["verdict"] == "contradicted" for one in audits)
    return (
        f"{name:<13} claimed {audits[0]['claimed']:.2f}  found {figures(audits, 'epsilon_lower')}  "
        f"without noise {figures(audits, 'max_detectable')}  | one update: mu claimed "
        f"{single[0]['mu_claimed']:.2f}, found {figures(single, 'mu_lower')}  | contradicted "
        f"{contradicted} of {len(audits)}"
    )


def figures(audits: list[dict[str, Any]], name: str) -> str:
    """Returns one figure of several audits, separated by spaces."""
    return " ".join(f"{one[name]:.2f}" for one in audits)


def main(argv: Sequence[str] | None = None) -> int:
    """Audits every claim and fault, and prints; returns 1 if a verdict is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.dp_audit", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--setting", choices=("fast", "thorough"), default="fast")
    parser.add_argument(
        "--epsilon", type=float, default=2.0, help="epsilon that the noise is calibrated to"
    )
    parser.add_argument("--repeats", type=int, default=5, help="audits per line")
    parser.add_argument(
        "--canaries", type=int, help="number of canaries; default: as in the setting"
    )
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    wrong = 0
    for name, probability, updates in CLAIMS:
        claim = claim_near(options.epsilon, probability, updates)
        noise = claim.phases[0].mechanism.noise_multiplier
        print(f"{name}; noise multiplier {noise:.3f}, delta {DELTA:g}")
        for fault, make_optimizer in FAULTS.items():
            started, audits = time.process_time(), []
            total = options.repeats * work(claim, options.setting)
            with Progress(total, fault, "updates") as bar:
                for repeat in range(options.repeats):
                    audits.append(
                        dp_audit(
                            claim,
                            setting=options.setting,
                            canaries=options.canaries,
                            seed=repeat,
                            make_optimizer=make_optimizer,
                            done=bar.update,
                        )
                    )
            seconds = (time.process_time() - started) / options.repeats
            print(f"  {line(fault, audits)}  | {seconds:.0f} s of processor time each", flush=True)
            expected = "contradicted" if fault != "as shipped" else "holds"
            wrong += sum(one["verdict"] != expected for one in audits)
        print(
            f"  {audits[0]['canaries']:,} canaries; with half the noise about "
            f"{figures(audits, 'half_noise')} is expected"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
