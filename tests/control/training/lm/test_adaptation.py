"""Language models: arrays, the file that PocketSphinx reads, adaptation, pronunciations."""

from pathlib import Path

import numpy as np
import pytest
from pocketsphinx import Config, LogMath, NGramModel

from speechpipe.cascade.asr import DecodeOptions, load_recognizer
from speechpipe.cascade.asr.pocketsphinx import model_files
from speechpipe.control.training.lm import trie_file
from speechpipe.control.training.lm.adaptation import LmOptions, adapt
from speechpipe.control.training.lm.ngrams import Trigrams, estimate, log_likelihood, raised
from speechpipe.control.training.lm.pronounce import Dictionary, LetterRules, read_pronunciations
from speechpipe.errors import BadInput
from speechpipe.types import ModelFile
from tests.sounds import sample

TEXTS = ["please hold the line", "please hold", "the line is busy", "please press one", "press one please"]
WORDS = ["<s>", "</s>", *sorted({word for text in TEXTS for word in text.split()}), "unseen"]


def model(texts: list[str] = TEXTS) -> Trigrams:
    return estimate(texts, {word: place for place, word in enumerate(WORDS)}, WORDS)


@pytest.fixture(scope="module")
def general() -> Trigrams:
    return trie_file.read(model_files()[0])


def chances(found: Trigrams, first: str, second: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    u, v = (np.full(found.size, found.index[word]) for word in (first, second))
    result: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = 10 ** found.p3(u, v, np.arange(found.size))
    return result


@pytest.mark.parametrize("history", [("<s>", "please"), ("please", "hold"), ("busy", "press"), ("line", "line")])
def test_what_may_follow_sums_to_one(history: tuple[str, str]) -> None:
    assert chances(model(), *history).sum() == pytest.approx(1.0, abs=1e-6)


def test_the_domain_s_words_are_raised_to_the_mixture_and_no_other_is_lowered() -> None:
    ours, theirs = model(), model(["hold the line one", "busy busy"])
    found = raised(ours, theirs, 0.3)
    for history in (("hold", "the"), ("busy", "busy"), ("<s>", "please"), ("one", "unseen")):
        before, now = chances(ours, *history), chances(found, *history)
        assert (now >= before - 1e-12).all()
    mixed = 0.7 * chances(ours, "the", "line") + 0.3 * chances(theirs, "the", "line")
    at = found.index["one"]
    assert chances(found, "the", "line")[at] == pytest.approx(mixed[at], rel=1e-9)
    assert mixed[at] > 2 * chances(ours, "the", "line")[at]


def test_texts_that_are_expected_are_more_probable() -> None:
    found = model()
    near, _ = log_likelihood(found, ["please hold the line"])
    far, unknown = log_likelihood(found, ["line the hold please nonsense"])
    assert near.mean() > far.mean()
    assert unknown == 1


def test_a_model_comes_back_from_its_file_and_the_library_reads_it_alike(tmp_path: Path) -> None:
    found = raised(model(), model(["hold the line one", "busy busy"]), 0.3)
    trie_file.write(found, tmp_path / "x.lm.bin")
    again = trie_file.read(tmp_path / "x.lm.bin")
    assert list(again.words) == WORDS
    assert np.array_equal(again.pairs, found.pairs)
    assert np.array_equal(again.triples, found.triples)
    np.testing.assert_allclose(again.triple_prob, found.triple_prob, atol=1e-3)
    library, scale = NGramModel(Config(), LogMath(base=1.0001), str(tmp_path / "x.lm.bin")), np.log10(1.0001)
    for gram in (("please", "hold", "the"), ("busy", "press", "one"), ("<s>", "please", "press")):
        place = found.index[gram[2]]
        theirs = library.prob([gram[2], gram[1], gram[0]]) * scale
        assert theirs == pytest.approx(np.log10(chances(found, gram[0], gram[1])[place]), abs=2e-3)


def test_the_wheel_s_model_is_read_as_the_library_reads_it(general: Trigrams) -> None:
    assert (general.size, len(general.pairs), len(general.triples)) == (72_547, 2_051_541, 1_669_625)
    library, scale = NGramModel(Config(), LogMath(base=1.0001), str(model_files()[0])), np.log10(1.0001)
    random = np.random.default_rng(0)
    picked = random.choice(general.triples, 200)
    size = general.size
    for key in [*picked.tolist(), *random.integers(0, size**3, 100).tolist()]:
        u, v, w = key // size // size, key // size % size, key % size
        mine = general.p3(*(np.array([place]) for place in (u, v, w)))[0]
        theirs = library.prob([general.words[place] for place in (w, v, u)]) * scale
        assert mine == pytest.approx(theirs, abs=1e-3)


def test_broken_files_say_so(tmp_path: Path) -> None:
    whole = model_files()[0].read_bytes()
    for data in (b"", b"\\data\\", whole[:200], whole[:5_000_000]):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(BadInput, match="x"):
            trie_file.read(tmp_path / "x")


def test_letters_are_learnt_from_a_dictionary() -> None:
    known = [("cat", ("K", "AE", "T")), ("cats", ("K", "AE", "T", "S")), ("tack", ("T", "AE", "K"))] * 3
    known += [("box", ("B", "AA", "K", "S")), ("fox", ("F", "AA", "K", "S")), ("bat", ("B", "AE", "T"))] * 3
    rules = LetterRules(known)
    assert rules.speak("cat") == ("K", "AE", "T")
    assert rules.speak("bats") == ("B", "AE", "T", "S")
    assert rules.speak("box")[-2:] == ("K", "S")


def test_pronunciations_given_by_people_win(tmp_path: Path) -> None:
    (tmp_path / "p.dict").write_text("dahdi D AA D IY\nsql S IY K W AH L\n")
    assert read_pronunciations(tmp_path / "p.dict")["sql"] == ("S", "IY", "K", "W", "AH", "L")
    (tmp_path / "bad.dict").write_bytes(b"\xff\n")
    with pytest.raises(BadInput, match=r"bad\.dict"):
        read_pronunciations(tmp_path / "bad.dict")


def test_a_compound_is_pronounced_by_its_parts() -> None:
    words = Dictionary(model_files()[1])
    assert words.pronounced("voicemail") == words.words["voice"] + words.words["mail"]
    with pytest.raises(BadInput, match="4g"):
        words.pronounced("4g")


def test_too_few_texts_are_refused_with_their_causes(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"at least 10 .* 3 can be used; refused: .*alphabet"):
        adapt(["one", "two", "three", "", "press 4"], *model_files(), tmp_path, LmOptions())


@pytest.mark.long
def test_an_adapted_recognizer_expects_what_people_said(tmp_path: Path) -> None:
    """The digits of a voice, of which the general model makes other words."""
    texts = ["one two three four five", "six seven eight nine zero"] * 4 + ["five four", "one two", "nine six"] * 2
    adapted = adapt([*texts, "zorgblat five"], *model_files(), tmp_path, LmOptions(weight=0.6))
    assert list(adapted.new_words) == ["zorgblat"]
    assert adapted.perplexity_after < adapted.perplexity_before
    files = [ModelFile("lm", tmp_path / "lm.bin", ""), ModelFile("dict", tmp_path / "words.dict", "")]

    def heard(given: list[ModelFile]) -> str:
        stream = load_recognizer("pocketsphinx", given, fwdflat=False, maxhmmpf=3000).open(DecodeOptions(offline=True))
        stream.feed(sample("digits"))
        return stream.finish().text

    assert heard(files) == "one two three four five six seven eight nine zero"
    with pytest.raises(OSError, match=r"gone\.bin"):
        heard([ModelFile("lm", tmp_path / "gone.bin", "")])
