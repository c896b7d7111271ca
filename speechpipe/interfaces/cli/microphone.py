"""The microphone of this machine (needs the extra `mic`: PortAudio by sounddevice)."""

import queue
from collections.abc import Iterator
from typing import Any

from speechpipe.errors import BadInput

BLOCK_S = 0.05


def microphone(rate_hz: int) -> Iterator[bytes]:
    """Yield blocks of 16-bit mono PCM until the caller stops.

    Raises:
        BadInput: the library or a microphone is missing.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise BadInput(f"no microphone support: {error}; install PortAudio and 'speechpipe[mic]'") from error
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def on_audio(data: Any, *_: object) -> None:
        heard.put(bytes(data))

    size = round(rate_hz * BLOCK_S)
    try:
        with sounddevice.RawInputStream(rate_hz, size, dtype="int16", channels=1, callback=on_audio):
            while True:
                yield heard.get()
    except sounddevice.PortAudioError as error:
        raise BadInput(f"the microphone cannot be opened: {error}") from error
