"""What is not believed: text that repeats itself, is longer than the audio can hold, or was written over noise.

Whisper can repeat a phrase until its length is used up, and can write text where there is no speech (Radford et al.,
2022, section 4.5). `cascade/asr/acoustic/guards.py` has what holds for other recognizers too.
"""

from collections.abc import Sequence

from speechpipe.cascade.asr.whisper.decoding import MOST_TOKENS, Guess
from speechpipe.cascade.asr.whisper.features import FRAMES_S

TOKENS = 12
TOKENS_S = 6.5
"""A text has at most so many tokens, and so many more for each second of audio. A fast speaker reaches 5 a second."""

LONGEST_PHRASE = 8
LONGEST_ALONE = 24
"""Words of the longest phrase whose repetition is noticed: among several pieces in a window, which may be the same
sentence, and in one piece, of which whole sentences are written twice, too."""

HOPELESS_LOG_PROB = -3.2
"""Mean log-probability of tokens below which a text is dropped. A single right word in noise reaches -3.0."""


WIDER_BEAM = 5
"""Beams of the second try where the text was hopeless although the model heard speech.

Of speech that was cut off at both ends, the single most probable first word may lead to the end of the text at once.
"""

LEAD_FRAMES = 20
"""Frames of silence before the speech in that second try: it fails most where the speech begins within a word."""


def most_tokens(frames: int) -> int:
    """Return how many tokens the text of so many frames of audio may have."""
    return min(int(TOKENS + TOKENS_S * frames / FRAMES_S), MOST_TOKENS // 2)


def repetition(words: Sequence[str], longest: int = LONGEST_PHRASE) -> tuple[int, int] | None:
    """Return the first and the last word, exclusive, of a phrase that is said several times in a row; None without one.

    A phrase of one or two words counts when it is said three times running, a longer one when it is said twice. The
    words are those of its first time. `longest`: words of the longest phrase that is looked for.
    """
    plain = ["".join(filter(str.isalnum, word.lower())) for word in words]
    for start in range(len(plain)):
        for length in range(1, min(longest, (len(plain) - start) // 2) + 1):
            times = 3 if length < 3 else 2
            phrase = plain[start : start + length]
            if plain[start : start + times * length] == phrase * times:
                return start, start + length
    return None


def no_speech(guess: Guess, least: float, log_prob: float, *, ran_on: bool) -> bool:
    """Whether the model itself believes that there is no speech, and the text is improbable or runs on.

    Over noise it also writes words of which it believes nothing, and says that there is speech.
    """
    doubted = guess.no_speech > least and (guess.log_prob < log_prob or ran_on)
    return doubted or guess.log_prob < HOPELESS_LOG_PROB


def hopeless(guess: Guess, least: float) -> bool:
    """Whether the model believes that there is speech, but not the text."""
    return guess.no_speech <= least and guess.log_prob < HOPELESS_LOG_PROB
