"""Flags that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

BundleOption = Annotated[str, typer.Option("--bundle", "-b", help="Which bundle (see `speechpipe bundles list`).")]
VadOption = Annotated[str | None, typer.Option("--vad", help="Another VAD than the bundle's, at its defaults.")]
AsrOption = Annotated[str | None, typer.Option("--asr", help="Another recognizer, at its defaults.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="A parameter, e.g. vad.threshold=0.4; may be repeated.")
]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=0, max=256, help="Processes; 0 = one per core.")]


class Format(StrEnum):
    """Output formats of a transcript."""

    TEXT = "text"
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"
