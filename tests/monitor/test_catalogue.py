"""The catalogue and everything that hangs on it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from speechpipe.errors import UndecodableAudio
from speechpipe.monitor import change_log, no_traffic, unwatched
from speechpipe.monitor.exposition import Exposition
from speechpipe.monitor.profiles import is_watched
from speechpipe.monitor.spec import CascadeSpec, Metric, Stage
from speechpipe.serving.telemetry.cascade_metrics import CASCADE, UNDECODABLE
from speechpipe.serving.telemetry.failure_modes import FAULTS_BY_METRIC, failure_modes
from speechpipe.serving.telemetry.prometheus_rules import EXPRESSIONS
from speechpipe.serving.telemetry.records import ROWS
from tests.conftest import Server
from tools.generate import files

ROOT = Path(__file__).parents[2]


def test_every_alarm_has_a_section_in_the_runbook_and_every_section_an_alarm() -> None:
    sections = set(re.findall(r"^## (\S+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE))
    assert sections == {row.metric for row in failure_modes(CASCADE)} | {
        unwatched.METRIC,
        change_log.METRIC,
        no_traffic.METRIC,
    }


def test_the_runbook_says_the_severity_that_the_catalogue_says() -> None:
    """A limit pages whatever the severity of the metric is (`monitor/limits.py`)."""
    said = dict(
        re.findall(r"^## (\S+)\n\*\*Severity\*\*: (.+)\.$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    )
    for row in failure_modes(CASCADE):
        metric = CASCADE.metric(row.metric)
        drift = [f"drift: {metric.severity.value}"] if is_watched(metric) else []
        limit = [] if metric.limit is None else [f"limit {metric.limit:g}: page"]
        assert said[row.metric] == ", ".join([*drift, *limit]), row.metric


def test_every_failure_mode_is_linked_from_end_to_end() -> None:
    names = set(CASCADE.by_name)
    assert set(FAULTS_BY_METRIC) <= names
    assert set(EXPRESSIONS) <= names
    for row in failure_modes(CASCADE):
        assert row.what, row.metric
        assert row.detectors
        assert row.alarms


def test_audio_that_cannot_be_used_counts_whatever_the_cause() -> None:
    text = "".join(path.read_text() for path in (ROOT / "speechpipe/cascade/audio").rglob("*.py"))
    raised = re.findall(r"(?:UndecodableAudio|EmptyAudio|TooLarge)\((?:(?!Error\().)*?cause=\"(\w+)\"", text)
    assert len(raised) >= 5
    assert {UndecodableAudio.cause, *raised} <= set(UNDECODABLE)


def test_generated_files_are_up_to_date() -> None:
    for name, text in files().items():
        assert (ROOT / name).read_text() == text, f"{name}: run python tools/generate.py"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_the_rules() -> None:
    for kind, file in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        done = subprocess.run(
            ["promtool", "check", kind, ROOT / "ops/prometheus" / file], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()


def test_every_expression_reads_metrics_that_exist(server: Server) -> None:
    import httpx

    text = httpx.get(f"{server.url}/metrics").text + Exposition(ROWS).text().decode()
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    for name, expression in EXPRESSIONS.items():
        for used in re.findall(r"speechpipe_\w+", expression):
            base = re.sub(r"_(sum|count|bucket)$", "", used)
            assert {used, base, used.removesuffix("_total")} & known, f"{name}: {used}"


def test_metrics_can_be_switched_off_but_not_those_that_do_not_exist() -> None:
    fewer = CASCADE.without(("vad.segment_s",))
    assert "vad.segment_s" not in fewer.by_name
    assert fewer.distributions == ()
    with pytest.raises(ValueError, match=r"no such metric: vad\.nothing"):
        CASCADE.without(("vad.nothing",))


def test_a_cascade_that_does_not_hang_together_is_refused() -> None:
    with pytest.raises(ValueError, match="has parents that do not exist"):
        CascadeSpec("x", (Stage("a", "A", ("b",)),), ())
    row = Metric("b.x", "", "x", "", "unit", lambda _: None)
    with pytest.raises(ValueError, match="no such stage"):
        CascadeSpec("x", (Stage("a", "A"),), (row,))


def test_the_monitor_knows_cascades_and_not_speech() -> None:
    for path in (ROOT / "speechpipe/monitor").rglob("*.py"):
        text = path.read_text()
        assert not re.search(r"\b(vad|asr)\.\w", text.replace("`vad.speech_s`", "")), path
