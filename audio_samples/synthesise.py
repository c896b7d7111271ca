"""Make the clips and expected.toml of this folder: `python audio_samples/synthesise.py` (needs Debian's flite).

Everything is synthesised, so everything is known: the text, and where speech begins and ends to the sample.
The clips are committed, so nobody needs flite to run the demo or the tests.
"""

import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

RATE = 16_000
HERE = Path(__file__).parent
LEVEL_DBFS = -23.0
QUIET = 10 ** (-45 / 20)  # of the peak: what still counts as the voice

DIGITS = "one two three four five six seven eight nine zero"
LIGHTHOUSE = "the lighthouse keeper wrote a letter to his brother every morning"
MARKET = "she bought fresh bread and a bottle of milk at the market"
MEETING = "the meeting will begin at ten and everyone should bring a pencil"
WINTER = "in the winter the river freezes and the children walk across it"
QUESTION = "what time does the next train leave for the city"
ANSWER = "the next train for the city leaves at half past three"


@dataclass
class Clip:
    """Audio of shape (n,) or (n, channels) with what is known of it."""

    name: str
    audio: np.ndarray
    text: str
    speech: list[tuple[float, float]]
    about: str
    max_wer: float
    rate: int = RATE
    boundary_s: float = 0.35


def say(voice: str, text: str) -> np.ndarray:
    """Return the voice's samples, silence at both ends removed, at a fixed level."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "said.wav"
        subprocess.run(["flite", "-voice", voice, "-t", text, "-o", str(path)], check=True)
        samples, rate = soundfile.read(path, dtype="float32")
    samples = soxr.resample(samples, rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > QUIET * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return samples * (10 ** (LEVEL_DBFS / 20) / np.sqrt(np.mean(samples**2)))


def join(*parts: np.ndarray | float) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Put voices and pauses (seconds of digital silence) one after the other; return the spans of the voices."""
    pieces, spans, at = [], [], 0
    for part in parts:
        piece = np.zeros(round(part * RATE), np.float32) if isinstance(part, float) else part
        if not isinstance(part, float):
            spans.append((round(at / RATE, 3), round((at + len(piece)) / RATE, 3)))
        pieces.append(piece)
        at += len(piece)
    return np.concatenate(pieces), spans


def noisy(audio: np.ndarray, voice: np.ndarray, snr_db: float, seed: int) -> np.ndarray:
    """Add white noise `snr_db` below the voice."""
    level = np.sqrt(np.mean(voice**2)) * 10 ** (-snr_db / 20)
    return audio + np.random.default_rng(seed).normal(0, level, len(audio)).astype(np.float32)


def clips() -> list[Clip]:
    """Return all clips."""
    made = []

    audio, spans = join(0.4, say("rms", DIGITS), 0.4)
    made.append(Clip("digits", audio, DIGITS, spans, "ten digits, one voice (rms)", 0.5))

    audio, spans = join(0.3, say("slt", LIGHTHOUSE), 0.3)
    made.append(Clip("sentence_slt", audio, LIGHTHOUSE, spans, "one sentence, a woman's voice (slt)", 0.5))

    audio, spans = join(0.3, say("awb", MARKET), 0.3)
    made.append(Clip("sentence_awb", audio, MARKET, spans, "one sentence, a Scottish man's voice (awb)", 0.8))

    audio, spans = join(2.0, say("rms", MEETING), 3.0, say("rms", WINTER), 4.0, say("rms", MARKET), 2.0)
    text = f"{MEETING} {WINTER} {MARKET}"
    made.append(Clip("long_pauses", audio, text, spans, "three sentences, pauses of 3 and 4 s", 0.5))

    audio, spans = join(0.5, say("slt", QUESTION), 0.8, say("rms", ANSWER), 0.5)
    made.append(Clip("two_speakers", audio, f"{QUESTION} {ANSWER}", spans, "a question and its answer", 0.5))

    voice = say("rms", WINTER)
    audio, spans = join(1.0, voice, 1.0)
    made.append(Clip("noise_20db", noisy(audio, voice, 20, 1), WINTER, spans, "white noise 20 dB below", 0.8))
    made.append(
        Clip("noise_5db", noisy(audio, voice, 5, 2), WINTER, spans, "white noise 5 dB below", 1.0, boundary_s=0.7)
    )

    made.append(Clip("silence", np.zeros(4 * RATE, np.float32), "", [], "digital silence", 0.0))
    hiss = np.random.default_rng(3).normal(0, 10 ** (-35 / 20), 4 * RATE).astype(np.float32)
    made.append(Clip("noise", hiss, "", [], "white noise at -35 dBFS, nobody speaks", 0.0))

    audio, spans = join(0.4, say("slt", MEETING), 0.4)
    narrow = soxr.resample(audio, RATE, 8000)
    made.append(Clip("telephone", narrow, MEETING, spans, "8 kHz, as a telephone has it", 0.9, rate=8000))

    left, left_spans = join(0.4, say("slt", QUESTION), 4.0)
    right, right_spans = join(len(left_spans) * 3.6, say("rms", ANSWER), 0.4)
    length = max(len(left), len(right))
    both = np.stack([np.pad(side, (0, length - len(side))) for side in (left, right)], axis=1)
    spans = left_spans + right_spans
    made.append(Clip("stereo", both, f"{QUESTION} {ANSWER}", spans, "two people, a channel each", 0.6))

    audio, spans = join(0.3, say("rms", LIGHTHOUSE), 0.3)
    opposed = np.stack([audio, -audio], axis=1)
    made.append(Clip("opposed", opposed, LIGHTHOUSE, spans, "stereo whose channels cancel when mixed", 0.5))
    return made


def main() -> None:
    """Write the clips and what is expected of them."""
    lines = ["# Made by synthesise.py. Spans in seconds; max_wer is what the embedded default may miss.\n"]
    for clip in clips():
        soundfile.write(HERE / f"{clip.name}.flac", np.clip(clip.audio, -1, 1), clip.rate, subtype="PCM_16")
        lines.append(
            f'\n[{clip.name}]\nfile = "{clip.name}.flac"\nabout = "{clip.about}"\ntext = "{clip.text}"\n'
            f"duration_s = {len(clip.audio) / clip.rate:.3f}\n"
            f"speech = {[list(span) for span in clip.speech]}\n"
            f"max_wer = {clip.max_wer}\nboundary_s = {clip.boundary_s}\n"
        )
    (HERE / "expected.toml").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
