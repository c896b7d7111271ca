"""Blame verdicts as JSON documents."""

import math
from dataclasses import asdict
from typing import Any

from speechpipe.monitor.blame.reasons import describe
from speechpipe.monitor.blame.verdict import Verdict
from speechpipe.monitor.spec import CascadeSpec


def document(spec: CascadeSpec, verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain data; numbers that are not finite become None."""
    return {
        "verdict": verdict.label,
        "stage": verdict.blamed,
        "also": list(verdict.also),
        "perhaps": list(verdict.perhaps),
        "decided": verdict.decided,
        "reason": verdict.reason,
        "since": verdict.since,
        "cases": verdict.cases,
        "ranking": list(verdict.ranking),
        "strengths": {label: _finite(value) for label, value in verdict.strengths.items()},
        "path": list(verdict.path),
        "evidence": [
            {"text": describe(spec, finding)} | {key: _finite(value) for key, value in asdict(finding).items()}
            for finding in verdict.findings
        ],
        "probes": [asdict(probe) for probe in verdict.probes],
        "contributions": [
            {key: _finite(value) for key, value in asdict(part).items()} for part in verdict.contributions
        ],
        "refuted_if": verdict.refuted_if,
    }


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
