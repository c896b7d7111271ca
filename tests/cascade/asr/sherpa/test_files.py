"""Files that are not those of a model are refused in words: the library would end the process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from speechpipe.cascade.asr import Recognizer, load_recognizer
from speechpipe.cascade.asr.sherpa.onnx_metadata import read_metadata
from speechpipe.cascade.asr.sherpa.vocabulary import Vocabulary
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.types import ModelFile, Scalar
from tests.cascade.asr.sherpa import tiny_transducers

MAKE: dict[str, Callable[..., dict[str, Path]]] = {
    "sherpa_streaming": tiny_transducers.streaming,
    "sherpa_transducer": tiny_transducers.parakeet,
    "sherpa_sense_voice": tiny_transducers.sense_voice,
}
MODELS = [(name, role) for name in MAKE for role in ("encoder", "decoder", "joiner")[: 1 if "sense" in name else 3]]


def load(name: str, files: dict[str, Path], **options: Scalar) -> Recognizer:
    return load_recognizer(name, [ModelFile(role, path, "") for role, path in files.items()], **options)


def test_metadata_are_read_without_a_library(tmp_path: Path) -> None:
    found = read_metadata(tiny_transducers.streaming(tmp_path)["encoder"])
    assert (found["model_type"], found["T"], found["encoder_dims"]) == ("zipformer2", "45", "8")


@pytest.mark.parametrize(("name", "role"), MODELS)
@pytest.mark.parametrize("content", [b"", b"<!DOCTYPE html>", b"version https://git-lfs", bytes(100), None], ids=str)
def test_what_is_not_a_model_is_refused(tmp_path: Path, name: str, role: str, content: bytes | None) -> None:
    files = MAKE[name](tmp_path)
    role = role if role in files else "model"
    whole = files[role].read_bytes()
    files[role].write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(BadInput, match=f"{files[role].name} is not an ONNX model") as refused:
        load(name, files)
    assert refused.value.cause == "weights_broken"


@pytest.mark.parametrize(
    ("name", "key", "value", "said"),
    [
        ("sherpa_streaming", "model_type", "", "not a streaming Zipformer: its model_type is ''"),
        ("sherpa_streaming", "model_type", "EncDecRNNTBPEModel", "not a streaming Zipformer"),
        ("sherpa_streaming", "T", "", "no T in its metadata"),
        ("sherpa_streaming", "num_heads", "four", "num_heads is 'four' in its metadata"),
        ("sherpa_transducer", "vocab_size", "", "no vocab_size in its metadata"),
        ("sherpa_transducer", "vocab_size", "500", "tokens.txt has 11 tokens, .*; the model has 501"),
        ("sherpa_transducer", "pred_hidden", "-1", "pred_hidden is '-1' in its metadata"),
        ("sherpa_sense_voice", "lang_yue", "", "no lang_yue in its metadata"),
        ("sherpa_sense_voice", "vocab_size", "25055", "tokens.txt has .* tokens, the model 25055"),
    ],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, name: str, key: str, value: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load(name, MAKE[name](tmp_path, **{key: value}))


@pytest.mark.parametrize("name", MAKE)
def test_missing_files_and_wrong_tokens_are_refused(tmp_path: Path, name: str) -> None:
    files = MAKE[name](tmp_path)
    with pytest.raises(BadInput, match="the card has no file with the role tokens"):
        load(name, {role: path for role, path in files.items() if role != "tokens"})
    files["tokens"].write_text("one\ntwo\n")
    with pytest.raises(BadInput, match=r"tokens.txt is not a list of tokens: 'one'"):
        load(name, files)
    files["tokens"].write_text("one 1\ntwo 2\n")
    with pytest.raises(BadInput, match="numbers are missing"):
        load(name, files)
    files["tokens"].write_text("one 0\ntwo 1\n")
    with pytest.raises(BadInput, match=r"tokens.txt has 2 tokens"):
        load(name, files)
    files["tokens"].unlink()
    with pytest.raises(FileNotFoundError, match=r"tokens.txt"):
        load(name, files)


@pytest.mark.parametrize("name", MAKE)
def test_a_model_whose_weights_are_garbage_is_refused(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    files = MAKE[name](tmp_path)
    model = files.get("encoder", files.get("model", tmp_path))
    data = model.read_bytes()
    model.write_bytes(data.replace(b"ReduceMean", b"ReduceXean"))
    with pytest.raises(BadInput, match="sherpa-onnx does not take the files: ") as refused:
        load(name, files)
    assert refused.value.cause == "weights_broken"
    assert capfd.readouterr() == ("", "")


def test_a_language_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidParameter, match=r"asr.language must be one of auto, zh, en, ja, ko, yue, not 'de'"):
        load("sherpa_sense_voice", tiny_transducers.sense_voice(tmp_path), language="de")


def test_hotwords_are_written_as_the_model_writes() -> None:
    capitals = Vocabulary(("<blk>", "<unk>", "\u2581THE", "\u2581", *"ABCE'", ":", "/"))
    assert capitals.capital
    assert capitals.unit == "bpe"
    assert (
        capitals.hotwords(["abba cab", " Ace's ", "ACE", "ace", "caf\u00e9", "", ":c", "a/b", "c:"])
        == "ABBA CAB/ACE/C:"
    )
    assert capitals.ranks().splitlines()[:4] == ["<blk>\t0", "<unk>\t0", "\u2581THE\t0", "\u2581\t-1"]
    mixed = Vocabulary(("<unk>", "\u2581the", *"abcA", "<blk>"))
    assert not mixed.capital
    assert mixed.hotwords(["Abc", "ABC"]) == "Abc"
    characters = Vocabulary(("<blk>", *"\u5f00\u996d"))
    assert (characters.unit, characters.capital) == ("cjkchar", False)
    assert characters.hotwords(["\u5f00\u996d"]) == "\u5f00\u996d"
    assert Vocabulary(("<blk>", "\u2581the", "\u5f00")).unit == "cjkchar+bpe"


def test_the_server_s_process_can_have_both_libraries_that_carry_onnxruntime() -> None:
    """Each brings its own; a process that loads both, in either order, uses both."""
    for order in ("import onnxruntime, sherpa_onnx", "import sherpa_onnx, onnxruntime"):
        code = f"{order}; print(onnxruntime.get_available_providers()[-1], sherpa_onnx.OnlineRecognizer.__name__)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("CPUExecutionProvider OnlineRecognizer\n", "")
