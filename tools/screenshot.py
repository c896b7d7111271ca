"""Make `docs/images/health.png`: the health page while the VAD of one server in ten drops speech.

    python tools/screenshot.py [OUTPUT] [--audio MANIFEST] [--state DIRECTORY]

Needs Chromium and playwright (extra `test`). The recordings of `audio_samples/` go through the real VAD and the real
recognizer, once as they are and once with a fault of the fault benchmark (`FAULT`). Sessions drawn from both
are written into the store of a throw-away state directory, with times of the last three hours. The monitor reads them
as it does in a server, minute by minute: it proposes the reference (approved here), raises the alarms and gives the
verdict. Then a server is started on that store, and its page is photographed.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import FloatRect, Page, expect, sync_playwright

from speechpipe.bench.episodes import MOST_PROBES, Answers, Plan, Pool, pools
from speechpipe.bench.faults.table import BY_NAME
from speechpipe.bench.laboratory import HEALTHY, Condition, chosen, run
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.evaluation.manifest import read_manifest
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.watch import Watcher
from speechpipe.serving.health.operations import HealthOperations
from speechpipe.serving.telemetry.cascade_metrics import CASCADE

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "docs" / "images" / "health.png"
AUDIO = ROOT / "audio_samples" / "manifest.jsonl"
FAULT: Condition = ("vad_normalisation", "severe")
FAULTY_SHARE = 0.1
"""Of the sessions that meet the fault after its onset: one server of ten was updated."""

BUNDLE = "default"
MOST_AUDIO_S = 60.0
VARIANTS = 2
MINUTES, FAULTY_MINUTES = 180, 40
SESSIONS_A_MINUTE = 12
PROBES_EVERY_MINUTES = 5
START_S = WAIT_S = 300.0
WIDTH, HEIGHT = 1180, 900
MOST_BYTES = 300_000


def main() -> None:
    """Fill a store, start a server on it, take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=OUTPUT)
    parser.add_argument("--audio", type=Path, default=AUDIO, help="a manifest of recordings with their texts")
    parser.add_argument("--state", type=Path, help="keep the server's state there; one that is filled is used again")
    asked = parser.parse_args()
    with contextlib.ExitStack() as stack:
        state = asked.state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="screenshot-")))
        state.mkdir(parents=True, exist_ok=True)
        if not (state / "speechpipe.db").exists():
            fill(state / "speechpipe.db", asked.audio)
        photograph(stack.enter_context(serving(state)), asked.output)
    if (size := asked.output.stat().st_size) > MOST_BYTES:
        sys.exit(f"{asked.output} has {size} bytes, {MOST_BYTES} are allowed")


# ---- the history ----


def fill(path: Path, audio: Path) -> None:
    """Write three hours of traffic into a store, and have the monitor read it as it comes."""
    clips = chosen(read_manifest(audio), MOST_AUDIO_S)
    bundle = Catalogue([shipped_models()]).bundle(BUNDLE)
    fault = BY_NAME[FAULT[0]]
    results = run(clips, bundle, [fault], VARIANTS)
    found, probes = pools(CASCADE, results, [fault]), Answers(results)
    random = np.random.default_rng(1)
    store = Store(f"sqlite:///{path}")
    store.open()
    try:
        watcher = Watcher(CASCADE, store)
        begin = time.time() - 60 * MINUTES
        for minute in range(MINUTES):
            condition = FAULT if minute >= MINUTES - FAULTY_MINUTES else HEALTHY
            now = begin + 60 * minute
            for record in traffic(found, condition, minute, now, random):
                store.append(record)
            if minute % PROBES_EVERY_MINUTES == 0:
                for record in probed(probes, condition, bundle.version, minute, now, random):
                    store.append(record)
            store.append(server_record(minute, now, random))
            store.flush()
            watcher.tick(now + 60)
            approve(store, watcher, now + 60)
    finally:
        store.close()


def traffic(
    found: Mapping[Condition, Pool], condition: Condition, minute: int, at: float, random: np.random.Generator
) -> Iterator[Record]:
    """Yield the records of one minute's sessions."""
    for number, when in enumerate(at + np.sort(random.uniform(0, 60, random.poisson(SESSIONS_A_MINUTE)))):
        told = found[condition if random.random() < FAULTY_SHARE else HEALTHY].records
        name = f"{minute}-{number}"
        for record in told[int(random.integers(len(told)))]:
            measures = dict(record.measures)
            if record.kind == "session":
                measures["software.wall_s"] = float(random.lognormal(-1.2, 0.3))
            yield replace(record, id=f"{record.id}-{name}", session_id=name, at=float(when), measures=measures)


def probed(
    probes: Answers, condition: Condition, version: str, minute: int, at: float, random: np.random.Generator
) -> Iterator[Record]:
    """Yield the records of one round of probes, as the server's prober writes them."""
    for result in probes.probes(Plan(*condition, 0), random):
        failed, of = result.failed, min(result.of, MOST_PROBES)
        for number in range(of):
            measures: dict[str, Measure] = {f"{result.stage}.probe_differs": float(number * result.of < failed * of)}
            name = f"probe-{minute}-{result.stage}-{number}"
            yield Record("probe", name, name, at, "probe", BUNDLE, version, measures=measures)


def server_record(minute: int, at: float, random: np.random.Generator) -> Record:
    """Return what the server says of itself."""
    measures: dict[str, Measure] = {
        "software.rss_mb": 610 + float(random.normal(0, 4)),
        "software.load_share": 0.3 + float(random.normal(0, 0.02)),
        "software.loop_lag_s": 0.002,
        "system.records_lost": 0.0,
    }
    return Record("system", f"system-{minute}", "", at, "", "", "", measures=measures, tenant_class="")


def approve(store: Store, watcher: Watcher, now: float) -> None:
    """Approve what the monitor proposes, as an operator does with `speechpipe reference approve`."""
    operations = HealthOperations(CASCADE, store, clock=lambda: now)
    for reference in watcher.archive.references():
        if reference.status == "proposed":
            operations.approve(reference.id, "operator")


# ---- the server and the browser ----


@contextlib.contextmanager
def serving(state: Path) -> Iterator[str]:
    """Run a server on a state directory and yield its address once it is ready."""
    settings = {"state_dir": str(state), "port": "0", "workers": "1", "live_workers": "1", "bundle": BUNDLE}
    environment = {**os.environ, **{f"SPEECHPIPE_{name.upper()}": value for name, value in settings.items()}}
    command: Sequence[str] = (sys.executable, "-m", "speechpipe", "serve")
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT
    )
    lines: list[str] = []
    ready = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if " ready: " in line:
                ready.set()
        ready.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        if not ready.wait(START_S) or process.poll() is not None:
            sys.exit("the server did not start:\n" + "".join(lines))
        yield next(match[1] for line in lines if (match := re.search(r"running on (http://\S+)", line)))
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        process.kill()


def photograph(url: str, output: Path) -> None:
    """Take a picture of the health page of the last hour, from its top to the verdict."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.set_default_timeout(WAIT_S * 1000)
        page.goto(f"{url}/health")
        page.select_option("[name=channel]", "upload")  # without the probes, which have no reference
        expect(page.locator("[data-blame=vad]").first).to_be_visible(timeout=WAIT_S * 1000)
        page.uncheck("[name=follow]")
        output.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=output, clip=upper(page), full_page=True)
        browser.close()


def upper(page: Page) -> FloatRect:
    """Return the part of the page that is shown: what is above the plots of the first stage."""
    heading = page.locator("main > h2").filter(has_text="Input").bounding_box()
    assert heading is not None
    return {"x": 0, "y": 0, "width": WIDTH, "height": heading["y"]}


if __name__ == "__main__":
    main()
