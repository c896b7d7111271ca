"""The baseline of the library DoWhy, `gcm.distribution_change` (Budhathoki et al., AISTATS 2021). Extra `bench`.

It needs a causal graph with a model for each node, and attributes the change of a target's distribution to the
mechanisms by Shapley values. Each stage is one node here, represented by its metric that moved most, because the number
of terms doubles with each node. It gets the same graph and window as the other baselines.
"""

import logging
from collections.abc import Mapping

import networkx as nx
import numpy as np
import pandas as pd
from dowhy import gcm

from speechpipe.bench.baselines import Answer, Baseline, moved_most
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.blame.verdict import label_of
from speechpipe.monitor.cases import Cases

MOST_ROWS = 500
SAMPLES = 500


def distribution_change(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
    """Blame the stage whose mechanism explains most of the change of the last stage's distribution."""
    columns = {label: metric for label, (metric, _) in moved_most(normal, cases).items() if metric}
    then, now = _frame(normal.cases, columns, random), _frame(cases, columns, random)
    graph = nx.DiGraph()
    graph.add_nodes_from(columns)
    labels = {stage.name: label_of(stage) for stage in normal.spec.stages}
    for stage in normal.spec.stages:
        for parent in stage.parents:
            ends = labels[parent], labels[stage.name]
            if ends[0] != ends[1] and set(ends) <= columns.keys():
                graph.add_edge(*ends)
    model = gcm.ProbabilisticCausalModel(graph)
    for node in graph.nodes:
        fed = list(graph.predecessors(node))
        linear = gcm.AdditiveNoiseModel(gcm.ml.create_linear_regressor())
        model.set_causal_mechanism(node, linear if fed else gcm.EmpiricalDistribution())
    target = [node for node in nx.topological_sort(graph) if graph.in_degree(node) > 0][-1]
    np.random.seed(int(random.integers(2**31)))
    shares = gcm.distribution_change(model, then, now, target, num_samples=SAMPLES)
    ranking = sorted(columns, key=lambda label: -abs(float(np.nan_to_num(shares.get(label, 0.0)))))
    return Answer(tuple(ranking))


def _frame(cases: Cases, columns: dict[str, str], random: np.random.Generator) -> pd.DataFrame:
    rows = random.permutation(len(cases))[:MOST_ROWS]
    found = {}
    for label, metric in columns.items():
        values = cases.column(metric)[rows]
        known = values[np.isfinite(values)]
        found[label] = np.where(np.isfinite(values), values, np.median(known) if len(known) else 0.0)
    return pd.DataFrame(found)


def quiet() -> None:
    """Suppress the library's progress bars and log lines."""
    gcm.config.disable_progress_bars()
    gcm.config.set_default_n_jobs(1)  # episodes already run in parallel
    logging.getLogger("dowhy").setLevel(logging.ERROR)


quiet()

METHODS: Mapping[str, Baseline] = {"dowhy.gcm": distribution_change}
