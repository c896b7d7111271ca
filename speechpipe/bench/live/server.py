"""The server under test: `speechpipe serve` with a state folder of its own and the hook for faults inside it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

import speechpipe
from speechpipe.bench.capacity import hand_on
from speechpipe.bench.live.active import Values, write
from speechpipe.bench.live.hook import write_hook
from speechpipe.bench.live.probes import write_probes
from speechpipe.config import Settings
from speechpipe.foundation import system
from speechpipe.foundation.storage.store import Store
from speechpipe.foundation.tenants import tenant_of
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

READY_S = 180.0
END_S = 60.0
LOOK_S = 0.2
SHOWN_BYTES = 4_000


@dataclass(frozen=True)
class ServerOptions:
    """How the server is started.

    Attributes:
        bundle: the champion.
        probes: manifest of whose first recordings probes are made, see `probes.py`; None: no probes.
        probe_every_s: seconds between two rounds of probes.
        keys: API keys of consumers and enterprises; empty: the server needs none.
        enterprises: those of the keys whose tenants are enterprises.
        operator: the operator's key, if there are keys.
        more: further environment variables.
    """

    bundle: str
    probes: Path | None = None
    probe_every_s: float = 10.0
    keys: Sequence[str] = ()
    enterprises: Sequence[str] = ()
    operator: str = ""
    more: Mapping[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def running(options: ServerOptions) -> Iterator["LiveServer"]:
    """Run a server in a temporary folder; end it, and delete the folder, at the end.

    Raises:
        RuntimeError: it is not ready within `READY_S`; with the end of its log.
    """
    root = Path(tempfile.mkdtemp(prefix="speechpipe-live-"))
    server = LiveServer(root, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


class LiveServer:
    """The server's processes and folder. Blocking; used by one thread at a time."""

    def __init__(self, root: Path, options: ServerOptions) -> None:
        self._root = root
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._active = root / "faults.json"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        write(self._active, {})
        write_hook(root / "hook", self._active)
        if options.probes is not None:
            write_probes(options.probes, root / "probes")

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self._root / "state" / "speechpipe.db"

    @property
    def log(self) -> str:
        """The end of the server's log."""
        path = self._root / "log"
        return path.read_bytes()[-SHOWN_BYTES:].decode(errors="replace") if path.exists() else ""

    def inject(self, faults: Mapping[str, Values]) -> None:
        """Make these the active faults inside the server's processes."""
        write(self._active, faults)

    def start(self) -> None:
        """Start it, on the same port and folder as before, and wait until it is ready.

        Raises:
            RuntimeError: it is not ready within `READY_S`, or has ended.
        """
        command = [sys.executable, "-m", "speechpipe", "serve"]
        with (self._root / "log").open("ab") as log:
            self._process = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)
        until = time.monotonic() + READY_S
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/readyz", timeout=READY_S).status_code == httpx.codes.OK:
                    return
            time.sleep(LOOK_S)
        raise RuntimeError(f"the server did not start:\n{self.log}")

    def stop(self) -> None:
        """End it as a service manager does, by SIGTERM; by SIGKILL after `END_S`."""
        if self._process is None or self._process.poll() is not None:
            return
        self.thaw()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def workers(self) -> list[int]:
        """Return the process ids of its recognizer processes."""
        if self._process is None:
            return []
        found = system.descendants(self._process.pid)
        return [pid for pid, line in found.items() if "cascade.workers.worker" in line]

    def send(self, pids: Sequence[int], number: signal.Signals) -> None:
        """Send a signal to some of its processes; those that have ended are left out."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def freeze(self) -> None:
        """Stop all of its processes by SIGSTOP, so that they use no CPU."""
        self._all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let all of its processes continue."""
        self._all(signal.SIGCONT)

    def _all(self, number: signal.Signals) -> None:
        if self._process is not None:
            self.send([self._process.pid, *self.workers()], number)

    def health(self) -> HealthOperations:
        """Return the operations on its store, as `speechpipe reference` uses them."""
        return HealthOperations(CASCADE, Store(f"sqlite:///{self.store}"))

    def _environment(self) -> dict[str, str]:
        options = self._options
        package = str(Path(speechpipe.__file__).parents[1])
        before = hand_on({}).get("PYTHONPATH", "")
        state = self._root / "state"
        variables = {
            "PYTHONPATH": ":".join(filter(None, (str(self._root / "hook"), package, before))),
            "SPEECHPIPE_PORT": str(self.port),
            "SPEECHPIPE_BUNDLE": options.bundle,
            "SPEECHPIPE_STATE_DIR": str(state),
            "SPEECHPIPE_STORE_URL": "",
            "SPEECHPIPE_WEIGHTS_DIR": str(Settings().weights_folder),
            # One machine carries server and clients: what is measured is what the server says, not whom it refuses.
            "SPEECHPIPE_LIVE_LOAD_LIMIT": "100",
            "SPEECHPIPE_MAX_UPLOADS": "128",
        }
        if options.probes is not None:
            variables["SPEECHPIPE_PROBES"] = str(self._root / "probes" / "probes.jsonl")
            variables["SPEECHPIPE_PROBE_EVERY_S"] = str(options.probe_every_s)
        if options.keys:
            variables["SPEECHPIPE_API_KEYS"] = json.dumps(list(options.keys))
            variables["SPEECHPIPE_OPERATOR_KEYS"] = json.dumps([options.operator])
            variables["SPEECHPIPE_ENTERPRISE_TENANTS"] = json.dumps([tenant_of(key) for key in options.enterprises])
        return hand_on({**variables, **options.more})
