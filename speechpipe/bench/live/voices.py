"""What is spoken in a session: recordings of one speaker with natural variation, and faults of the audio."""

import io
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from speechpipe.bench.faults import audio
from speechpipe.bench.faults.behaviour import Habits
from speechpipe.bench.laboratory import natural
from speechpipe.bench.live.table import LiveFault
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.types import SAMPLE_RATE_HZ, Samples

SHORT_S = 1.5
"""Recordings are spoken one to three to a session if they are shorter than this on average."""

COUNTS = (0.6, 0.25, 0.15)
PAUSE_S = (0.8, 1.3)
"""Silence between two recordings of a session, longer than the silence that ends a segment."""

OF_UPLOADS = frozenset({"truncated_upload"})
"""Faults of files, which live sessions do not have."""

MOST_S = 30.0
HELD_BACK = 3
"""Of so many speakers one is held back, for the traffic of speakers who were not heard before."""


@dataclass(frozen=True)
class Manner:
    """How the traffic is at the moment.

    Attributes:
        audio: faults of the audio, applied one after the other.
        habits: what people do.
        longer: recordings in a session, times this.
        faster: sessions a second, times this.
        others: only speakers who are held back otherwise.
    """

    audio: tuple[LiveFault, ...] = ()
    habits: Habits = field(default_factory=Habits)
    longer: float = 1.0
    faster: float = 1.0
    others: bool = False


@dataclass(frozen=True)
class Spoken:
    """A session as its client sends it: (n,) samples at 16 kHz, and what was said (None: unknown).

    `claimed`: the number of samples that the header of a file promises; an upload that breaks off has fewer.
    """

    samples: Samples
    text: str | None
    recordings: int
    claimed: int = 0

    @property
    def pcm(self) -> bytes:
        """Little-endian 16-bit samples."""
        return (np.clip(self.samples, -1, 1) * 32767).astype("<i2").tobytes()

    @property
    def wav(self) -> bytes:
        """A WAV file; of an upload that broke off, its beginning."""
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE_HZ)
            file.writeframes(self.pcm + bytes(2 * max(0, self.claimed - len(self.samples))))
        whole = buffer.getvalue()
        return whole[: len(whole) - 2 * max(0, self.claimed - len(self.samples))]


class Voices:
    """The speakers of a manifest. Used by one thread."""

    def __init__(self, clips: Sequence[Clip], random: np.random.Generator) -> None:
        self._clips = clips
        self._random = random
        self._short = float(np.mean([clip.duration_s for clip in clips])) < SHORT_S
        speakers = sorted({clip.speaker for clip in clips})
        held_back = set(speakers[len(speakers) - len(speakers) // HELD_BACK :])
        by_speaker = {name: [clip for clip in clips if clip.speaker == name] for name in speakers}
        self._usual = [mine for name, mine in by_speaker.items() if name not in held_back]
        self._others = [mine for name, mine in by_speaker.items() if name in held_back] or self._usual

    def session(self, manner: Manner, *, live: bool = False) -> Spoken:
        """Return the next session. A `live` one has no header that promises more, and is not cut off."""
        speakers = self._others if manner.others else self._usual
        mine = speakers[int(self._random.integers(len(speakers)))]
        clips = [mine[int(self._random.integers(len(mine)))] for _ in range(self._count(manner.longer))]
        parts: list[Samples] = []
        for clip in clips:
            parts += [clip.samples, np.zeros(round(self._random.uniform(*PAUSE_S) * SAMPLE_RATE_HZ), np.float32)]
        samples = natural(np.concatenate(parts[:-1])[: round(MOST_S * SAMPLE_RATE_HZ)], self._random)
        claimed = 0
        for fault in manner.audio:
            if live and fault.kind in OF_UPLOADS:
                continue
            if self._random.random() < fault.share:
                material = audio.Material(self._random, [self._anybody() for _ in range(4)])
                sound = audio.spoil(fault.kind, audio.Sound(samples), fault.value, material)
                samples = np.asarray(sound.samples, np.float32)
                claimed = max(claimed, round((sound.claimed_s or 0.0) * SAMPLE_RATE_HZ))
        texts = [clip.text for clip in clips]
        text = None if None in texts else " ".join(str(one) for one in texts)
        return Spoken(samples, text, len(clips), claimed)

    def _count(self, longer: float) -> int:
        count = int(self._random.choice(len(COUNTS), p=COUNTS)) + 1 if self._short else 1
        return max(1, round(count * longer))

    def _anybody(self) -> Samples:
        return self._clips[int(self._random.integers(len(self._clips)))].samples
