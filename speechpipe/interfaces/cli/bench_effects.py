"""`speechpipe bench effects`: the smallest effects that blame names."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from speechpipe.interfaces.cli.bench import bench
from speechpipe.interfaces.cli.flags import BundleOption


@bench.command()
def effects(
    audio: Annotated[Path, typer.Option(help="Manifest: JSON lines with audio, text, speaker.", exists=True)],
    bundle: BundleOption = "default",
    seeds: Annotated[int, typer.Option(min=1, help="Episodes a fault and size.")] = 20,
    audio_seconds: Annotated[float, typer.Option(min=1, help="Seconds of recordings.")] = 240.0,
    variants: Annotated[int, typer.Option(min=1, max=2, help="Natural variants of each recording.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Print for each fault and size after how many utterances blame names its stage in nine episodes of ten."""
    from speechpipe.app import compose
    from speechpipe.bench import blame as benchmark
    from speechpipe.bench import effects as measure
    from speechpipe.bench import laboratory
    from speechpipe.bench.faults.table import FAULTS
    from speechpipe.cascade.evaluation.manifest import read_manifest
    from speechpipe.interfaces.cli.options import choose, settings

    found_bundle = choose(compose(settings(bundle=bundle)), bundle, None, None, {})
    clips = laboratory.chosen(read_manifest(audio), audio_seconds)
    sys.stderr.write(f"{len(clips)} recordings through the cascade under {len(FAULTS)} faults\n")
    heard = laboratory.run(clips, found_bundle, FAULTS, variants)
    rows = measure.effects(benchmark.setup(clips, heard, 0.0), FAULTS, seeds)
    print(json.dumps([asdict(row) for row in rows]) if as_json else measure.text(rows))
