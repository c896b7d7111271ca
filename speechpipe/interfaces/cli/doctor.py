"""`speechpipe doctor`: checks packages, implementations and bundles, and runs a short self-test."""

import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from speechpipe.interfaces.cli import app

PACKAGES = (
    *("numpy", "soundfile", "av", "soxr", "webrtcvad-wheels", "silero-vad", "onnxruntime", "torch", "torchaudio"),
    *("pocketsphinx", "fastapi", "uvicorn", "SQLAlchemy", "prometheus-client"),
)


@app.command()
def doctor(self_test: Annotated[bool, typer.Option(help="Transcribe two seconds of noise.")] = True) -> None:
    """Print what works on this machine and what does not; exit code 1 if the default bundle does not.

    The self-test fetches the weights of the default bundle if they are missing.
    """
    from speechpipe import __version__
    from speechpipe.app import compose
    from speechpipe.cascade.asr import RECOGNIZERS
    from speechpipe.cascade.catalog.cards import shipped_models
    from speechpipe.cascade.vad import VADS
    from speechpipe.interfaces.cli.options import settings

    typer.echo(f"speechpipe {__version__}, Python {platform.python_version()}, {platform.platform()}")
    config = settings()
    typer.echo(
        f"cores usable: {config.worker_count}   state: {config.state_dir.absolute()}   cards: {shipped_models()}"
    )
    typer.echo("\npackages")
    for name in PACKAGES:
        try:
            typer.echo(f"  {name:18} {version(name)}")
        except PackageNotFoundError:
            typer.echo(f"  {name:18} MISSING")
    typer.echo("\nimplementations")
    for registry in (VADS, RECOGNIZERS):
        for name in registry:
            typer.echo(f"  {registry.kind:11} {name:14} {_loads(registry, name)}")
    typer.echo("\nbundles")
    service = compose(config.model_copy(update={"workers": 1}))  # one is enough to show that it works
    catalogue = service.engine.catalogue
    healthy = not self_test or _fetched(service)
    for name in catalogue.names:
        bundle = catalogue.bundle(name)
        if catalogue.absent(bundle):
            healthy &= name != config.bundle
            typer.echo(f"  {name:14} weights not fetched: speechpipe models pull {bundle.asr.name}")
            continue
        problems = catalogue.problems(bundle)
        healthy &= not problems or name != config.bundle
        typer.echo(f"  {name:14} {'; '.join(problems) or 'files verified'}")
    if self_test and healthy:
        healthy = _self_test(service)
    raise typer.Exit(0 if healthy else 1)


def _fetched(service: "object") -> bool:
    """Fetch the champion's weights if they are missing; return whether they are there."""
    from speechpipe.errors import SpeechpipeError
    from speechpipe.interfaces.cli.weights import fetch_missing
    from speechpipe.serving.service import Service

    assert isinstance(service, Service)
    try:
        fetch_missing(service.settings, service.engine.catalogue, [service.engine.champion])
    except SpeechpipeError as error:
        typer.echo("\n".join(["  FAILED: " + error.message, *(f"  {line}" for line in error.steps)]))
        return False
    return True


def _loads(registry: "object", name: str) -> str:
    from speechpipe.foundation.registry import Registry

    assert isinstance(registry, Registry)
    try:
        registry.load(name)
    except ImportError as error:
        return f"cannot load: {error}"
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything; the others are checked too
        return f"cannot load: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return "ok"


def _self_test(service: "object") -> bool:
    import io
    import tempfile

    import numpy as np
    import soundfile

    from speechpipe.errors import SpeechpipeError, reason_of
    from speechpipe.serving.service import Service
    from speechpipe.serving.transcription.transcriber import Transcription, TranscriptionRequest

    assert isinstance(service, Service)
    typer.echo(f"\nself-test with {service.engine.champion.id}: two seconds of noise at -60 dBFS")
    noise = np.random.default_rng(0).normal(0, 1e-3, 32_000).astype(np.float32)
    encoded = io.BytesIO()
    soundfile.write(encoded, noise, 16_000, format="FLAC")
    begun = time.monotonic()
    try:
        with service, tempfile.TemporaryFile() as file:
            typer.echo(f"  ready after {time.monotonic() - begun:.1f} s")
            file.write(encoded.getvalue())
            transcription = Transcription(service, file, TranscriptionRequest(service.engine.champion))
            for _ in transcription.run():
                pass
            result = transcription.result
    except (SpeechpipeError, OSError) as error:
        typer.echo(f"  FAILED: {reason_of(error)}")
        return False
    balanced = all(channel.summary.accounting.balanced for channel in result.channels)
    good = balanced and not result.text
    typer.echo(
        f"  text {result.text!r}, accounting {'balanced' if balanced else 'NOT balanced'}, {result.wall_s:.2f} s"
    )
    typer.echo(f"  {'ok' if good else 'FAILED'} (pid {os.getpid()})")
    return good
