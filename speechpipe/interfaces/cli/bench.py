"""`speechpipe bench`: measurements of this machine and of the detectors."""

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import BundleOption

if TYPE_CHECKING:
    from speechpipe.bench.capacity import Point

bench = typer.Typer(help="Measurements of this machine and of methods.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@bench.command()
def capacity(
    audio: Annotated[list[Path], typer.Argument(help="Recordings of speech for the clients to send.", exists=True)],
    bundle: BundleOption = "default",
    objective_ms: Annotated[float, typer.Option(help="Largest 95th percentile from endpoint to final.")] = 300.0,
    seconds: Annotated[float, typer.Option(min=5, help="How long each load is measured.")] = 20.0,
    first: Annotated[int, typer.Option(min=0, help="Sessions to start with; 0 = 80 % of the physical limit.")] = 0,
    most: Annotated[int, typer.Option(min=1, help="The most sessions to try.")] = 400,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Find how many live sessions this machine can hold within a latency, beside its physical limit."""
    from speechpipe.app import compose
    from speechpipe.bench import capacity as measure
    from speechpipe.bench.recordings import joined
    from speechpipe.interfaces.cli.options import choose, settings

    choose(compose(settings(bundle=bundle)), bundle, None, None, {})  # reports an unknown one before it begins
    samples = joined(audio)
    limit = measure.limit_of_all_cores(bundle, samples)
    say = (lambda text: sys.stderr.write(text + "\n")) if as_json else print
    say(
        f"decode {limit.decode_per_speech_s:.4f} CPU-s per second of speech x {limit.speech_ratio:.2f} speech"
        f" + VAD {limit.vad_per_s:.4f}: {limit.cores} cores could hold {limit.sessions:.1f} sessions"
    )
    first = first or max(1, int(min(0.8 * limit.sessions, most)))
    # Admission control is switched off, because its limit is what this measures.
    streams = max(2, round(first * limit.speech_ratio / limit.cores) + 2)
    variables = {"SPEECHPIPE_LIVE_LOAD_LIMIT": "100", "SPEECHPIPE_LIVE_WARM_STREAMS": str(min(streams, 32))}
    variables |= {"SPEECHPIPE_PORT": "0", "SPEECHPIPE_BUNDLE": bundle, "SPEECHPIPE_WORKERS": "1"}
    command = [sys.executable, "-m", "speechpipe", "serve"]
    with tempfile.NamedTemporaryFile(suffix=".pcm") as file, measure.served(command, **variables) as (url, _):
        Path(file.name).write_bytes((samples * 32767).astype("<i2").tobytes())
        where = url.replace("http", "ws") + measure.QUERY + bundle

        def attempt(sessions: int) -> "Point":
            if not measure.recover(url):
                say("the server has not recovered from the load before; the next figure may be too low")
            tally, stolen = measure.trial(where, sessions, seconds, 3.0, Path(file.name))
            found = measure.point(sessions, tally, stolen, objective_ms / 1000)
            say(_line(found))
            return found

        points = measure.search(attempt, first, most)
    # Timings on a shared machine drift: the costs are measured again, and the mean is used.
    limit = limit.mean(measure.limit_of_all_cores(bundle, samples))
    held = max((found.sessions for found in points if found.held), default=0)
    share = held / limit.sessions
    say(f"{held} sessions held, {share:.0%} of the physical limit ({limit.sessions:.1f}, before and after)")
    if as_json:
        document = {"sessions": held, "limit": asdict(limit) | {"sessions": limit.sessions}, "share": share}
        print(json.dumps(document | {"points": [asdict(found) for found in points]}))


def _line(found: "Point") -> str:
    return (
        f"{found.sessions:4d} sessions: {'held' if found.held else 'not held'}; speech end sent -> text"
        f" p50 {1000 * found.final_p50_s:.0f} p95 {1000 * found.final_p95_s:.0f} ms; endpoint -> final"
        f" p50 {1000 * found.endpoint_p50_s:.0f} p95 {1000 * found.endpoint_p95_s:.0f} ms; partial lag p95"
        f" {1000 * found.partial_p95_s:.0f} ms; {found.finals} finals, {found.lost} lost, {found.refused} refused,"
        f" {found.late_steps} late client steps; {found.stolen:.0%} of the CPU was stolen by other machines"
    )


@bench.command()
def detectors(
    streams: Annotated[int, typer.Option(min=5, help="Simulated streams of each kind.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Compare the detectors with a plain z-test and river's detectors (where installed) on simulated streams."""
    from importlib.util import find_spec

    from speechpipe.bench import detection

    makers: dict[str, Callable[[], detection.Watching]] = {
        name: partial(detection.Ours, name) for name in ("mixture", "bernoulli_cusum")
    }
    makers["z-test"] = detection.ZTest
    if find_spec("river") is not None:
        makers |= {
            f"river {name}": partial(detection.River, name)
            for name in ("ADWIN", "PageHinkley", "DDM", "EDDM", "HDDMA", "HDDMW")
        }
    found = detection.rows(makers, streams)
    if as_json:
        print(json.dumps([asdict(row) for row in found]))
        return
    print(f"base rate {detection.BASE:.0%}; median delay in values, with the missed share in brackets")
    print(f"{'detector':18s} {'false / 10k':>12s}" + "".join(f"{f'x{ratio}':>16s}" for ratio in detection.RATIOS))
    for row in found:
        cells = "".join(f"{row.delays[ratio]:9.0f} ({row.missed[ratio]:4.0%})" for ratio in detection.RATIOS)
        print(f"{row.name:18s} {row.false_per_10k:12.2f}{cells}")
