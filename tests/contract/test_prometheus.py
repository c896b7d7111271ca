"""Every expression of the dashboard and of the alert rules, asked of a real Prometheus that scrapes a server."""

import json
import math
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from speechpipe.serving.telemetry.prometheus_rules import EXPRESSIONS
from tests.conftest import Server, StartServer
from tests.contract.test_health import SPOKEN, until, upload
from tests.patience import PATIENCE_S

OPS = Path(__file__).parents[2] / "ops"
LIVE = {"software.endpoint_to_final_s"}  # nobody speaks live here: the series are there, their ratio is 0 / 0

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")


@pytest.fixture(scope="module")
def watched(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1")


@pytest.fixture(scope="module")
def prometheus(watched: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copy(OPS / "prometheus" / "alerts.yml", folder)
    config = (OPS / "prometheus" / "prometheus.yml").read_text()
    config = config.replace("127.0.0.1:8000", watched.url.removeprefix("http://")).replace("15s", "1s")
    (folder / "prometheus.yml").write_text(config)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = (folder / "log").open("w")
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client:
            until(lambda: ready(client))
            yield client
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        log.close()


def ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.HTTPError:
        return False


def asked(client: httpx.Client, expression: str) -> list[float]:
    answer = client.get("/api/v1/query", params={"query": expression}).json()
    assert answer["status"] == "success", f"{expression}: {answer}"
    return [float(found["value"][1]) for found in answer["data"]["result"]]


def value(client: httpx.Client, metric: str) -> float:
    return next(iter(asked(client, EXPRESSIONS[metric])), math.nan)


def rules(client: httpx.Client) -> list[dict[str, str]]:
    groups = client.get("/api/v1/rules").json()["data"]["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.mark.long
def test_every_expression_has_a_value_on_healthy_traffic_and_moves_on_bad(
    watched: Server, prometheus: httpx.Client
) -> None:
    until(lambda: asked(prometheus, 'up{job="speechpipe"}') == [1.0])
    until(lambda: asked(prometheus, "count(speechpipe_sessions_total)") != [])  # before the first session
    for clip in SPOKEN[:3]:
        upload(watched, clip)
    until(lambda: value(prometheus, "asr.null_share") == 0.0)
    dashboard = json.loads((OPS / "grafana" / "speechpipe.json").read_text())
    panels = {
        panel["description"].partition(":")[0]: target["expr"]
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    }
    assert set(panels) == set(EXPRESSIONS)
    for metric, expression in panels.items():
        found = asked(prometheus, expression)
        assert len(found) == 1, f"{metric}: {expression}"
        assert metric in LIVE or math.isfinite(found[0]), f"{metric}: {found}"
    assert -80 < value(prometheus, "input.level_dbfs") < 0
    written = json.loads((OPS / "prometheus" / "alerts.yml").read_text())["groups"]
    assert len(rules(prometheus)) == sum(len(group["rules"]) for group in written)
    until(lambda: {rule["health"] for rule in rules(prometheus)} == {"ok"})

    assert value(prometheus, "input.undecodable_share") == 0.0
    for _ in range(5):
        answer = httpx.post(
            f"{watched.url}/v1/audio/transcriptions",
            files={"file": ("x.wav", b"neither sound nor anything else")},
            data={"model": "default"},
            timeout=PATIENCE_S,
        )
        assert answer.status_code in (400, 415)
    until(lambda: value(prometheus, "input.undecodable_share") > 0.3)
