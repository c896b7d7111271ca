"""CIRCA (Li et al., KDD 2022) as the library `rcaeval` has it, given the true graph. Extra `bench`.

It regresses each metric on its parents in the reference and takes the residuals since the change; then a metric is
credited with what its descendants show. The library's function `circa` learns a graph and reads 111 rows before and 10
after the change; its classes, which are called here, take a graph and the whole reference and window. Each stage is one
node, its metric that moved most, and rows are means of ten cases: with all metrics as nodes and with single cases it
named far fewer stages right on the half of the faults that thresholds are tuned on.
"""

from collections.abc import Mapping
from datetime import timedelta

import networkx as nx
import numpy as np
from RCAEval.classes.data import CaseData, MemoryDataLoader
from RCAEval.classes.graph import MemoryGraph, Node
from RCAEval.graph_heads.rht import DAScorer, RHTScorer

from speechpipe.bench.baselines import Answer, Baseline
from speechpipe.bench.peers.frames import answer, frames
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.cases import Cases

EACH = 10
CREDITED = 3.0
"""A metric with at least this score is credited with the scores of its descendants; CIRCA's own value."""


def circa(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage of the metric whose residuals are most unusual, with descendant adjustment."""
    found = frames(normal, cases, random, EACH).strongest(normal, cases)
    both, _ = found.together()
    nodes = {name: Node(owner, name) for name, owner in found.owners.items()}
    series: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, node in nodes.items():
        series.setdefault(node.entity, {})[name] = list(zip(both["time"], both[name], strict=True))
    last = len(both) - 1
    data = CaseData(
        MemoryDataLoader(series),
        sli=None,
        detect_time=last,
        interval=timedelta(seconds=1),
        lookup_window=last,
        detect_window=len(found.now),
    )
    graph = MemoryGraph(nx.relabel_nodes(found.graph, nodes))
    scores = RHTScorer(aggregator=np.mean).score(graph, data, last)
    scores = DAScorer(threshold=CREDITED).score(graph, data, last, scores)
    return answer(found, [node.metric for node in sorted(scores, key=lambda node: scores[node].key, reverse=True)])


METHODS: Mapping[str, Baseline] = {"CIRCA": circa}
