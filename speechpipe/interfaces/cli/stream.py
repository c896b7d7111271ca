"""`speechpipe stream`: transcribes a file, standard input or a microphone as live audio."""

from typing import Annotated

import typer

from speechpipe.interfaces.cli import app
from speechpipe.interfaces.cli.flags import (
    BundleOption,
    HotwordOption,
    LanguageOption,
    NumeralsOption,
    ProfanityFilterOption,
    PromptOption,
    PunctuateOption,
    SetOption,
    SmartFormatOption,
)


@app.command()
def stream(
    file: Annotated[str | None, typer.Argument(help="A file; - reads standard input.")] = None,
    mic: Annotated[bool, typer.Option("--mic", help="Listen to the microphone (needs the extra `mic`).")] = False,
    paced: Annotated[bool, typer.Option("--paced/--fast", help="In real time, or as fast as possible.")] = True,
    rate: Annotated[int | None, typer.Option(help="The input is raw 16-bit mono PCM with this rate in Hz.")] = None,
    partials: Annotated[bool, typer.Option("--partials/--no-partials", help="Show text before it is final.")] = True,
    bundle: BundleOption = "default",
    set_: SetOption = None,
    language: LanguageOption = None,
    hotword: HotwordOption = None,
    prompt: PromptOption = None,
    punctuate: PunctuateOption = None,
    numerals: NumeralsOption = False,
    smart_format: SmartFormatOption = False,
    profanity_filter: ProfanityFilterOption = False,
) -> None:
    """Transcribe live audio: partial text is rewritten in place on a terminal, final text is printed as lines.

    Example: speechpipe stream talk.mp3 --fast
    """
    from speechpipe.cascade.audio.wire_format import WireFormat
    from speechpipe.cascade.catalog.factories import catalogue as catalogue_of
    from speechpipe.errors import InvalidParameter
    from speechpipe.interfaces.cli.live_terminal import Asked, run
    from speechpipe.interfaces.cli.microphone import microphone
    from speechpipe.interfaces.cli.options import parse_set, settings
    from speechpipe.interfaces.cli.weights import fetch_missing
    from speechpipe.serving.biasing import checked
    from speechpipe.serving.live.sources import Pace, file_blocks
    from speechpipe.serving.text import TextOptions

    if mic == (file is not None):
        raise InvalidParameter("give either a file (- for standard input) or --mic")
    config = settings(bundle=bundle, live_max_speed=0, live_idle_timeout_s=86_400)
    text = TextOptions(punctuate, numerals, smart_format, profanity_filter)
    asked = Asked(bundle, parse_set(set_), language, prompt, checked(hotword or (), "hotword"), text, partials)
    catalogue = catalogue_of(config)
    fetch_missing(config, catalogue, [catalogue.bundle(bundle)])
    if mic:
        wire, blocks = WireFormat("linear16", 16_000), microphone(16_000)
    else:
        raw = WireFormat("linear16", rate) if rate is not None else None
        wire, blocks = file_blocks(file or "-", raw, Pace(paced))
    raise typer.Exit(1 if run(config, wire, blocks, asked) else 0)
