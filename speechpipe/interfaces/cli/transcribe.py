"""`speechpipe transcribe`: transcribes audio files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import (
    AsrOption,
    BundleOption,
    Format,
    HotwordOption,
    LanguageOption,
    NumeralsOption,
    ProfanityFilterOption,
    PromptOption,
    PunctuateOption,
    SetOption,
    SmartFormatOption,
    VadOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from speechpipe.types import Bundle


@app.command()
def transcribe(
    files: Annotated[list[str], typer.Argument(help="Audio or video files; - reads standard input.")],
    format_: Annotated[Format, typer.Option("--format", "-f", help="Output format.")] = Format.TEXT,
    bundle: BundleOption = "default",
    vad: VadOption = None,
    asr: AsrOption = None,
    set_: SetOption = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write one file for each input here.")] = None,
    workers: WorkersOption = 0,
    channel: Annotated[int | None, typer.Option("--channel", min=0, help="Only this channel (0-based).")] = None,
    multichannel: Annotated[bool, typer.Option("--multichannel", help="Transcribe each channel separately.")] = False,
    track: Annotated[
        int | None, typer.Option("--track", min=0, help="Audio track (0-based). Default: the default track.")
    ] = None,
    language: LanguageOption = None,
    translate: Annotated[bool, typer.Option("--translate", help="Into English, with a bundle that can.")] = False,
    hotword: HotwordOption = None,
    prompt: PromptOption = None,
    punctuate: PunctuateOption = None,
    numerals: NumeralsOption = False,
    smart_format: SmartFormatOption = False,
    profanity_filter: ProfanityFilterOption = False,
    stages: Annotated[bool, typer.Option("--stages", help="Print a table of what each stage did.")] = False,
) -> None:
    """Transcribe audio files. A file that fails does not stop the others; the exit code is then 1.

    Example: speechpipe transcribe talk.mp4 --format srt --output subtitles/
    """
    from speechpipe.app import compose
    from speechpipe.cascade.audio.source import ChannelChoice
    from speechpipe.cascade.request import new_session_id
    from speechpipe.interfaces.cli.batch import Batch
    from speechpipe.interfaces.cli.options import choose, parse_set, settings
    from speechpipe.serving.biasing import checked
    from speechpipe.serving.text import TextOptions
    from speechpipe.serving.transcription.transcriber import TranscriptionRequest

    choice = ChannelChoice(channel, multichannel, track)
    config = settings(bundle=bundle, workers=workers) if workers else settings(bundle=bundle)
    chosen = choose(compose(config), bundle, vad, asr, parse_set(set_))
    _check_translates(chosen, wanted=translate)
    words = checked(hotword or (), "hotword")
    asked = TranscriptionRequest(chosen, language=language, prompt=prompt, hotwords=words, translate=translate)
    text = TextOptions(punctuate, numerals, smart_format, profanity_filter)
    service = compose(config, only=chosen)
    asked = replace(asked, choice=choice, terms=service.terms("", chosen))
    batch = Batch(format_, output, lambda: replace(asked, id=new_session_id()), text)
    failed = batch.run(service, files)
    if stages:
        from speechpipe.interfaces.cli.stage_table import print_table

        print_table(batch.results)
    raise typer.Exit(1 if failed else 0)


def _check_translates(bundle: "Bundle", *, wanted: bool) -> None:
    from speechpipe.cascade.asr import TRANSLATION
    from speechpipe.errors import InvalidParameter

    if wanted and TRANSLATION not in bundle.asr.takes:
        message = f"the bundle {bundle.name!r} cannot translate; multilingual can"
        raise InvalidParameter(message, param="bundle", cause="translation_not_supported")
