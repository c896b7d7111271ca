"""What is decoded together, what is doubted, and what is decoded again."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from speechpipe.cascade.asr import Piece
from speechpipe.cascade.asr.whisper import guards
from speechpipe.cascade.asr.whisper.batch import TOGETHER, Batch, Limits
from speechpipe.cascade.asr.whisper.tasks import Asked
from speechpipe.types import NullCause, Transcript
from tests.cascade.asr.whisper.fakes import FakeMel, FakeModel, Written, piece, vocabulary

SAYS = {1: "one.", 2: "two two.", 3: "three no.", 4: "four.", 5: "five yes."}
ENGLISH = Asked("en", False, (), True)


def honest(_: int, pieces: list[int]) -> Written:
    """Write what is in the window, and nothing else."""
    return [(number, SAYS[number]) for number in pieces]


def run(model: FakeModel, pieces: Sequence[Piece], folder: Path, asked: Asked = ENGLISH) -> list[Transcript]:
    made: Any = model
    batch = Batch(made, vocabulary(folder), cast("Any", FakeMel()), Limits(0.6, -1.0))
    return batch.run(pieces, [asked] * len(pieces))


def test_pieces_of_a_session_share_a_window_and_each_gets_its_own_words(tmp_path: Path) -> None:
    model = FakeModel(honest)
    found = run(model, [piece(number) for number in (1, 2, 3)], tmp_path)
    assert model.windows == [(1500, [1, 2, 3])]
    assert [one.text for one in found] == ["one.", "two two.", "three no."]
    assert all(one.facts == {} for one in found)
    for one in found:
        assert [word.text for word in one.words] == one.text.split()
        assert all(0.25 <= word.start_s < word.end_s <= 3.0 for word in one.words)


def test_pieces_of_two_sessions_never_share_a_window(tmp_path: Path) -> None:
    model = FakeModel(honest)
    pieces = [piece(1, group="a"), piece(2, group="b"), piece(3, group="a"), piece(4, group=""), piece(5, group="")]
    found = run(model, pieces, tmp_path)
    assert [one.text for one in found] == [SAYS[number] for number in (1, 2, 3, 4, 5)]
    assert sorted(pieces for _, pieces in model.windows) == [[1, 3], [2], [4], [5]]


def test_windows_are_decoded_several_at_once(tmp_path: Path) -> None:
    model = FakeModel(honest)
    run(model, [piece(1 + number % 5, group="") for number in range(TOGETHER + 3)], tmp_path)
    assert model.batches == [TOGETHER, 3]


def test_a_text_that_ends_early_is_continued_with_what_is_missing(tmp_path: Path) -> None:
    model = FakeModel(lambda length, pieces: honest(length, pieces[:2] if len(pieces) > 4 else pieces))
    found = run(model, [piece(number, 2.0) for number in (1, 2, 3, 4, 5)], tmp_path)
    assert [one.text for one in found] == [SAYS[number] for number in (1, 2, 3, 4, 5)]
    assert [pieces for _, pieces in model.windows] == [[1, 2, 3, 4, 5], [3, 4, 5]]
    assert [one.facts.get("again", 0) for one in found] == [0, 0, 1, 1, 1]


def test_nothing_is_lost_if_the_model_writes_nothing_for_several_pieces(tmp_path: Path) -> None:
    model = FakeModel(lambda length, pieces: honest(length, pieces if len(pieces) == 1 else []))
    found = run(model, [piece(number) for number in (1, 2, 3)], tmp_path)
    assert [one.text for one in found] == ["one.", "two two.", "three no."]
    assert [pieces for _, pieces in model.windows] == [[1, 2, 3], [1], [2], [3]]


def test_a_piece_without_words_between_others_is_decoded_alone(tmp_path: Path) -> None:
    model = FakeModel(lambda length, pieces: honest(length, pieces if len(pieces) == 1 else [1, 3]))
    found = run(model, [piece(number) for number in (1, 2, 3)], tmp_path)
    assert [one.text for one in found] == ["one.", "two two.", "three no."]
    assert [pieces for _, pieces in model.windows] == [[1, 2, 3], [2]]


def test_a_word_that_is_stretched_over_a_piece_without_words_is_doubtful(tmp_path: Path) -> None:
    """Without a full stop the alignment gives the sound of piece 2 to the last word of piece 1."""
    model = FakeModel(
        lambda length, pieces: [(pieces[0], "yes one"), (3, "no")] if len(pieces) > 1 else honest(length, pieces)
    )
    found = run(model, [piece(number) for number in (1, 2, 3)], tmp_path)
    assert [one.text for one in found] == ["one.", "two two.", "no"]


def test_words_that_the_model_is_unsure_of_are_decoded_alone(tmp_path: Path) -> None:
    model = FakeModel(honest)
    model.probability = 0.2
    run(model, [piece(number) for number in (1, 2)], tmp_path)
    assert [pieces for _, pieces in model.windows] == [[1, 2], [1], [2]]


def test_a_text_that_repeats_itself_is_decoded_again_in_a_longer_window(tmp_path: Path) -> None:
    model = FakeModel(lambda length, pieces: [(pieces[0], "one" if length > 1500 else "one " * 3)])
    (found,) = run(model, [piece(1)], tmp_path)
    assert found.text == "one"
    assert found.facts == {"again": 1}
    assert [length for length, _ in model.windows] == [1500, 2000]


def test_a_whole_sentence_that_is_written_twice_is_decoded_again(tmp_path: Path) -> None:
    sentence = "one two three no yes one no two three yes no"
    model = FakeModel(lambda length, pieces: [(pieces[0], sentence if length > 1500 else f"{sentence} {sentence}")])
    (found,) = run(model, [piece(1, 6.0)], tmp_path)
    assert found.text == sentence
    assert found.facts == {"again": 1}


UNFINISHED = Asked("en", False, (), False, unfinished=True)


def test_unfinished_text_gets_a_shorter_window_and_a_longer_one_if_it_repeats_itself(tmp_path: Path) -> None:
    model = FakeModel(lambda length, pieces: [(pieces[0], "one" if length > 1000 or pieces == [1] else "one " * 3)])
    assert run(model, [piece(1)], tmp_path, UNFINISHED)[0].text == "one"
    assert run(model, [piece(2)], tmp_path, UNFINISHED)[0].text == "one"
    assert run(model, [piece(1, 12.0)], tmp_path, UNFINISHED)[0].text == "one"
    assert [length for length, _ in model.windows] == [1000, 1000, 1500, 1500]


def in_steps(model: FakeModel, one: Piece, folder: Path, asked: Asked) -> tuple[Transcript, int]:
    """Return a text that was made in steps, and how many there were."""
    made: Any = model
    steps = Batch(made, vocabulary(folder), cast("Any", FakeMel()), Limits(0.6, -1.0)).in_steps(one, asked)
    for count in itertools.count():
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
    raise AssertionError


def test_unfinished_text_in_steps_is_the_same_text(tmp_path: Path) -> None:
    looping = FakeModel(lambda length, pieces: [(1, "one " * 3)] if length == 1000 else honest(length, pieces))
    for model, tries in ((FakeModel(honest), 1), (looping, 2)):
        found, steps = in_steps(model, piece(1, 2.0), tmp_path, UNFINISHED)
        assert found.text == "one."
        assert steps == tries, "each window is waited for once"
    model = FakeModel(honest, multilingual=True)
    model.languages = {(1,): ("de", 0.9)}
    anything = Asked(None, False, (), False, unfinished=True)
    assert in_steps(model, piece(1, 2.0), tmp_path, anything) == (run(model, [piece(1, 2.0)], tmp_path, anything)[0], 0)
    german = Asked("de", False, (), False, unfinished=True)
    assert in_steps(model, piece(1, 2.0), tmp_path, german)[1] == 1


def test_hopeless_unfinished_text_is_not_tried_with_more_beams(tmp_path: Path) -> None:
    model = FakeModel(honest)
    model.log_prob = -4.0
    assert run(model, [piece(1)], tmp_path, UNFINISHED)[0].text == ""
    assert model.beams == [1]


def test_a_repetition_in_which_two_windows_agree_was_said(tmp_path: Path) -> None:
    model = FakeModel(lambda _, pieces: [(pieces[0], "no no no")])
    (found,) = run(model, [piece(1)], tmp_path)
    assert found.text == "no no no"
    assert len(model.windows) == 2


def test_a_text_without_an_end_is_cut_after_the_second_try(tmp_path: Path) -> None:
    model = FakeModel(lambda _, pieces: [(pieces[0], "so " + "thank you " * 200)])
    (found,) = run(model, [piece(1)], tmp_path)
    assert found.text == "so thank you"
    assert [word.text for word in found.words] == ["so", "thank", "you"]
    assert found.facts == {"again": 1, "shortened": 1}
    assert len(model.windows) == 2


def test_a_repetition_in_a_shared_window_spares_what_came_before(tmp_path: Path) -> None:
    def write(length: int, pieces: list[int]) -> Written:
        if len(pieces) < 4:
            return honest(length, pieces)
        return [*honest(length, pieces[:2]), (pieces[2], "thank you " * 100)]

    model = FakeModel(write)
    found = run(model, [piece(number, 2.0) for number in (1, 2, 3, 4, 5)], tmp_path)
    assert [one.text for one in found] == [SAYS[number] for number in (1, 2, 3, 4, 5)]
    assert [pieces for _, pieces in model.windows][1:] in ([[2], [3], [4, 5]], [[4, 5], [2], [3]])


def test_a_part_that_begins_with_a_repetition_leaves_nothing_to_spare(tmp_path: Path) -> None:
    model = FakeModel(lambda _, pieces: [(pieces[0], "no no no no")] if len(pieces) > 1 else honest(_, pieces))
    found = run(model, [piece(number) for number in (1, 2)], tmp_path)
    assert [one.text for one in found] == ["one.", "two two."]


def test_no_speech_drops_a_text_that_the_model_is_unsure_of(tmp_path: Path) -> None:
    model = FakeModel(honest)
    model.no_speech, model.log_prob = {1: 0.9}, -1.5
    (found,) = run(model, [piece(1)], tmp_path)
    assert (found.null_cause, found.detail) == (NullCause.EMPTY, "no speech (probability 0.90)")
    model.log_prob = -0.5
    assert run(model, [piece(1)], tmp_path)[0].text == "one."


@pytest.mark.parametrize(("second", "text"), [(-0.7, "one."), (-1.5, "")])
def test_a_hopeless_text_over_speech_is_tried_once_more_with_more_beams(
    tmp_path: Path, second: float, text: str
) -> None:
    model = FakeModel(honest)
    model.log_prob, model.log_prob_of_more_beams = -4.0, second
    (found,) = run(model, [piece(1)], tmp_path)
    assert (found.text, found.facts, model.beams) == (text, {"again": 1}, [1, guards.WIDER_BEAM])


def test_a_hopeless_text_over_what_is_no_speech_is_not_tried_again(tmp_path: Path) -> None:
    model = FakeModel(honest)
    model.no_speech, model.log_prob = {1: 0.9}, -4.0
    assert run(model, [piece(1)], tmp_path)[0].text == ""
    assert model.beams == [1]


def test_a_text_of_punctuation_alone_is_none(tmp_path: Path) -> None:
    (found,) = run(FakeModel(lambda _, pieces: [(pieces[0], ".")]), [piece(1)], tmp_path)
    assert found.null_cause is NullCause.EMPTY


def test_words_are_left_out_where_they_are_not_wanted_and_not_needed(tmp_path: Path) -> None:
    model = FakeModel(honest)
    bare = Asked("en", False, (), False)
    (found,) = run(model, [piece(1)], tmp_path, bare)
    assert (found.text, found.words) == ("one.", ())
    assert found.confidence == pytest.approx(0.8187, abs=1e-3)
    together = run(model, [piece(1), piece(2)], tmp_path, bare)
    assert [one.text for one in together] == ["one.", "two two."]


def test_a_piece_that_is_longer_than_any_window_is_one_transcript(tmp_path: Path) -> None:
    model = FakeModel(lambda _, pieces: [(pieces[0], "one two")])
    (found,) = run(model, [piece(1, 70.0)], tmp_path)
    assert found.text == " ".join(["one two"] * len(model.windows))
    starts = [word.start_s for word in found.words]
    assert starts == sorted(starts)
    assert starts[-1] > 45


def test_the_language_is_found_where_none_is_named(tmp_path: Path) -> None:
    model = FakeModel(honest, multilingual=True)
    model.languages = {(1,): ("de", 0.5), (2,): ("en", 0.9)}
    detect = Asked(None, False, (), True)
    found = run(model, [piece(1, group=""), piece(2, group="")], tmp_path, detect)
    assert [(one.text, one.language) for one in found] == [("one.", "de"), ("two two.", "en")]
    assert len({tuple(prompt) for prompt in model.prompts}) == 2


def test_pieces_whose_common_language_is_unclear_are_asked_alone(tmp_path: Path) -> None:
    model = FakeModel(honest, multilingual=True)
    model.languages = {(1, 2): ("en", 0.5), (1,): ("de", 0.9), (2,): ("en", 0.9)}
    found = run(model, [piece(1), piece(2)], tmp_path, Asked(None, False, (), True))
    assert [one.language for one in found] == ["de", "en"]


def test_translations_share_no_window(tmp_path: Path) -> None:
    model = FakeModel(honest, multilingual=True)
    run(model, [piece(1), piece(2)], tmp_path, Asked("de", True, (), True))
    assert [pieces for _, pieces in model.windows] == [[1], [2]]


def test_silence_is_not_even_decoded(tmp_path: Path) -> None:
    model = FakeModel(honest)
    silent = piece(1)
    silent.samples[:] = 0
    found = run(model, [silent, piece(2)], tmp_path)
    assert (found[0].null_cause, found[0].detail) == (NullCause.EMPTY, "silence")
    assert found[1].text == "two two."
