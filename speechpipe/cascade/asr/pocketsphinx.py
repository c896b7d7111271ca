"""PocketSphinx 5 (BSD, https://github.com/cmusphinx/pocketsphinx) with the en-us model of its wheel.

Its accuracy depends on cepstral mean normalisation (docs/decisions/0005). An offline segment is normalised by its own
mean (`full_utt`). A live segment is normalised by a running mean that starts at the value after the session's previous
segment (`DecodeOptions.context`).

A segment must not influence segments of other sessions. The decoder keeps three states between utterances: the running
mean, the noise floor of its noise removal, and the fast-match history of its last seven frames. `_settle` resets all
three before every segment.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from pocketsphinx import Decoder, get_model_path

from speechpipe.cascade.asr import DecodeOptions, transcript_of
from speechpipe.types import NullCause, Samples, Scalar, Transcript, Word

FRAMES_PER_S = 100
SILENT_LEVEL = 1
"""A segment whose samples never exceed +-1 of 32767 is silence and is not decoded: all Gaussians would score alike, and
earlier segments would decide the result. (Dither would avoid that, with more CPU time and more errors.)"""

SETTLING = bytes(2 * 1280)  # 80 ms of silence: more frames than the fast-match history holds
LIVE_BLOCK = 512
"""Live audio is passed to the decoder in blocks of this many samples. The running mean is updated after each block, so
with other block sizes a segment that is fed again would get other words."""

_ALTERNATIVE = re.compile(r"\(\d+\)$")  # read(2): the second pronunciation of "read"
_MARKUP = ("<", "[", "+")  # <sil>, [NOISE], ++UH++


class PocketSphinxRecognizer:
    """A pool of decoders. Each costs about 100 MB and half a second to make, and decodes one segment at a time.

    Decoders for offline and for live segments are separate: feeding blocks to a decoder switches it permanently from
    the mean of the segment to the running mean.
    """

    def __init__(self, files: Mapping[str, Path] = MappingProxyType({}), **options: Scalar) -> None:
        """Load the model; files `lm` and `dict` replace the wheel's language model and dictionary.

        Raises:
            OSError: a file is missing.
        """
        for path in files.values():
            path.stat()  # the library's message does not name the missing file
        self._options = {"loglevel": "FATAL", **options, **{role: str(path) for role, path in files.items()}}
        first = self._decoder()
        self._start_mean = first.get_cmn(False)
        self._idle: dict[bool, list[Any]] = {True: [first], False: []}

    def _decoder(self) -> Any:
        return Decoder(**self._options)

    def open(self, options: DecodeOptions) -> "PocketSphinxStream":
        """Begin a segment on an idle decoder, or on a new one."""
        idle = self._idle[options.offline]
        decoder = idle.pop() if idle else self._decoder()
        self._settle(decoder, options.context or self._start_mean)
        return PocketSphinxStream(decoder, self, offline=options.offline)

    def _settle(self, decoder: Any, mean: str) -> None:
        with warnings.catch_warnings():
            # The library calls this deprecated and unnecessary, but without it the noise floor is not reset.
            warnings.simplefilter("ignore", DeprecationWarning)
            decoder.start_stream()
            decoder.start_utt()
            decoder.process_raw(SETTLING, full_utt=True)
            decoder.end_utt()
            decoder.start_stream()
        decoder.set_cmn(mean)

    def release(self, decoder: Any, *, offline: bool) -> None:
        """Return a decoder to the pool."""
        self._idle[offline].append(decoder)


class PocketSphinxStream:
    """One segment on one decoder."""

    def __init__(self, decoder: Any, owner: PocketSphinxRecognizer, *, offline: bool) -> None:
        self._decoder = decoder
        self._owner = owner
        self._offline = offline
        self._held: list[bytes] = []  # offline: the segment; live: less than a block
        self._held_bytes = 0
        self._audible = False
        self._started = False
        self._context = ""

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples: decode them, or keep them if the segment is offline."""
        integers = (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        self._audible = self._audible or bool(np.any(np.abs(integers) > SILENT_LEVEL))
        pcm = integers.tobytes()
        self._held.append(pcm)
        self._held_bytes += len(pcm)
        if not self._offline and self._held_bytes >= 2 * LIVE_BLOCK:
            self._decode_blocks()

    def _decode_blocks(self) -> None:
        self._start()
        pcm = b"".join(self._held)
        size = len(pcm) // (2 * LIVE_BLOCK) * 2 * LIVE_BLOCK
        for start in range(0, size, 2 * LIVE_BLOCK):
            self._decoder.process_raw(pcm[start : start + 2 * LIVE_BLOCK])
        self._held, self._held_bytes = [pcm[size:]], len(pcm) - size

    def _start(self) -> None:
        if not self._started:
            self._decoder.start_utt()
            self._started = True

    def partial(self) -> str:
        """Return the current hypothesis."""
        hypothesis = self._decoder.hyp() if self._started else None
        return _clean(hypothesis.hypstr.split()) if hypothesis else ""

    def finish(self) -> Transcript:
        """End the utterance and return the words of the lattice's best path.

        If a segment ends within a word, the lattice may have no final node, and the library then has no hypothesis
        although its search had one. In that case the words of the search are returned; they have no confidence, because
        the search has no posteriors.
        """
        if not self._audible:
            self.cancel()
            return Transcript.null(NullCause.EMPTY)
        self._start()
        pcm = b"".join(self._held)
        if pcm:  # the library rejects an empty block
            self._decoder.process_raw(pcm, full_utt=self._offline)
        searched = self._words(posteriors=False)
        self._decoder.end_utt()
        recovered = self._decoder.hyp() is None and bool(searched)
        words = searched if recovered else self._words()
        if not self._offline:
            self._context = self._decoder.get_cmn(True)
        self._release()
        return transcript_of(words, recovered=recovered)

    def context(self) -> str:
        """Return the running cepstral mean after this segment; empty for an offline segment."""
        return self._context

    def cancel(self) -> None:
        """Drop the segment; its decoder returns to the pool."""
        if self._started:
            self._decoder.end_utt()
        self._release()

    def _release(self) -> None:
        self._owner.release(self._decoder, offline=self._offline)
        self._decoder = None

    def _words(self, *, posteriors: bool = True) -> list[Word]:
        words: list[Word] = []
        if self._decoder.hyp() is None:
            return words
        for item in self._decoder.seg() or ():
            if item.word.startswith(_MARKUP):
                continue
            words.append(
                Word(
                    text=_ALTERNATIVE.sub("", item.word),
                    start_s=item.start_frame / FRAMES_PER_S,
                    end_s=(item.end_frame + 1) / FRAMES_PER_S,
                    # A posterior; by rounding it can be 1.0001.
                    confidence=min(1.0, max(0.0, item.prob)) if posteriors else None,
                )
            )
        return words


def _clean(tokens: list[str]) -> str:
    return " ".join(_ALTERNATIVE.sub("", token) for token in tokens if not token.startswith(_MARKUP))


def model_files() -> tuple[Path, Path]:
    """Return the paths of the wheel's language model and dictionary."""
    folder = Path(get_model_path("en-us"))
    return folder / "en-us.lm.bin", folder / "cmudict-en-us.dict"
