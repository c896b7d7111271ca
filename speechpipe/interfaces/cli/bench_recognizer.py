"""`speechpipe bench recognizer`: quality, CPU, latency and memory of bundles on labelled recordings."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli.bench import bench

if TYPE_CHECKING:
    from speechpipe.cascade.catalog.figures import Figures


@bench.command()
def recognizer(
    manifests: Annotated[
        list[Path], typer.Argument(help="JSON lines: `audio`, `text` and, if known, `speech` (spans in seconds).")
    ],
    bundles: Annotated[
        list[str] | None, typer.Option("--bundle", "-b", help="A bundle; may be repeated. Default: `default`.")
    ] = None,
    live_seconds: Annotated[
        float, typer.Option(min=0, help="Most seconds of live audio, which take as long; 0 = no latency.")
    ] = 120.0,
    write: Annotated[bool, typer.Option("--write", help="Keep the figures beside the cards in MODELS_DIR.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Measure bundles on your recordings: words wrong, CPU, latency, memory.

    Words are compared as `speechpipe evaluate` compares them after its normalizer; the interval is 95 %. CPU is that of
    all threads, for a second of uploaded audio. Latency is from the end of a live segment to its text, with one stream.

    Example: speechpipe bench recognizer calls/manifest.jsonl -b default -b embedded
    """
    from functools import partial

    from speechpipe.app import compose
    from speechpipe.bench.recognizer import measure, read_clips
    from speechpipe.cascade.catalog import figures
    from speechpipe.interfaces.cli.options import choose, settings
    from speechpipe.interfaces.cli.progress import bar

    read_clips(manifests)  # a mistake in them is told before anything is fetched
    config = settings(workers=1, live_workers=1)
    service = compose(config)
    chosen = [choose(service, name, None, None, {}) for name in dict.fromkeys(bundles or ["default"])]
    found = []
    with bar() as advance:
        for bundle in chosen:
            # The champion's pools are those that are measured.
            mine = config.model_copy(update={"bundle": bundle.id, "preload": []})
            one = measure(partial(compose, mine, only=bundle, live=True), bundle, manifests, live_seconds, advance)
            found.append(one)
            if write:
                path = figures.write(one, config.own_models_dir)
                sys.stderr.write(f"wrote {path}\n")
    if as_json:
        typer.echo(json.dumps([one.document() for one in found]))
    else:
        _show(found)


TITLES = (
    *("bundle", "words wrong [95 %]", "without VAD", "CPU-s a second"),
    *("final p50 ms", "p95 ms", "a worker MB", "load s"),
)


def _show(found: "list[Figures]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 120)
    table = Table(box=None)
    for title in TITLES:
        table.add_column(title, justify="left" if title == "bundle" else "right")
    for one in found:
        latency = [f"{one.final_p50_ms:.0f}", f"{one.final_p95_ms:.0f}"] if one.finals else ["-", "-"]
        interval = f"{one.wer:.1%} [{one.wer_low:.1%}, {one.wer_high:.1%}]"
        cost = f"{one.cpu:.3f}"
        table.add_row(
            one.bundle, interval, f"{one.wer_alone:.1%}", cost, *latency, f"{one.worker_rss_mb:.0f}", f"{one.load_s:g}"
        )
    console.print(table)
    first = found[0]
    live = f", {first.finals} live segments" if first.finals else ""
    typer.echo(
        f"{', '.join(first.manifests)}: {first.words} words, {first.audio_s:.0f} s{live}; "
        f"{first.machine}; speechpipe {first.version}, {first.date}"
    )
