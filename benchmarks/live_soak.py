"""A long load: does memory grow, do descriptors leak? Prints the slopes.

python benchmarks/live_soak.py AUDIO... [--minutes 15] [--sessions 12] [--record]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from measure import Figure, add_record, record

from speechpipe.bench import capacity
from speechpipe.bench.recordings import joined

ROUND_S = 55.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--sessions", type=int, default=12)
    add_record(parser)
    asked = parser.parse_args()
    samples = joined(asked.audio)
    variables = {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_WORKERS": "1", "SPEECHPIPE_LIVE_LOAD_LIMIT": "100"}
    variables["SPEECHPIPE_LIVE_WARM_STREAMS"] = str(asked.sessions // 2 + 2)
    variables["SPEECHPIPE_WORKER_MAX_JOBS"] = "0"  # nothing is hidden by fresh workers
    command = [sys.executable, "-m", "speechpipe", "serve"]
    rows = []
    with tempfile.NamedTemporaryFile(suffix=".pcm") as file, capacity.served(command, **variables) as (url, process):
        Path(file.name).write_bytes((samples * 32767).astype("<i2").tobytes())
        where = url.replace("http", "ws") + capacity.QUERY + "default"
        server = psutil.Process(process.pid)
        begun, lost = time.monotonic(), 0
        while time.monotonic() - begun < asked.minutes * 60:  # sessions come and go, as they do
            tally, _ = capacity.trial(where, asked.sessions, ROUND_S, 0.0, Path(file.name))
            lost += tally.lost + tally.broken
            workers = sum(child.memory_info().rss for child in server.children(recursive=True)) / 2**20
            rows.append(((time.monotonic() - begun) / 60, server.memory_info().rss / 2**20, workers, server.num_fds()))
            print("minute {:4.1f}: server {:.0f} MiB, workers {:.0f} MiB, {} descriptors".format(*rows[-1]), flush=True)
    table = np.array(rows[len(rows) // 4 :])  # the first quarter is warming up
    slopes = [float(np.polyfit(table[:, 0], table[:, column], 1)[0]) for column in (1, 2, 3)]
    print("a minute: server {:+.2f} MiB, workers {:+.2f} MiB, {:+.3f} descriptors".format(*slopes) + f"; {lost} lost")
    if asked.record:
        what = f"{asked.minutes:g} minutes of {asked.sessions} streams, a minute: server, workers, descriptors"
        found = "{:+.2f} MiB, {:+.2f} MiB, {:+.3f}; ".format(*slopes) + str(lost)
        record([Figure(f"{what}; finals lost", "flat; 0", found, lost == 0)])
    sys.exit(lost > 0)


if __name__ == "__main__":
    main()
