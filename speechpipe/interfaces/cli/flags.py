"""Options that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

BundleOption = Annotated[str, typer.Option("--bundle", "-b", help="A bundle (see `speechpipe bundles list`).")]
StoreOption = Annotated[str, typer.Option(help="A store: a file, or a database URL. Default: that of the settings.")]
VadOption = Annotated[str | None, typer.Option("--vad", help="Use this VAD with its defaults instead of the bundle's.")]
AsrOption = Annotated[str | None, typer.Option("--asr", help="Use this recognizer with its defaults instead.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Set a parameter, e.g. vad.threshold=0.4; may be repeated.")
]
LanguageOption = Annotated[str | None, typer.Option("--language", help="The spoken language, e.g. en.")]
HotwordOption = Annotated[
    list[str] | None, typer.Option("--hotword", help="A word or phrase that is likely to be spoken; repeatable.")
]
PromptOption = Annotated[str | None, typer.Option("--prompt", help="Text that may have come before.")]
PunctuateOption = Annotated[
    bool | None, typer.Option("--punctuate/--no-punctuate", help="Punctuation and capitals, or lower case alone.")
]
NumeralsOption = Annotated[bool, typer.Option("--numerals", help="English numbers in digits.")]
SmartFormatOption = Annotated[
    bool, typer.Option("--smart-format", help="English numbers, money, times, phone numbers as usually written.")
]
ProfanityFilterOption = Annotated[bool, typer.Option("--profanity-filter", help="Mask offensive words.")]
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
