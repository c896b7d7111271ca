"""Run the shop for a simulated week, watch it, break it, and write the health report.

    python -m examples.recommender [--fault "P2 profile unknown"] [--severity severe] [-o report.html]

Consumers' tastes drift slowly all week; an enterprise's change abruptly on the fourth day, which it has announced. On
the last day the fault is put in. The store, the watcher, the detectors, the alarms, blame and the report are those of
speechpipe: nothing but `cascade.py` and the records are the shop's own.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from examples.recommender.cascade import CASCADE
from examples.recommender.shop import FAULTS, SEVERITIES, Shop
from speechpipe.foundation.storage.store import Store
from speechpipe.interfaces.web.health import whole
from speechpipe.monitor.watch import Watcher
from speechpipe.serving.health.operations import HealthOperations

START = 1_700_000_000.0
DAY_S = 86_400.0
DAYS = 7
CONSUMERS, STAFF = 900, 400
"""Visits a day of consumers, and of the enterprise's people."""

STEP_S = 3_600.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", choices=["", *FAULTS], default="P2 profile unknown")
    parser.add_argument("--severity", choices=SEVERITIES, default="severe")
    parser.add_argument("--store", default="", help="keep the records in this file")
    parser.add_argument("-o", "--output", type=Path, default=Path("recommender-report.html"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.store or f"{folder}/shop.db"
        store = Store(f"sqlite:///{Path(path).resolve()}")
        store.open()
        run(store, arguments.fault, arguments.severity, arguments.output)
        store.close()
    return 0


def run(store: Store, fault: str, severity: str, output: Path) -> dict[str, str]:
    """Simulate, write the report, and return what blame says of each group."""
    random = np.random.default_rng(1)
    shop = Shop()
    watcher = Watcher(CASCADE, store)
    end = START + DAYS * DAY_S
    operations = HealthOperations(CASCADE, store, clock=lambda: end)
    value = FAULTS[fault][1][SEVERITIES.index(severity)] if fault else 0.0
    watcher.tick(START)
    watcher.archive.announce("acme", START + 3 * DAY_S, START + 3.5 * DAY_S, "a new collection")
    for number, at in enumerate(np.arange(START, end, STEP_S)):
        day = (at - START) / DAY_S
        broken = fault if day >= DAYS - 1 else ""
        groups = (("", CONSUMERS, 0.02 * day), ("acme", STAFF, 0.5 if day >= 3 else 0.0))
        for tenant, a_day, drift in groups:
            count = max(1, int(a_day * STEP_S / DAY_S))
            times = np.sort(at + random.uniform(0, STEP_S, count))
            visits = shop.visits(count, random, drift=drift)
            for record in shop.records(visits, times, random, tenant, broken, value):
                store.append(record)
        store.flush()
        watcher.tick(float(at + STEP_S))
        for reference in operations.references():
            if reference.status == "proposed":
                operations.approve(reference.id, "the shop's operator")
        if number % 24 == 23:
            firing = [alarm.condition.metric for alarm in watcher.archive.alarms() if alarm.state == "firing"]
            print(f"day {number // 24 + 1}: {', '.join(sorted(set(firing))) or 'no alarms'}", file=sys.stderr)
    said = {}
    for group, verdict in operations.verdicts(end - DAY_S, end):
        said[group.label] = verdict.label
        print(f"{group.label}: {verdict.label} - {verdict.reason}")
    output.write_text(whole(operations.report(2 * DAY_S)), encoding="utf-8")
    print(f"the health report is in {output}")
    return said


if __name__ == "__main__":
    sys.exit(main())
