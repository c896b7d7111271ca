"""A swap replay of 50 utterances beside live traffic: how long it takes, and what live clients notice.

    python benchmarks/replay.py MANIFEST [--sessions 4]

The manifest's recordings are repeated until there are 50. All eight cells differ: the incident is the same recordings
20 dB quieter, with a VAD threshold of 0.9 and a narrower beam.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from speechpipe.bench import capacity
from speechpipe.bench.recordings import joined

BUNDLE = "embedded"
UTTERANCES = 50
SECONDS = 30.0
OBJECTIVE_MS = 300.0


def manifests(source: Path, folder: Path) -> tuple[Path, Path]:
    """Write the reference and the incident, 50 recordings each."""
    lines = [json.loads(line) for line in source.read_text().splitlines()]
    paths = folder / "reference.jsonl", folder / "incident.jsonl"
    kinds: tuple[list[str], list[str]] = ([], [])
    for number in range(UTTERANCES):
        line = lines[number % len(lines)]
        audio, rate = soundfile.read(source.parent / line["audio"])
        for kind, gain, name in zip(kinds, (1.0, 0.1), ("r", "i"), strict=True):
            where = folder / f"{name}{number}.flac"
            soundfile.write(where, np.asarray(audio) * gain, rate)
            kind.append(json.dumps({**line, "audio": where.name}) + "\n")
    for path, kind in zip(paths, kinds, strict=True):
        path.write_text("".join(kind))
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--sessions", type=int, default=4)
    arguments = parser.parse_args()
    names = [json.loads(line)["audio"] for line in arguments.manifest.read_text().splitlines()]
    samples = joined([arguments.manifest.parent / name for name in names])
    speechpipe = [sys.executable, "-m", "speechpipe"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference, incident = manifests(arguments.manifest, folder)
        pcm = folder / "live.pcm"
        pcm.write_bytes((samples * 32767).astype("<i2").tobytes())
        swap = [*speechpipe, "replay", "--reference", str(reference), "--incident", str(incident), "--json"]
        swap += ["--bundle", BUNDLE, "--set", "vad.threshold=0.9", "--set", "asr.maxhmmpf=1000"]
        serve = [*speechpipe, "serve"]
        variables = {
            "SPEECHPIPE_PORT": "0",
            "SPEECHPIPE_WORKERS": "1",
            "SPEECHPIPE_STATE_DIR": name,
            "SPEECHPIPE_BUNDLE": BUNDLE,
        }
        with capacity.served(serve, **variables) as (url, _):
            where = url.replace("http", "ws") + capacity.QUERY + BUNDLE
            for turn in ("alone", "beside a replay"):
                begun = time.monotonic()
                replay = None
                if turn != "alone":
                    replay = subprocess.Popen(swap, stdout=subprocess.PIPE, text=True)
                tally, stolen = capacity.trial(where, arguments.sessions, SECONDS, 3.0, pcm)
                found = capacity.point(arguments.sessions, tally, stolen, OBJECTIVE_MS / 1000)
                times = f"p50 {1000 * found.endpoint_p50_s:.0f}, p95 {1000 * found.endpoint_p95_s:.0f} ms"
                print(
                    f"{turn}: {arguments.sessions} live sessions, endpoint -> final {times}; {found.lost} lost;",
                    end=" ",
                )
                print(f"{stolen:.0%} of the CPU stolen")
                if replay is not None:
                    output, _ = replay.communicate()
                    answer = json.loads(output)
                    print(f"replay of {UTTERANCES} utterances, 8 cells: {time.monotonic() - begun:.0f} s")
                    print(f"{answer['metric']}: {answer['then']:.3f} -> {answer['now']:.3f}, blamed {answer['blamed']}")
                    for share in answer["shares"]:
                        print(
                            f"  {share['player']:6s} {share['value']:+.3f} [{share['low']:+.3f}, {share['high']:+.3f}]"
                        )


if __name__ == "__main__":
    main()
