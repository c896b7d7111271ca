"""The server that `chaos.py` maltreats: started, killed, asked; and the folders and database it lives on."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import sqlalchemy as sa

from speechpipe.bench.capacity import hand_on
from speechpipe.foundation.tenants import tenant_of

ALONE, FOLLOWED, OPERATOR = "chaos-alone-0123456789", "chaos-followed-0123456789", "chaos-operator-0123456789"
"""Keys: of a tenant that the machine answers, of one whose results people must see first (202), of the operator."""

DRAIN_S = 10

READY_S = 30.0
"""The server must be ready again so soon after the end of a fault."""

HOOK = """
import faulthandler, os, signal, subprocess
faulthandler.register(signal.SIGUSR1)
_plain = subprocess.Popen.__init__
def _init(self, *arguments, **options):
    if os.path.exists({flag!r}):
        raise BlockingIOError(11, "Resource temporarily unavailable")
    _plain(self, *arguments, **options)
subprocess.Popen.__init__ = _init
"""
"""What `sitecustomize.py` does to the server: no process can be forked while a file is there."""


@dataclass(frozen=True)
class Places:
    """Folders of the trial. Where mounting is permitted, `state` and `temporary` are small file systems in memory."""

    root: Path
    mounted: str = ""  # why nothing could be mounted; empty if it was

    @property
    def state(self) -> Path:
        """The server's state directory."""
        return self.root / "state"

    @property
    def temporary(self) -> Path:
        """The server's TMPDIR."""
        return self.root / "tmp"

    @property
    def no_fork(self) -> Path:
        """While this file is there, the server can start no process."""
        return self.root / "no-fork"


@contextlib.contextmanager
def places() -> Iterator[Places]:
    """Make the folders, and take them away."""
    root = Path(tempfile.mkdtemp(prefix="speechpipe-chaos-"))
    found, reason = [], ""
    for name, size in (("state", "96m"), ("tmp", "16m")):
        (root / name).mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(root / name)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            found.append(root / name)
        else:
            reason = done.stderr.strip() or "mount failed"
    (root / "hook").mkdir()
    (root / "hook" / "sitecustomize.py").write_text(HOOK.format(flag=str(root / "no-fork")))
    try:
        yield Places(root, reason)
    finally:
        for path in found:
            subprocess.run(["umount", "-l", str(path)], check=False)
        shutil.rmtree(root, ignore_errors=True)


class Postgres:
    """A database server of its own that can be taken away."""

    def __init__(self) -> None:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not found:
            sys.exit("PostgreSQL is not installed (Debian: postgresql)")
        self._binaries = found[-1]
        self._folder = tempfile.mkdtemp(prefix="speechpipe-pg-", dir="/tmp")
        if os.getuid() == 0:  # it refuses to run as root
            shutil.chown(self._folder, "postgres", "postgres")
        self._run("initdb", "-D", f"{self._folder}/data", "-A", "trust", "-U", "speechpipe", "--no-sync")
        self.resume()
        self._run("createdb", "-h", self._folder, "-U", "speechpipe", "chaos")
        self.url = f"postgresql+psycopg://speechpipe@/chaos?host={self._folder}"

    def pause(self) -> None:
        """Stop it; the data stay."""
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-m", "immediate", "-w", "stop")

    def resume(self) -> None:
        """Start it again."""
        options = f"-c listen_addresses='' -k {self._folder}"
        self._run("pg_ctl", "-D", f"{self._folder}/data", "-l", f"{self._folder}/log", "-w", "-o", options, "start")

    def _run(self, program: str, *arguments: str) -> None:
        user = "postgres" if os.getuid() == 0 else None
        command = [str(self._binaries / program), *arguments]
        quiet = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=quiet, stderr=quiet, cwd="/tmp", user=user, group=user)

    def remove(self) -> None:
        """Stop it and delete everything."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self.pause()
        shutil.rmtree(self._folder, ignore_errors=True)


@dataclass
class Subject:
    """The server."""

    places: Places
    bundle: str
    postgres: Postgres | None = None
    deaths: list[str] = field(default_factory=list)  # ends that nobody asked for

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (self.places.root / "log").open("ab")
        self._client = httpx.Client(base_url=self.url, timeout=20, verify=False)

    def start(self) -> None:
        """Start it, on the same port and folders as ever; does not wait."""
        variables = {
            "SPEECHPIPE_PORT": str(self.port),
            "SPEECHPIPE_BUNDLE": self.bundle,
            "SPEECHPIPE_STATE_DIR": str(self.places.state),
            "SPEECHPIPE_WORKERS": "2",
            "SPEECHPIPE_LIVE_WORKERS": "2",
            "SPEECHPIPE_LIVE_LOAD_LIMIT": "100",
            "SPEECHPIPE_SEGMENT_TIMEOUT_S": "20",
            "SPEECHPIPE_DRAIN_TIMEOUT_S": str(DRAIN_S),
            "SPEECHPIPE_API_KEYS": f'["{ALONE}", "{FOLLOWED}"]',
            "SPEECHPIPE_OPERATOR_KEYS": f'["{OPERATOR}"]',
            "TMPDIR": str(self.places.temporary),
            "PYTHONPATH": f"{self.places.root / 'hook'}:{os.environ.get('PYTHONPATH', '')}",
        }
        if self.postgres is not None:
            variables["SPEECHPIPE_STORE_URL"] = self.postgres.url
        command = [sys.executable, "-m", "speechpipe", "serve"]
        self.process = subprocess.Popen(command, env=hand_on(variables), stdout=self.log, stderr=self.log)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """End it with SIGTERM; return the seconds that it took."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.deaths.append("did not end within 60 s of SIGTERM")
            self.kill()
        return time.monotonic() - begun

    def revive(self) -> None:
        """Start it again if it has ended by itself, and remember that."""
        if (code := self.process.poll()) is not None:
            self.deaths.append(f"ended by itself with {code}")
            self.start()

    def ready(self) -> bool:
        """Whether it says that it is."""
        try:
            return self._client.get("/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def wait_ready(self, limit_s: float) -> float:
        """Wait until it is ready; return the seconds that it took, infinity if it is not in time."""
        begun = time.monotonic()
        while time.monotonic() - begun < limit_s:
            self.revive()
            if self.ready():
                return time.monotonic() - begun
            time.sleep(0.1)
        return float("inf")

    def workers(self) -> list[psutil.Process]:
        """Its recognizer processes."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
            return [child for child in children if any("workers.worker" in word for word in child.cmdline())]
        except psutil.Error:
            return []

    def follow(self) -> bool:
        """Have people look at the second tenant's results before it gets them."""
        change = {"degree": "assist"}
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        try:
            answer = self._client.put(f"/v1/automation/{tenant_of(FOLLOWED)}", json=change, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.status_code < 300

    def metric(self, name: str) -> float:
        """The sum of a metric's samples; 0 if it cannot be asked."""
        try:
            lines = self._client.get("/metrics").text.splitlines()
        except httpx.HTTPError:
            return 0.0
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))

    @property
    def store(self) -> Path:
        """The SQLite file."""
        return self.places.state / "speechpipe.db"

    def missing(self, kind: str, ids: list[str]) -> set[str]:
        """Return which of these records are not in the store: sessions by their session, the rest by their id."""
        url = self.postgres.url if self.postgres is not None else f"sqlite:///{self.store}"
        engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
        table = sa.table("records", sa.column("id"), sa.column("session_id"), sa.column("kind"))
        column = table.c.session_id if kind == "session" else table.c.id
        there: set[str] = set()
        with engine.connect() as connection:
            for start in range(0, len(ids), 200):
                some = ids[start : start + 200]
                there |= set(connection.scalars(sa.select(column).where(table.c.kind == kind, column.in_(some))))
        engine.dispose()
        return set(ids) - there
