"""BARO's `robust_scorer` (Pham et al., FSE 2024) and the `nsigma` of the same library, `fse-baro`. Extra `bench`.

A metric's score is its largest value since the change, in units of its interquartile range (standard deviation) in the
reference. Both see rises only, so each column is there twice, once negated. Rows are means of ten cases: a single case
of a metric that is 0 or 1 has no useful range. BARO's own detection of the change is not used; it gets the same one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from baro.root_cause_analysis import nsigma, robust_scorer

from speechpipe.bench.baselines import Answer, Baseline
from speechpipe.bench.peers.frames import answer, frames
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.cases import Cases

EACH = 10


def _with(scorer: Callable[..., Any]) -> Baseline:
    def judge(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
        found = frames(normal, cases, random, EACH, signs=True)
        both, begin = found.together()
        return answer(found, scorer(both, inject_time=begin)["ranks"])

    return judge


METHODS: Mapping[str, Baseline] = {"BARO": _with(robust_scorer), "nsigma": _with(nsigma)}
