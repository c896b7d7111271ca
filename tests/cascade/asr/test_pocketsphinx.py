"""PocketSphinx: what only it does."""

from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from tests.sounds import EXPECTED, sample


def test_a_whole_segment_reads_the_digits() -> None:
    stream = load_recognizer("pocketsphinx", fwdflat=False, maxhmmpf=3000).open(DecodeOptions(offline=True))
    stream.feed(sample("digits"))
    transcript = stream.finish()
    assert transcript.text == EXPECTED["digits"]["text"]
    assert all("(" not in word.text and "<" not in word.text for word in transcript.words)


def test_a_live_segment_has_partials_while_it_is_spoken() -> None:
    stream = load_recognizer("pocketsphinx", fwdflat=False, maxhmmpf=3000).open(DecodeOptions())
    audio = sample("digits")
    stream.feed(audio[: len(audio) * 2 // 3])
    assert len(stream.partial().split()) >= 3
