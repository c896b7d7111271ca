"""`speechpipe bench blame`: how often blame names the faulty stage."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from speechpipe.interfaces.cli.bench import bench
from speechpipe.interfaces.cli.flags import BundleOption

QUICK_S, FULL_S = 24.0, 240.0
QUICK_SEEDS, FULL_SEEDS = 5, 20
QUICK_HEALTHY, FULL_HEALTHY = 60, 300
QUICK_VARIANTS, FULL_VARIANTS = 1, 2
QUICK_WATCHED = 0.4


@bench.command()
def blame(
    audio: Annotated[Path, typer.Option(help="Manifest: JSON lines with audio, text, speaker.", exists=True)],
    bundle: BundleOption = "default",
    quick: Annotated[bool, typer.Option("--quick", help="Fewer recordings and episodes: up to 5 minutes.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Use the faults that thresholds are tuned on.")] = False,
    seeds: Annotated[int, typer.Option(min=0, help="Episodes a fault and severity; 0: 20, or 5 with --quick.")] = 0,
    healthy_episodes: Annotated[
        int, typer.Option(min=0, help="Those without a fault; 0: 300, or 60 with --quick.")
    ] = 0,
    audio_seconds: Annotated[float, typer.Option(min=0, help="Seconds of recordings; 0: 240, or 24 with --quick.")] = 0,
    picture: Annotated[Path | None, typer.Option(help="Write the confusion matrix to this file, as SVG.")] = None,
    second: Annotated[
        Path | None, typer.Option(help="Another cascade: a directory with `benchmark.py`.", exists=True)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    live: Annotated[bool, typer.Option("--live", help="On a running server, with paced traffic.")] = False,
    table: Annotated[Path | None, typer.Option(help="--live: TOML file with the faults.", exists=True)] = None,
    only: Annotated[str, typer.Option(help="--live: names of faults, separated by commas.")] = "",
    utterances: Annotated[int, typer.Option(min=1, help="--live: utterances during each fault.")] = 100,
    between: Annotated[int, typer.Option(min=1, help="--live: healthy utterances before each fault, at least.")] = 60,
    rest: Annotated[float, typer.Option(min=0, help="--live: most seconds of rest until no alarm fires.")] = 180.0,
    healthy: Annotated[float, typer.Option(min=0, help="--live: healthy seconds after the reference.")] = 60.0,
    reference: Annotated[
        int, typer.Option(min=0, help="--live: utterances of the reference; 0: until the server proposes one.")
    ] = 0,
    rate: Annotated[float, typer.Option(min=0.01, help="--live: sessions a second.")] = 2.0,
    live_share: Annotated[float, typer.Option(min=0, max=1, help="--live: share of them that are live.")] = 0.25,
    tenants: Annotated[int, typer.Option(min=0, max=20, help="--live: enterprises, with half of the traffic.")] = 0,
    probes: Annotated[bool, typer.Option("--probes/--no-probes", help="--live: ten recordings as probes.")] = True,
    probe_every: Annotated[float, typer.Option(min=0.5, help="--live: seconds from one round to the next.")] = 10.0,
    hog: Annotated[
        bool, typer.Option("--hog", help="--live: one busy process beside the server all the time.")
    ] = False,
    url: Annotated[str, typer.Option(help="--live: a server that runs; only faults from outside.")] = "",
    key: Annotated[str, typer.Option(help="--live: API key for --url.", envvar="SPEECHPIPE_KEY")] = "",
    write: Annotated[Path | None, typer.Option(help="--live: write the JSON object to this file too.")] = None,
    pause_file: Annotated[Path | None, typer.Option(help="--live: pause while this file exists.")] = None,
) -> None:
    """Inject faults into the cascade on real recordings; print how often blame names the right stage."""
    if not live:
        _sampled(audio, bundle, quick, tune, (seeds, healthy_episodes), audio_seconds, picture, second, as_json)
        return
    from speechpipe.interfaces.cli.bench_blame_live import Flags, measure

    pace = {"rate": rate, "live_share": live_share, "tenants": tenants, "probes": probes, "probe_every_s": probe_every}
    flags = Flags(audio, bundle, table, only, url, key, as_json, write, **pace)  # type: ignore[arg-type]
    measure(
        flags,
        utterances=utterances,
        between=between,
        rest_s=rest,
        healthy_s=healthy,
        reference=reference,
        seeds=seeds or 1,
        hog=int(hog),
        pause=pause_file,
    )


def _sampled(
    audio: Path,
    bundle: str,
    quick: bool,
    tune: bool,
    episodes: tuple[int, int],
    audio_seconds: float,
    picture: Path | None,
    second: Path | None,
    as_json: bool,
) -> None:
    """Run the benchmark on sampled episodes: so many for each fault and severity, and without a fault; 0: the usual."""
    from speechpipe.app import compose
    from speechpipe.bench import blame as benchmark
    from speechpipe.bench import blame_report, laboratory
    from speechpipe.bench.faults.table import FAULTS
    from speechpipe.cascade.evaluation.manifest import read_manifest
    from speechpipe.interfaces.cli.options import choose, settings

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")

    found_bundle = choose(compose(settings(bundle=bundle)), bundle, None, None, {})
    clips = laboratory.chosen(read_manifest(audio), audio_seconds or (QUICK_S if quick else FULL_S))
    total_s = sum(clip.duration_s for clip in clips)
    say(f"{len(clips)} recordings, {total_s:.0f} s, through the cascade under {len(FAULTS)} faults")
    heard = laboratory.run(clips, found_bundle, FAULTS, QUICK_VARIANTS if quick else FULL_VARIANTS)
    setup = benchmark.setup(clips, heard, QUICK_WATCHED if quick else 1.0)
    faults = [fault for fault in FAULTS if fault.tuning is tune]
    seeds = episodes[0] or (QUICK_SEEDS if quick else FULL_SEEDS)
    todo = benchmark.plans(faults, seeds, episodes[1] or (QUICK_HEALTHY if quick else FULL_HEALTHY))
    say(f"{len(todo)} episodes")
    outcomes = benchmark.judged(setup, todo)
    silent = [name for name in benchmark.silent_faults(heard, setup.pools) if name in {fault.name for fault in faults}]
    about = {
        "clips": len(clips),
        "speakers": len({clip.speaker for clip in clips}),
        "audio_s": total_s,
        "half": "tuning" if tune else "held out",
    }
    document = blame_report.document(outcomes, silent, about)
    if picture is not None:
        picture.write_text(blame_report.picture(document))
    if second is not None:
        document["second"] = blame_report.second(second, seeds, quick)
    print(json.dumps(document) if as_json else blame_report.text(document))
