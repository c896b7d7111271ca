"""Fixtures: where the recordings are, a running service, a running server."""

import functools
import inspect
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

import httpx
import hypothesis
import psutil
import pytest

from speechpipe.app import compose
from speechpipe.cascade.catalog import factories
from speechpipe.cascade.catalog.first_use import Lines, ensure
from speechpipe.config import Settings
from speechpipe.errors import SpeechpipeError
from speechpipe.serving.service import Service
from tests import preloaded
from tests.databases import POSTGRES, place_tables
from tests.patience import PATIENCE_S
from tests.sounds import SHARED

# No deadline: on a busy machine a slow example is no failure. The same examples each time: CI must not roll dice.
hypothesis.settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("house")

# Limits of the product that a busy machine would reach; tests of these limits set their own. Beside other programs,
# recognizer processes of the usual low priority would hardly run.
for _name, _value in {
    "START_TIMEOUT_S": str(PATIENCE_S),
    "SEGMENT_TIMEOUT_S": str(PATIENCE_S),
    "WORKER_NICE": "0",
    "LIVE_WORKER_NICE": "0",
}.items():
    os.environ.setdefault(f"SPEECHPIPE_{_name}", _value)

WEIGHTS = Path(__file__).parents[1] / "var" / "test-weights"
"""Where the weights that tests use are kept: fetched once, for all runs and processes."""

USED = ("default",)
"""Bundles that tests use and that need weights. Servers and commands of tests use the network for none."""

OFFLINE = os.environ.get("SPEECHPIPE_OFFLINE", "0")
os.environ["SPEECHPIPE_OFFLINE"] = "1"
os.environ.setdefault("SPEECHPIPE_WEIGHTS_DIR", str(WEIGHTS))

OWN_WEIGHTS = {"SPEECHPIPE_WEIGHTS_DIR": "", "SPEECHPIPE_OFFLINE": "0"}
"""Variables for tests that fetch weights, from servers of their own."""

# httpx waits five seconds unless it is told otherwise. All of its functions have this object as their default.
_waits = inspect.signature(httpx.get).parameters["timeout"].default
_waits.connect = _waits.read = _waits.write = _waits.pool = PATIENCE_S

# Each call of `httpx.get` makes a client, which reads the certificates of this machine: 25 ms, for servers without TLS.
ssl.create_default_context = functools.cache(ssl.create_default_context)  # type: ignore[assignment]


# Ignored where a shell started the tests in the background, and what they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG_FILES = (
    "e2e/test_recommender.py",
    "interfaces/cli/test_retrain.py",
    "control/rollout/test_serving.py",
    "interfaces/cli/test_commands.py",
    "e2e/test_service_life.py",
    "contract/test_connections.py",
    "contract/test_openai.py",
    "cascade/workers/test_supervisor.py",
    "cascade/asr/test_door.py",
    "contract/test_health.py",
)
"""Files that take longest, by what `--durations=0` says; tests that run beside each other begin with them."""


assert all((Path(__file__).parent / name).exists() for name in LONG_FILES)


def pytest_configure(config: pytest.Config) -> None:
    """Fetch the weights that tests use, before the first test. Without them the run ends: too many tests need them.

    Set SPEECHPIPE_TEST_NO_WEIGHTS to run the others all the same.
    """
    if hasattr(config, "workerinput") or config.option.collectonly or os.environ.get("SPEECHPIPE_TEST_NO_WEIGHTS"):
        return
    settings = Settings(offline=OFFLINE)
    catalogue = factories.catalogue(settings)
    cards = [card for name in USED for card in catalogue.parts(catalogue.bundle(name))]
    try:
        ensure(cards, settings, Lines(partial(print, file=sys.stderr)))
    except SpeechpipeError as error:
        pytest.exit("\n".join(["the tests need weights:", error.message, *error.steps]), returncode=1)


@functools.cache
def _place(path: Path) -> int:
    name = path.relative_to(Path(__file__).parent).as_posix()
    return LONG_FILES.index(name) if name in LONG_FILES else len(LONG_FILES)


def _values(item: pytest.Function) -> set[tuple[str, int]]:
    return {(name, id(value)) for name, value in item.callspec.params.items()}


def _thin_grids(items: list[pytest.Item]) -> None:
    """Of each test marked `grid`, mark as `long` what is not needed for each value of each parameter to occur once."""
    grids: dict[tuple[Path, str], list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and "grid" in item.keywords:
            grids.setdefault((item.path, item.originalname), []).append(item)
    for left in grids.values():
        missing = set().union(*map(_values, left))
        while missing:
            chosen = max(left, key=lambda item: len(_values(item) & missing))
            missing -= _values(chosen)
            chosen.keywords["chosen"] = True
    for item in items:
        if "grid" in item.keywords and "chosen" not in item.keywords:
            item.add_marker(pytest.mark.long)


@pytest.hookimpl(tryfirst=True)  # before those that are not wanted are left out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first. Skip what needs recordings that are not part of the project, and only that."""
    items.sort(key=lambda item: _place(item.path))
    _thin_grids(items)
    if SHARED.exists():
        return
    for item in items:
        if "shared_data" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="no recordings beside the checkout (../shared/data)"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Where SPEECHPIPE_TEST_NO_SKIP is set (CI), a skip for lack of anything but recordings is a failure."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("SPEECHPIPE_TEST_NO_SKIP") and "shared_data" not in item.keywords:
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """The same for a whole file (`pytest.importorskip`)."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.skipped and os.environ.get("SPEECHPIPE_TEST_NO_SKIP"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """A running service whose champion is the scripted recognizer, with every shipped bundle at hand."""
    settings = Settings(bundle="scripted", workers=2, worker_nice=0)
    with compose(settings) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def _helpers() -> Iterator[None]:
    yield
    preloaded.HELPER.end()
    POSTGRES.stop()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio only."""
    return "asyncio"


@dataclass
class Server:
    """A `speechpipe serve` process of its own."""

    url: str
    process: subprocess.Popen[str]
    log: list[str]
    state: Path

    def workers(self) -> list[psutil.Process]:
        """Its recognizer processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def rest(self) -> None:
        """Stop all of its processes, so that they take no time from others."""
        for process in [psutil.Process(self.process.pid), *self.workers()]:
            process.suspend()

    def go_on(self) -> None:
        """Let its processes go on."""
        for process in [*self.workers(), psutil.Process(self.process.pid)]:
            process.resume()

    def descriptors(self) -> int:
        """Its open files and sockets."""
        return psutil.Process(self.process.pid).num_fds()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            match = re.match(rf"{name}(?:{{(.*)}})? (\S+)$", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total


StartServer = Callable[..., Server]


class Servers:
    """Starts servers on ports of their own; each is ended with SIGTERM and must leave cleanly."""

    def __init__(self) -> None:
        self._started: list[Server] = []

    def __len__(self) -> int:
        return len(self._started)

    def start(self, wait: bool = True, variables: Mapping[str, str] = MappingProxyType({}), **settings: str) -> Server:
        """Start one with these settings; return once it is ready, or with `wait=False` once it listens.

        It has one process for uploads and one for live audio, unless a setting says otherwise. `variables` are further
        ones of its environment.
        """
        state = Path(tempfile.mkdtemp(prefix="speechpipe-test-"))
        if "store_url" not in settings:
            place_tables(state / "speechpipe.db")
        chosen = {"workers": "1", "live_workers": "1", **settings}
        given = {f"SPEECHPIPE_{name.upper()}": value for name, value in chosen.items()} | dict(variables)
        process = preloaded.start(
            *("serve", "--port", "0"),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "SPEECHPIPE_STATE_DIR": str(state), **given},
        )
        assert process.stdout is not None
        log: list[str] = []
        ready, listening = threading.Event(), threading.Event()
        found: list[str] = []

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                log.append(line)
                if match := re.search(r"running on (http://\S+)", line):
                    found.append(match[1])
                    listening.set()
                if " ready: " in line:
                    ready.set()
            ready.set()
            listening.set()

        threading.Thread(target=read, daemon=True).start()
        server = Server("", process, log, state)
        self._started.append(server)
        assert listening.wait(PATIENCE_S), "".join(log)
        assert found, "".join(log)
        server.url = found[0]
        if wait:
            assert ready.wait(PATIENCE_S), "".join(log)
            assert process.poll() is None, "".join(log)
        return server

    def end(self, keep: int = 0) -> None:
        """End all but the first `keep`: one that waits for nothing still takes time from the tests that follow."""
        ending = self._started[keep:]
        del self._started[keep:]
        for server in ending:
            if server.process.poll() is None:
                server.process.send_signal(signal.SIGTERM)
        for server in ending:
            code = server.process.wait(PATIENCE_S)
            assert server.process.stdout is not None
            server.process.stdout.close()
            assert code in (0, 1, 2, -signal.SIGTERM, -signal.SIGKILL), "".join(server.log)
            shutil.rmtree(server.state, ignore_errors=True)


@pytest.fixture(scope="module")
def _servers() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.end()


@pytest.fixture(scope="module")
def start_server(_servers: Servers) -> StartServer:
    """Starts servers that end with the test that started them, or with the module if a fixture of it did."""
    return _servers.start


@pytest.fixture(autouse=True)
def _end_servers(request: pytest.FixtureRequest) -> Iterator[None]:
    if "_servers" not in request.fixturenames:
        yield
        return
    servers: Servers = request.getfixturevalue("_servers")
    before = len(servers)
    yield
    servers.end(before)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One server for all tests that leave it as they found it: scripted champion, small limits."""
    servers = Servers()
    started = servers.start(
        bundle="scripted",
        workers="2",
        live_workers="2",
        live_max_speed="30",
        live_load_limit="100",
        max_upload_bytes=str(26 * 2**20),
        max_audio_s="600",
    )
    _SHARED.append(started)
    yield started
    _SHARED.clear()
    started.go_on()
    servers.end()


_SHARED: list[Server] = []
"""The server of all tests of this process, once there is one."""


@functools.cache
def _modules_that_use_it(session: pytest.Session) -> set[object]:
    functions = [item for item in session.items if isinstance(item, pytest.Function)]
    return {item.module for item in functions if "server" in item.fixturenames}


@pytest.fixture(scope="module", autouse=True)
def _shared_server_rests(request: pytest.FixtureRequest) -> Iterator[None]:
    """Stop that server while modules run that do not use it: it looks for work a hundred times a second."""
    for one in _SHARED if request.module in _modules_that_use_it(request.session) else ():
        one.go_on()
    yield
    for one in _SHARED:
        one.rest()
