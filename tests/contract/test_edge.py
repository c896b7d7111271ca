"""The edge of a running server: hosts, origins, tenants, probes, the address, the path prefix."""

import contextlib
import json
import os
import re
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from tests import preloaded
from tests.conftest import Server, StartServer
from tests.contract.edge import KEY, URL, answer, keyed_server, opened
from tests.patience import PATIENCE_S
from tests.sounds import SAMPLES, encoded, sample


@pytest.fixture(scope="module")
def keyed(start_server: StartServer) -> Server:
    return keyed_server(start_server)


# ---- hosts, origins, tenants ----


def test_websockets_of_foreign_pages_are_refused_before_they_are_accepted(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        with pytest.raises(InvalidStatus) as refused, connect(url, origin=Origin(origin)):
            pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"{}")["err_code"] == "ORIGIN_NOT_ALLOWED"
    with connect(url, origin=Origin(server.url)):
        pass


def test_options_of_the_server_as_a_whole(server: Server) -> None:
    status, _ = answer(opened(server, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    assert status == 204


def test_listed_origins_and_hosts_are_served(start_server: StartServer) -> None:
    server = start_server(
        bundle="scripted",
        workers="1",
        live_workers="1",
        allowed_origins='["https://app.example"]',
        allowed_hosts='["asr.example"]',
    )
    page = {"origin": "https://app.example", "sec-fetch-site": "cross-site", "host": "asr.example"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    preflight = httpx.options(server.url + URL, headers=page | asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "https://app.example"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-allow-headers"] == "authorization"
    files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
    done = httpx.post(server.url + URL, data={"model": "default"}, files=files, headers=page, timeout=PATIENCE_S)
    assert (done.status_code, done.headers["access-control-allow-origin"]) == (200, "https://app.example")
    with connect(server.url.replace("http", "ws") + "/v1/realtime", origin=Origin("https://app.example")):
        pass
    assert httpx.get(f"{server.url}/livez", headers={"host": "other.example"}).status_code == 421


def test_feedback_on_another_tenants_session_finds_nothing(keyed: Server) -> None:
    files = {"file": ("a.wav", encoded(sample("sentence_slt")))}
    done = httpx.post(keyed.url + URL, data={"model": "default"}, files=files, headers=KEY, timeout=PATIENCE_S)
    session = done.headers["x-request-id"]
    other = {"authorization": "Bearer open"}
    for given in ({"session_id": session}, {"utterance_id": f"{session}-0"}):
        body = {"kind": "redo", **given}
        assert httpx.post(f"{keyed.url}/v1/feedback", json=body, headers=other, timeout=PATIENCE_S).status_code == 404
        assert httpx.post(f"{keyed.url}/v1/feedback", json=body, headers=KEY, timeout=PATIENCE_S).status_code == 201


def test_what_a_failing_store_says_stays_in_the_log(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    server = start_server(
        bundle="scripted", workers="1", live_workers="1", store_url=f"sqlite:///{tmp_path}/file/secret-place.db"
    )
    for path in ("/v1/health/report", "/v1/reviews", "/v1/automation", "/v1/rollout", "/v1/retrain", "/v1/alarms"):
        said = httpx.get(server.url + path, timeout=PATIENCE_S)
        assert "secret-place" not in said.text
        assert "sqlite" not in said.text.lower()
        assert "OperationalError" not in said.text


def test_no_key_is_in_the_log_at_any_level(keyed: Server) -> None:
    url = keyed.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000&resume=true"
    with connect(url, additional_headers={"authorization": "Token sesame"}) as talking:
        token = json.loads(talking.recv())["resume_token"]
    with (
        contextlib.suppress(InvalidStatus),
        connect(f"{url}&resume={token}", subprotocols=[Subprotocol("token"), Subprotocol("sesame")]),
    ):
        pass
    httpx.get(f"{keyed.url}/v1/models", headers=KEY)
    httpx.get(f"{keyed.url}/live/{'a' * 400}.js")
    log = "".join(keyed.log)
    for secret in ("sesame", token, "Traceback"):
        assert secret not in log


@pytest.mark.parametrize("value", ["\u00b2", "\u0663", "9" * 30, "9" * 5000, "-1", "1e5", "", "%00"])
def test_numbers_of_a_websocket_that_are_none_are_refused_in_its_shape(server: Server, value: str) -> None:
    url = server.url.replace("http", "ws")
    for path, name in (("/v1/listen?endpointing=", "err_code"), ("/v1/realtime?resume=x&last_seq=", "error")):
        with pytest.raises(InvalidStatus) as refused, connect(f"{url}{path}{value}"):
            pass
        assert 400 <= refused.value.response.status_code < 500
        assert name in json.loads(refused.value.response.body or b"{}")


# ---- probes ----


def test_probes_do_not_wait_behind_requests_that_wait_for_the_store(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    lock = sqlite3.connect(server.state / "speechpipe.db", isolation_level=None)
    with contextlib.closing(lock), ThreadPoolExecutor(60) as pool:
        lock.execute("BEGIN EXCLUSIVE")
        url = f"{server.url}/v1/automation/default"
        waiting = [pool.submit(httpx.put, url, json={"degree": "full"}, timeout=PATIENCE_S) for _ in range(60)]
        time.sleep(0.5)  # they reach the store, which they wait for
        for path in ("/readyz", "/metrics", "/livez"):
            assert httpx.get(server.url + path, timeout=PATIENCE_S).status_code == 200
        assert not all(asked.done() for asked in waiting)
        lock.execute("ROLLBACK")
        assert {asked.result().status_code for asked in waiting} <= {200, 409, 503}


@pytest.mark.parametrize(
    "path", ["/livez", "/readyz", "/metrics", "/", "/live", "/docs", "/openapi.json", "/v1/models"]
)
def test_head_answers_as_get_does(server: Server, path: str) -> None:
    got, headed = httpx.get(server.url + path), httpx.head(server.url + path)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert headed.headers["content-type"] == got.headers["content-type"]


# ---- the address ----


def started(**settings: str) -> subprocess.Popen[str]:
    variables = {f"SPEECHPIPE_{name.upper()}": value for name, value in settings.items()}
    return preloaded.start(
        *("serve", "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "SPEECHPIPE_BUNDLE": "scripted", "SPEECHPIPE_WORKERS": "1", **variables},
    )


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "198.51.100.7"])
def test_without_keys_only_loopback_is_served(tmp_path: Path, host: str) -> None:
    process = started(host=host, state_dir=str(tmp_path / "state"))
    said, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert "SPEECHPIPE_API_KEYS" in said
    assert "SPEECHPIPE_INSECURE" in said
    assert "Traceback" not in said
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"host": "0.0.0.0", "insecure": "1"}, "authentication: OFF, and 0.0.0.0 can be reached from other machines"),
        ({"host": "0.0.0.0", "api_keys": '["a", "b"]'}, "authentication: on (2 API keys)"),
        ({}, "authentication: off (loopback only)"),
    ],
    ids=["insecure", "keys", "loopback"],
)
def test_the_start_says_whether_authentication_is_on(
    start_server: StartServer, settings: dict[str, str], line: str
) -> None:
    server = start_server(bundle="scripted", workers="1", live_workers="1", **settings)
    assert line in "".join(server.log)
    assert SAMPLES.exists()


# ---- under a prefix ----


@pytest.fixture(scope="module")
def proxied(server: Server) -> Iterator[str]:
    """The server behind a proxy that strips `/asr/`, as `location /asr/ { proxy_pass http://server/; }` does."""
    from tests.interfaces.web.proxy import proxy

    with proxy(server.url, "/asr") as url:
        yield url


@pytest.mark.parametrize("page", ["", "live", "review", "health", "docs"])
def test_everything_a_page_names_is_under_the_prefix(proxied: str, page: str) -> None:
    url = f"{proxied}/asr/{page}"
    html = httpx.get(url).text
    named = set(re.findall(r"""(?:src|href)=["']([^"'#]+)""", html))
    assert named
    for name in (name for name in named if not name.startswith("data:")):
        assert httpx.get(httpx.URL(url).join(name)).status_code == 200, name
