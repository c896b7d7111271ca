"""The tables that the peers of the fault benchmark read: one column a metric, without gaps and without constants.

All peers get the same columns: those metrics that `moved_most` reads, from the same reference and window.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import networkx as nx
import numpy as np
import pandas as pd

from speechpipe.bench.baselines import Answer, least_spread, moved_most, readable
from speechpipe.monitor.blame.normal import Normal
from speechpipe.monitor.blame.verdict import label_of
from speechpipe.monitor.cases import Cases, Column
from speechpipe.monitor.spec import CascadeSpec


@dataclass(frozen=True)
class Frames:
    """The reference and the window. `owners` has for each column the stage that is blamed for it."""

    spec: CascadeSpec
    then: pd.DataFrame
    now: pd.DataFrame
    owners: Mapping[str, str]

    @property
    def graph(self) -> nx.DiGraph:
        """The true graph of the columns: each has all columns of its stage's parents as parents."""
        graph = nx.DiGraph()
        graph.add_nodes_from(self.owners)
        parents = {stage.name: stage.parents for stage in self.spec.stages}
        for child, owner in self.owners.items():
            graph.add_edges_from((name, child) for name, above in self.owners.items() if above in parents[owner])
        return graph

    def strongest(self, normal: Normal, cases: Cases) -> "Frames":
        """Return the tables with one column a label: its metric that moved most."""
        names = [name for name, _ in moved_most(normal, cases).values() if name in self.owners]
        owners = {name: self.owners[name] for name in names}
        return replace(self, then=self.then[names], now=self.now[names], owners=owners)

    def together(self) -> tuple[pd.DataFrame, int]:
        """Return the reference and then the window, with a column `time` (0, 1, ...), and the window's first time."""
        both = pd.concat([self.then, self.now], ignore_index=True)
        both.insert(0, "time", np.arange(len(both)))
        return both, len(self.then)


def frames(normal: Normal, cases: Cases, random: np.random.Generator, each: int = 1, signs: bool = False) -> Frames:
    """Return the tables for a peer.

    Args:
        normal: the reference.
        cases: the window.
        random: for the noise on columns that hardly vary.
        each: rows are means of this many consecutive cases; 1: a row is a case.
        signs: add each column's negative (`-name`) for methods that only see a rise.

    A value that is unknown is the mean of its part. A column that varies less than `moved_most` allows for gets
    noise of that width in both parts, because the methods drop constant columns or divide by their spread.
    """
    then, now, owners = {}, {}, {}
    for known in normal.metrics:
        name = known.metric.name
        before, after = normal.cases.column(name), cases.column(name)
        if not readable(before, after):
            continue
        least = least_spread(known.metric, before)
        noise = least if float(np.nanstd(before)) < least else 0.0
        then[name], now[name] = (_rows(part, each, noise, random) for part in (before, after))
        owners[name] = known.metric.owner
        if signs:
            then[f"-{name}"], now[f"-{name}"], owners[f"-{name}"] = -then[name], -now[name], known.metric.owner
    return Frames(normal.spec, pd.DataFrame(then), pd.DataFrame(now), owners)


def _rows(values: Column, each: int, noise: float, random: np.random.Generator) -> Column:
    filled = np.where(np.isfinite(values), values, np.nanmean(values))
    if noise:
        filled = filled + random.normal(0, noise, len(filled))
    starts = np.arange(max(len(filled) // each, 1)) * each  # the last row has the remainder, too
    return np.asarray(np.add.reduceat(filled, starts) / np.diff([*starts, len(filled)]))


def answer(found: Frames, ranked: Iterable[str]) -> Answer:
    """Return a peer's ranking of columns as one of labels; labels it does not name follow in the order of the spec."""
    labels = {stage.name: label_of(stage) for stage in found.spec.stages}
    named = [labels[found.owners[column]] for column in ranked]
    return Answer(tuple(dict.fromkeys((*named, *labels.values()))))
