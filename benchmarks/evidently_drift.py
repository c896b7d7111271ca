"""The comparison of a period with its reference, beside Evidently's data-drift preset: time, memory, shifts found.

Both get the same two tables: 20 metrics, of which half are shifted in the current one. Ours counts the making of
the sketches from raw values, which the server does once a minute and not for each report. Needs the extra `bench`.

python benchmarks/evidently_drift.py [--rows 20000]
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Table = dict[str, npt.NDArray[np.float64]]
SHIFTS: dict[str, tuple[str, float]] = {
    "real_none": ("real", 0.0),
    "real_0.1_sigma": ("real", 0.1),
    "real_0.3_sigma": ("real", 0.3),
    "real_0.5_sigma": ("real", 0.5),
    "real_1_sigma": ("real", 1.0),
    "share_none": ("share", 1.0),
    "share_2_to_3_percent": ("share", 1.5),
    "share_2_to_6_percent": ("share", 3.0),
    "share_2_to_20_percent": ("share", 10.0),
    "skewed_none": ("skewed", 1.0),
    "skewed_x1.5": ("skewed", 1.5),
    "heavy_tailed_none": ("heavy", 0.0),
}


def table(rows: int, seed: int, *, shifted: bool) -> Table:
    random = np.random.default_rng(seed)
    found: Table = {}
    for name, (kind, size) in SHIFTS.items():
        if kind == "real":
            found[name] = random.normal(size if shifted else 0.0, 1.0, rows)
        elif kind == "share":
            found[name] = (random.random(rows) < 0.02 * (size if shifted else 1.0)).astype(np.float64)
        elif kind == "skewed":
            found[name] = random.gamma(2.0, size if shifted else 1.0, rows)
        else:
            found[name] = random.standard_t(2.0, rows)
    return found


def ours(reference: Table, current: Table) -> set[str]:
    from speechpipe.foundation.stats.sketch import Distribution
    from speechpipe.monitor.comparison import Grade, compare, drift
    from speechpipe.monitor.spec import Metric, MetricKind

    found = set()
    for name in reference:
        share = name.startswith("share")
        metric = Metric(
            f"x.{name}", "", name, "", "unit", lambda _: None, MetricKind.SHARE if share else MetricKind.REAL
        )
        before, now = (Distribution.of(values[name], shape_only=share) for values in (reference, current))
        drift(now, before)
        if compare(metric, now, before).grade >= Grade.DEGRADED:
            found.add(name)
    return found


def evidently(reference: Table, current: Table) -> set[str]:
    import pandas
    from evidently import Report
    from evidently.presets import DataDriftPreset

    result = Report([DataDriftPreset()]).run(pandas.DataFrame(current), pandas.DataFrame(reference)).dict()
    found = set()
    for metric in result["metrics"]:
        config = metric.get("config", {})
        if "column" in config:
            value, threshold = float(metric["value"]), float(config.get("threshold") or 0.1)
            by_p_value = "p_value" in str(config.get("method"))
            if (value < threshold) if by_p_value else (value >= threshold):
                found.add(config["column"])
    return found


def measured(
    compute: Callable[[Table, Table], set[str]], rows: int, answer: "multiprocessing.queues.Queue[object]"
) -> None:
    reference, current = table(rows, 1, shifted=False), table(rows, 2, shifted=True)
    compute(table(500, 3, shifted=False), table(500, 4, shifted=False))  # what is imported and warmed does not count
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    found = compute(reference, current)
    took = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.put((took, (peak - before) / 1024, peak / 1024, found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    context = multiprocessing.get_context("spawn")
    for name, compute in (("ours", ours), ("evidently", evidently)):
        answer = context.Queue()
        process = context.Process(target=measured, args=(compute, rows, answer))
        process.start()
        took, grown, peak, found = answer.get(timeout=600)
        process.join()
        print(f"{name}: {took:.3f} s, {grown:.0f} MiB more than before, {peak:.0f} MiB in all")
        for shift in SHIFTS:
            print(f"   {'found  ' if shift in found else '-      '} {shift}")


if __name__ == "__main__":
    main()
