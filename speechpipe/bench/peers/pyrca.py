"""Methods of the library PyRCA (`sfr-pyrca`): hypothesis testing, RCD and epsilon-diagnosis.

Its pins (scikit-learn < 1.2, javabridge) do not fit; without them these three run on present versions:
`pip install --no-deps sfr-pyrca && pip install dill 'setuptools<81'`. Its RCD is that of the paper's authors, with the
changed parts of causal-learn that RCAEval's needs, too, but does not carry.
"""

from collections.abc import Mapping

import networkx as nx
import numpy as np
from pyrca.analyzers.epsilon_diagnosis import EpsilonDiagnosis, EpsilonDiagnosisConfig
from pyrca.analyzers.ht import HT, HTConfig
from pyrca.analyzers.rcd import RCD, RCDConfig

from speechpipe.bench.baselines import Answer, Baseline
from speechpipe.bench.peers.frames import answer, frames
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.cases import Cases

EACH = 10
"""Cases whose mean is a row: no worse for any of the three than fewer, on the half of the faults for tuning."""


def hypothesis_testing(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage of the metric that its parents explain least, with descendant adjustment (as CIRCA)."""
    found = frames(normal, cases, random, EACH).strongest(normal, cases)  # one node a stage, as for CIRCA
    graph = nx.to_pandas_adjacency(found.graph)
    model = HT(HTConfig(graph=graph, root_cause_top_k=len(found.owners)))
    model.train(found.then)
    return answer(found, [name for name, _ in model.find_root_causes(found.now, adjustment=True).root_cause_nodes])


def rcd(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage of the metric that depends most on the part that a row is of (Ikram et al., NeurIPS 2022)."""
    found = frames(normal, cases, random, EACH)
    np.random.seed(int(random.integers(2**31)))
    model = RCD(RCDConfig(k=len(found.owners)))
    causes = model.find_root_causes(found.then.copy(), found.now.copy())  # it adds a column to both
    return answer(found, [name for name, _ in causes.root_cause_nodes])


def epsilon_diagnosis(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage of the metric that correlates most with its own past (Shan et al., WWW 2019)."""
    found = frames(normal, cases, random, EACH)
    rows = min(len(found.then), len(found.now))
    np.random.seed(int(random.integers(2**31)))
    model = EpsilonDiagnosis(EpsilonDiagnosisConfig(alpha=0.01, root_cause_top_k=len(found.owners)))
    model.train(found.then.tail(rows))
    return answer(found, [name for name, _ in model.find_root_causes(found.now.head(rows)).root_cause_nodes])


METHODS: Mapping[str, Baseline] = {
    "PyRCA HT": hypothesis_testing,
    "RCD": rcd,
    "epsilon-diagnosis": epsilon_diagnosis,
}
