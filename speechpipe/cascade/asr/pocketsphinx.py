"""PocketSphinx 5 (BSD, https://github.com/cmusphinx/pocketsphinx) with the en-us model of its wheel.

What decides its accuracy here is cepstral mean normalisation (docs/decisions/0005): a segment that is all there
is normalised by its own mean (`full_utt`), one that is being spoken by a mean that follows, and that begins where
the session's last segment ended (`DecodeOptions.carried`).

What decides whether it can be trusted is that nothing of one segment reaches the next one, of another session.
The decoder carries three things over: the running mean, the noise floor of its noise removal, and the fast-match
history of its last seven frames. `_settle` brings all three to the same point before every segment.
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
"""A segment that never leaves +-1 of 32767 holds nothing. It is not decoded: all Gaussians score alike on it, and
what breaks the tie is what the decoder heard before. (Dither would break it too, with more CPU and more errors.)"""

SETTLING = bytes(2 * 1280)  # 80 ms of silence: more frames than the history holds
LIVE_BLOCK = 512
"""Live audio reaches the decoder in blocks of this many samples, however it arrived: the running mean moves at the
ends of blocks, so that a segment which is fed again in one piece would otherwise get other words."""

_ALTERNATIVE = re.compile(r"\(\d+\)$")  # read(2): the second pronunciation of "read"
_MARKUP = ("<", "[", "+")  # <sil>, [NOISE], ++UH++


class PocketSphinxRecognizer:
    """Keeps idle decoders: each costs about 100 MB and half a second, and holds one segment at a time.

    Decoders for whole and for live segments are kept apart: feeding one in blocks switches it from the mean of
    the whole segment to the running mean for good.
    """

    def __init__(self, files: Mapping[str, Path] = MappingProxyType({}), **options: Scalar) -> None:
        """Load the model; files `lm` and `dict` take the place of the wheel's language model and dictionary.

        Raises:
            OSError: one of them is missing.
        """
        for path in files.values():
            path.stat()  # the library's message does not say which one it misses
        self._options = {"loglevel": "FATAL", **options, **{role: str(path) for role, path in files.items()}}
        first = self._decoder()
        self._start_mean = first.get_cmn(False)
        self._idle: dict[bool, list[Any]] = {True: [first], False: []}

    def _decoder(self) -> Any:
        return Decoder(**self._options)

    def open(self, options: DecodeOptions) -> "PocketSphinxStream":
        """Begin a segment on an idle decoder, or on a new one."""
        idle = self._idle[options.whole]
        decoder = idle.pop() if idle else self._decoder()
        self._settle(decoder, options.carried or self._start_mean)
        return PocketSphinxStream(decoder, self, whole=options.whole)

    def _settle(self, decoder: Any, mean: str) -> None:
        with warnings.catch_warnings():
            # Called deprecated and unnecessary by the library; without it the noise floor is carried over.
            warnings.simplefilter("ignore", DeprecationWarning)
            decoder.start_stream()
            decoder.start_utt()
            decoder.process_raw(SETTLING, full_utt=True)
            decoder.end_utt()
            decoder.start_stream()
        decoder.set_cmn(mean)

    def release(self, decoder: Any, *, whole: bool) -> None:
        """Take a decoder back."""
        self._idle[whole].append(decoder)


class PocketSphinxStream:
    """One segment on one decoder."""

    def __init__(self, decoder: Any, owner: PocketSphinxRecognizer, *, whole: bool) -> None:
        self._decoder = decoder
        self._owner = owner
        self._whole = whole
        self._held: list[bytes] = []  # whole: the segment; live: less than a block
        self._held_bytes = 0
        self._audible = False
        self._started = False
        self._carried = ""

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples: decode them, or hold them if the segment is to be normalised as a whole."""
        integers = (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2")
        self._audible = self._audible or bool(np.any(np.abs(integers) > SILENT_LEVEL))
        pcm = integers.tobytes()
        self._held.append(pcm)
        self._held_bytes += len(pcm)
        if not self._whole and self._held_bytes >= 2 * LIVE_BLOCK:
            self._decode_blocks()

    def _decode_blocks(self) -> None:
        self._start()
        pcm = b"".join(self._held)
        whole = len(pcm) // (2 * LIVE_BLOCK) * 2 * LIVE_BLOCK
        for start in range(0, whole, 2 * LIVE_BLOCK):
            self._decoder.process_raw(pcm[start : start + 2 * LIVE_BLOCK])
        self._held, self._held_bytes = [pcm[whole:]], len(pcm) - whole

    def _start(self) -> None:
        if not self._started:
            self._decoder.start_utt()
            self._started = True

    def partial(self) -> str:
        """Return the running hypothesis."""
        hypothesis = self._decoder.hyp() if self._started else None
        return _clean(hypothesis.hypstr.split()) if hypothesis else ""

    def finish(self) -> Transcript:
        """End the utterance and read the words off the lattice's best path.

        Where a segment ends in the middle of a word, the lattice may have no node for its end: then the library finds
        no path at all and has no hypothesis, though the search had one. The words are then those of the search, which
        has no posteriors: they have no confidence.
        """
        if not self._audible:
            self.cancel()
            return Transcript.null(NullCause.EMPTY)
        self._start()
        pcm = b"".join(self._held)
        if pcm:  # the library refuses an empty block
            self._decoder.process_raw(pcm, full_utt=self._whole)
        searched = self._words(posteriors=False)
        self._decoder.end_utt()
        recovered = self._decoder.hyp() is None and bool(searched)
        words = searched if recovered else self._words()
        if not self._whole:
            self._carried = self._decoder.get_cmn(True)
        self._release()
        return transcript_of(words, recovered=recovered)

    def carried(self) -> str:
        """Return the cepstral mean that this segment ended with."""
        return self._carried

    def cancel(self) -> None:
        """Drop the segment; the decoder goes back to the idle ones."""
        if self._started:
            self._decoder.end_utt()
        self._release()

    def _release(self) -> None:
        self._owner.release(self._decoder, whole=self._whole)
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
                    # A posterior; rounding takes it to 1.0001.
                    confidence=min(1.0, max(0.0, item.prob)) if posteriors else None,
                )
            )
        return words


def _clean(tokens: list[str]) -> str:
    return " ".join(_ALTERNATIVE.sub("", token) for token in tokens if not token.startswith(_MARKUP))


def model_files() -> tuple[Path, Path]:
    """Return the language model and the dictionary of the wheel."""
    folder = Path(get_model_path("en-us"))
    return folder / "en-us.lm.bin", folder / "cmudict-en-us.dict"
