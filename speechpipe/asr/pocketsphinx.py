"""PocketSphinx 5 (BSD, https://github.com/cmusphinx/pocketsphinx) with the en-us model of its wheel.

Two things decide its accuracy here. Cepstral mean normalisation: a decoder that carries its running mean from
one segment to the next lets one speaker's microphone colour another's text, so every segment starts from the
model's own mean; a segment that is all there is normalised by its own mean (`full_utt`), which on read speech
is worth more than any decoder setting (docs/decisions/0005). And the beam: `maxhmmpf` and `fwdflat` from the card.
"""

import re
from typing import Any

import numpy as np
from pocketsphinx import Decoder

from speechpipe.asr import DecodeOptions
from speechpipe.types import NullCause, Samples, Scalar, Transcript, Word

FRAMES_PER_S = 100
_ALTERNATIVE = re.compile(r"\(\d+\)$")  # read(2): the second pronunciation of "read"
_MARKUP = ("<", "[", "+")  # <sil>, [NOISE], ++UH++


class PocketSphinxRecognizer:
    """Keeps idle decoders: each costs about 100 MB and half a second, and holds one segment at a time."""

    def __init__(self, **options: Scalar) -> None:
        self._options = {"loglevel": "FATAL", **options}
        self._idle: list[Any] = [self._decoder()]
        self._start_mean = self._idle[0].get_cmn(False)

    def _decoder(self) -> Any:
        return Decoder(**self._options)

    def open(self, options: DecodeOptions) -> "PocketSphinxStream":
        """Begin a segment on an idle decoder, or on a new one."""
        decoder = self._idle.pop() if self._idle else self._decoder()
        decoder.set_cmn(self._start_mean)
        return PocketSphinxStream(decoder, self, whole=options.whole)

    def release(self, decoder: Any) -> None:
        """Take a decoder back."""
        self._idle.append(decoder)


class PocketSphinxStream:
    """One segment on one decoder."""

    def __init__(self, decoder: Any, owner: PocketSphinxRecognizer, *, whole: bool) -> None:
        self._decoder = decoder
        self._owner = owner
        self._held: list[bytes] | None = [] if whole else None
        self._started = False

    def feed(self, samples: Samples) -> None:
        """Take (n,) samples: decode them, or hold them if the segment is to be normalised as a whole."""
        pcm = (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
        if self._held is not None:
            self._held.append(pcm)
            return
        self._start()
        self._decoder.process_raw(pcm)

    def _start(self) -> None:
        if not self._started:
            self._decoder.start_utt()
            self._started = True

    def partial(self) -> str:
        """Return the running hypothesis."""
        hypothesis = self._decoder.hyp() if self._started else None
        return _clean(hypothesis.hypstr.split()) if hypothesis else ""

    def finish(self) -> Transcript:
        """End the utterance and read the words off the lattice's best path."""
        self._start()
        if self._held is not None:
            pcm = b"".join(self._held)
            if pcm:  # the library refuses an empty block
                self._decoder.process_raw(pcm, full_utt=True)
        self._decoder.end_utt()
        words = tuple(self._words())
        self._release()
        if not words:
            return Transcript.null(NullCause.EMPTY)
        text = " ".join(word.text for word in words)
        known = [(word.confidence, word.end_s - word.start_s) for word in words if word.confidence is not None]
        weight = sum(length for _, length in known)
        confidence = sum(value * length for value, length in known) / weight if weight else None
        return Transcript(text, words, confidence)

    def cancel(self) -> None:
        """Drop the segment; the decoder goes back to the idle ones."""
        if self._started:
            self._decoder.end_utt()
        self._release()

    def _release(self) -> None:
        self._owner.release(self._decoder)
        self._decoder = None

    def _words(self) -> list[Word]:
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
                    confidence=min(1.0, max(0.0, item.prob)),  # a posterior; rounding takes it to 1.0001
                )
            )
        return words


def _clean(tokens: list[str]) -> str:
    return " ".join(_ALTERNATIVE.sub("", token) for token in tokens if not token.startswith(_MARKUP))
