"""`speechpipe bench blame --live`: blame and alarms of a running server."""

import asyncio
import contextlib
import json
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechpipe.bench.live.run import Benchmark
    from speechpipe.bench.live.table import LiveFault


@dataclass(frozen=True)
class Flags:
    """The flags that say where and on what is measured."""

    audio: Path
    bundle: str
    table: Path | None
    only: str
    url: str
    key: str
    as_json: bool
    write: Path | None = None
    rate: float = 2.0
    live_share: float = 0.25
    tenants: int = 0
    probes: bool = True
    probe_every_s: float = 10.0


def measure(flags: Flags, **plan: Any) -> None:
    """Run the benchmark and print its figures. `plan`: the fields of `bench.live.run.Plan` but the faults.

    Raises:
        BadInput: the manifest or the table is wrong, or no fault can be run.
    """
    from speechpipe.bench.live.run import Plan
    from speechpipe.bench.live.table import SHIPPED, read_table
    from speechpipe.errors import BadInput

    rows = read_table(flags.table or SHIPPED)
    chosen = _chosen(rows, flags)
    begun = time.monotonic()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the server is stopped
    benchmark = None
    try:
        with _benchmark(flags, Plan(chosen, rows, **plan)) as benchmark:
            asyncio.run(benchmark.run())
    except RuntimeError as error:
        raise BadInput(str(error)) from error
    except KeyboardInterrupt:
        _say("interrupted: the figures so far")
    finally:
        signal.signal(signal.SIGTERM, before)
    if benchmark is not None:
        _print(flags, benchmark, time.monotonic() - begun)


def _chosen(rows: "tuple[LiveFault, ...]", flags: Flags) -> "list[LiveFault]":
    from speechpipe.errors import BadInput

    names = [name.strip() for name in flags.only.split(",") if name.strip()]
    known = {row.name: row for row in rows}
    if unknown := [name for name in names if name not in known]:
        raise BadInput(f"there is no fault {unknown[0]!r}; known: {', '.join(known)}")
    found = [known[name] for name in names] or list(rows)
    if flags.url:
        possible = {row.name for row in rows if row.is_from_outside}
        found = [row for row in found if row.name in possible and (not row.also or row.also in possible)]
    if not found:
        raise BadInput("none of these faults can be made at a server that others have started")
    return found


@contextlib.contextmanager
def _benchmark(flags: Flags, plan: Any) -> "Iterator[Benchmark]":
    from speechpipe.bench.live.run import Benchmark
    from speechpipe.bench.live.server import ServerOptions, running
    from speechpipe.bench.live.traffic import Load
    from speechpipe.cascade.evaluation.manifest import read_manifest

    clips = read_manifest(flags.audio)
    _say(f"{len(clips)} recordings, {len(plan.faults)} faults, {flags.rate:g} sessions a second")
    if flags.url:
        load = Load(flags.rate, flags.live_share, [flags.key] if flags.key else [])
        yield Benchmark(plan, flags.url.rstrip("/"), clips, load, None, flags.key, _say)
        return
    keys = [secrets.token_hex(16) for _ in range(1 + flags.tenants)] if flags.tenants else []
    operator = secrets.token_hex(16) if keys else ""
    options = ServerOptions(
        flags.bundle, flags.audio if flags.probes else None, flags.probe_every_s, keys, keys[1:], operator
    )
    with running(options) as server:
        yield Benchmark(plan, server.url, clips, Load(flags.rate, flags.live_share, keys), server, operator, _say)


def _print(flags: Flags, benchmark: "Benchmark", took_s: float) -> None:
    from speechpipe.bench.live import score, show
    from speechpipe.foundation import system

    findings, observer = benchmark.findings, benchmark.observer
    alarms, verdicts = list(observer.alarms.values()), list(observer.verdicts.values())
    found = score.summary(findings.outcomes, findings.healthy, alarms, verdicts)
    whole = {
        "machine": system.machine(),
        "seconds": took_s,
        "bundle": flags.bundle,
        "rate": flags.rate,
        "summary": found,
        "faults": [asdict(outcome) for outcome in findings.outcomes],
        "alarms": [asdict(alarm) for alarm in alarms],
        "verdicts": [asdict(verdict) for verdict in verdicts],
    }
    if flags.write is not None:
        flags.write.write_text(json.dumps(whole, indent=1))
    if flags.as_json:
        print(json.dumps(whole))
        return
    print(show.text(findings.outcomes, found))
    print(
        f"{took_s / 60:.0f} minutes, bundle {flags.bundle or '-'}, {flags.rate:g} sessions a second, {system.machine()}"
    )


def _say(text: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stderr.flush()
