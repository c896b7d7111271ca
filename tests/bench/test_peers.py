"""The peers of the fault benchmark: what they are given, what their answers become, and that those installed work."""

from dataclasses import replace

import numpy as np
import pytest

from speechpipe.bench.baselines import LEAST_Z, Answer, Baseline, marginal, nothing_moved
from speechpipe.bench.blame import Outcome
from speechpipe.bench.blame_report import document, text
from speechpipe.bench.episodes import Plan
from speechpipe.bench.faults import SEVERITIES
from speechpipe.bench.peers.catalogue import PEERS, answers, installed
from speechpipe.bench.peers.frames import answer, frames
from speechpipe.monitor.blame.normal import Normal, fit
from speechpipe.monitor.cases import Cases
from speechpipe.monitor.spec import CascadeSpec, Metric, MetricKind, Stage

SHARE = MetricKind.SHARE


def metric(name: str, kind: MetricKind = MetricKind.REAL) -> Metric:
    return Metric(name, "", name, "", "session", lambda _: None, value_kind=kind)


SPEC = CascadeSpec(
    name="three",
    stages=(
        Stage("source", "Source"),
        Stage("middle", "Middle", ("source",)),
        Stage("end", "End", ("middle",), blame="last"),
    ),
    metrics=(
        metric("source.level"),
        metric("source.noise"),
        metric("middle.length"),
        metric("middle.empty", SHARE),
        metric("end.score"),
        metric("end.failed", SHARE),
    ),
)
ROWS = 400


def cases(seed: int, rows: int = ROWS, *, middle: float = 0.0) -> Cases:
    """Cases of three stages in a row; `middle` is added to what the second stage makes of its input."""
    random = np.random.default_rng(seed)
    level, noise = random.normal(0, 1, (2, rows))
    length = 0.8 * level + middle + 0.3 * random.normal(0, 1, rows)
    score = 0.8 * length + 0.3 * random.normal(0, 1, rows)
    values = np.stack([level, noise, length, np.zeros(rows), score, random.random(rows) < 0.1], axis=1)
    values[random.random(rows) < 0.1, 4] = np.nan
    return Cases(tuple(one.name for one in SPEC.metrics), np.arange(rows, dtype=float), values)


@pytest.fixture(scope="module")
def normal() -> Normal:
    return fit(SPEC, cases(1))


def test_the_tables_have_no_gaps_and_no_constants(normal: Normal) -> None:
    found = frames(normal, cases(2, 205, middle=2.0), np.random.default_rng(0), each=10)
    assert (len(found.then), len(found.now)) == (40, 20)
    for part in (found.then, found.now):
        assert tuple(part) == normal.cases.names
        assert np.isfinite(part.to_numpy()).all()
        assert (part.std() > 0).all()
    assert found.now["middle.length"].mean() - found.then["middle.length"].mean() == pytest.approx(2.0, abs=0.2)
    assert found.then["source.level"][0] == pytest.approx(normal.cases.values[:10, 0].mean())


def test_a_metric_that_is_hardly_known_is_left_out(normal: Normal) -> None:
    window = cases(2).without("end.score")
    assert "end.score" not in frames(normal, window, np.random.default_rng(0)).owners


def test_each_column_has_the_columns_of_the_stages_before_as_parents(normal: Normal) -> None:
    graph = frames(normal, cases(2), np.random.default_rng(0)).graph
    assert set(graph.predecessors("source.level")) == set()
    assert set(graph.predecessors("middle.empty")) == {"source.level", "source.noise"}
    assert set(graph.predecessors("end.score")) == {"middle.length", "middle.empty"}


def test_methods_that_only_see_a_rise_get_each_column_twice(normal: Normal) -> None:
    found = frames(normal, cases(2), np.random.default_rng(0), signs=True)
    assert (found.now["-end.score"] == -found.now["end.score"]).all()
    assert found.owners["-end.score"] == "end"
    assert len(found.owners) == 12


def test_a_method_with_one_node_a_stage_gets_the_metric_that_moved_most(normal: Normal) -> None:
    window = cases(2, middle=3.0)
    found = frames(normal, window, np.random.default_rng(0)).strongest(normal, window)
    assert list(found.owners.values()) == ["source", "middle", "end"]
    assert list(found.then)[1:] == list(found.now)[1:] == ["middle.length", "end.score"]
    assert set(found.graph.predecessors("end.score")) == {"middle.length"}


def test_the_reference_stands_before_the_window(normal: Normal) -> None:
    both, begin = frames(normal, cases(2, 100), np.random.default_rng(0)).together()
    assert (len(both), begin) == (ROWS + 100, ROWS)
    assert both["time"].tolist() == list(range(ROWS + 100))


def test_a_ranking_of_columns_is_one_of_labels(normal: Normal) -> None:
    found = frames(normal, cases(2), np.random.default_rng(0))
    assert answer(found, ["end.score", "end.failed", "source.noise"]).ranking == ("last", "source", "middle")
    assert answer(found, []).ranking == ("source", "middle", "last")


def test_a_peer_that_fails_has_blamed_no_stage_and_is_counted(normal: Normal) -> None:
    def fails(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
        raise ValueError("singular matrix")

    def names(normal: Normal, cases: Cases, random: np.random.Generator) -> Answer:
        return Answer(("middle", "source", "last"))

    peers: dict[str, Baseline] = {"BARO": fails, "CIRCA": names, "dowhy.gcm": names}
    rankings, failed = answers(normal, cases(2, middle=2.0), 1, peers)
    assert rankings == {"BARO": ("none",), "CIRCA": ("middle", "source", "last")}  # DoWhy judges every fifth
    assert failed == ("BARO",)
    rankings, failed = answers(normal, cases(2), 0, peers)
    assert {ranking[0] for ranking in rankings.values()} == {"none"}  # nothing moved: nobody is asked
    assert set(rankings) == set(peers)
    assert failed == ()


def test_the_threshold_is_that_of_the_largest_z(normal: Normal) -> None:
    for middle in (0.0, 0.3, 0.6, 2.0):
        window = cases(2, middle=middle)
        moved = max(marginal(normal, window).values()) >= LEAST_Z
        assert (nothing_moved(normal, window) is None) is moved


def test_the_report_has_their_rows_and_says_what_failed_and_what_is_missing() -> None:
    methods = ("speechpipe", "speechpipe without probes", "random", "largest z", "earliest")
    rankings = {**dict.fromkeys(methods, ("input", "vad")), "BARO": ("input",), "RCD": ("none",)}
    healthy = Outcome(Plan("", "", 1), rankings, (), 3, 0, 300, 0.1, watched=True)
    faulty = [replace(healthy, plan=Plan("babble", severity, 0), failed=("RCD",)) for severity in SEVERITIES]
    about = {"clips": 1, "speakers": 1, "half": "held out"}
    found = document([*faulty, healthy], [], about)
    assert found["baselines"]["BARO"]["top1"]["severe"]["value"] == 1.0
    assert found["baselines"]["RCD"]["top1"]["severe"]["value"] == 0.0
    assert found["failed"] == {"RCD": 3}
    assert "CIRCA" in found["missing"]
    lines = text(found).splitlines()
    assert any(line.startswith("BARO ") for line in lines)
    assert "  failed, counted as none: RCD 3" in lines
    assert any("not installed" in line and "CIRCA" in line for line in lines)


def test_those_that_are_installed_name_an_obvious_fault(normal: Normal) -> None:
    """With the extra `test` that is BARO's library; with `bench` more of them (docs/blame.md)."""
    found = installed()
    assert {"BARO", "nsigma"} <= found.keys() <= {peer.name for peer in PEERS}
    rankings, failed = answers(normal, cases(2, middle=3.0), 0)
    assert failed == ()
    assert rankings.keys() == found.keys()
    for name, ranking in rankings.items():
        assert set(ranking) == {"source", "middle", "last"}, name
    assert rankings.get("CIRCA", ("middle",))[0] == "middle"
    assert rankings["BARO"][0] != "source"  # it has no graph: what follows from the fault moves as much
