"""`speechpipe bench day`: what rings for nothing on days of healthy traffic."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speechpipe.interfaces.cli.bench import bench
from speechpipe.interfaces.cli.flags import BundleOption


@bench.command()
def day(
    audio: Annotated[Path, typer.Option(help="Manifest: JSON lines with audio, text, speaker.", exists=True)],
    bundle: BundleOption = "default",
    days: Annotated[float, typer.Option(min=0.1, help="Days after the first reference.")] = 2.0,
    seeds: Annotated[str, typer.Option(help="Runs, separated by commas; 0 begins on a Monday, 4 on a Friday.")] = "0,4",
    utterances: Annotated[float, typer.Option(min=100, help="Utterances on a working day.")] = 10_000.0,
    verdicts: Annotated[bool, typer.Option("--verdicts/--no-verdicts", help="Make verdicts; slower.")] = True,
    audio_seconds: Annotated[float, typer.Option(min=1, help="Seconds of recordings.")] = 24.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list of the runs.")] = False,
) -> None:
    """Simulate days of healthy traffic with a daily rhythm; print what rang, all of it for nothing.

    Each reference that the server proposes is approved at once, as after the first 500 utterances. Without verdicts,
    alarms that page only with one count as pages.
    """
    from speechpipe.app import compose
    from speechpipe.bench import day as benchmark
    from speechpipe.bench import laboratory
    from speechpipe.cascade.evaluation.manifest import read_manifest
    from speechpipe.errors import BadInput
    from speechpipe.interfaces.cli.options import choose, settings

    try:
        chosen = [int(seed) for seed in seeds.split(",")]
    except ValueError:
        raise BadInput("--seeds takes whole numbers, separated by commas") from None
    found_bundle = choose(compose(settings(bundle=bundle)), bundle, None, None, {})
    clips = laboratory.chosen(read_manifest(audio), audio_seconds)
    sys.stderr.write(f"{len(clips)} recordings through the cascade\n")
    healthy = laboratory.run(clips, found_bundle, (), 1)[laboratory.HEALTHY]
    runs = []
    for seed in chosen:
        plan = benchmark.Plan(benchmark.begins(seed), days, utterances, seed, verdicts)
        runs.append(benchmark.simulated(plan, clips, healthy, lambda _, __: None))
        sys.stderr.write(f"seed {seed}: {runs[-1].utterances} utterances\n")
    print(json.dumps([asdict(run) for run in runs]) if as_json else benchmark.text(runs, utterances))
