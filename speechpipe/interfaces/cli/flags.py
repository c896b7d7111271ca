"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

BundleOption = Annotated[str, typer.Option("--bundle", "-b", help="A bundle (see `speechpipe bundles list`).")]
VadOption = Annotated[str | None, typer.Option("--vad", help="Use this VAD with its defaults instead of the bundle's.")]
AsrOption = Annotated[str | None, typer.Option("--asr", help="Use this recognizer with its defaults instead.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Set a parameter, e.g. vad.threshold=0.4; may be repeated.")
]
WorkersOption = Annotated[int, typer.Option("--workers", "-w", min=0, max=256, help="Processes; 0 = one a core.")]


class NormalizerName(StrEnum):
    """The normalizers of `cascade/evaluation/normalizers.py`."""

    ENGLISH = "english"
    BASIC = "basic"
    NONE = "none"


class Format(StrEnum):
    """Output formats of a transcript."""

    TEXT = "text"
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"
