"""torchaudio's recognizers: what they say is what the library's own decoding says, and cards say what bundles say."""

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from speechpipe.cascade.asr import DecodeOptions
from speechpipe.cascade.asr.emformer import AHEAD_FRAMES, HOP, SEGMENT_FRAMES, EmformerRecognizer
from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.cascade.asr.wav2vec2 import Wav2Vec2Recognizer
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.errors import BadInput
from tests.cascade.asr import tiny_models
from tests.sounds import sample

pipelines = torchaudio.pipelines


@pytest.mark.parametrize("normalize", [False, True])
def test_wav2vec2_says_what_a_greedy_decode_says(tmp_path: Path, normalize: bool) -> None:
    files = tiny_models.wav2vec2(tmp_path, normalize=normalize)
    config = json.loads(files["config"].read_text())
    model = torchaudio.models.wav2vec2_model(**config["params"]).eval()
    model.load_state_dict(torch.load(files["weights"], weights_only=True))
    recognizer = Wav2Vec2Recognizer(files)
    labels = ["-", *config["labels"]]
    for name in ("digits", "sentence_slt", "noise"):
        wave = torch.from_numpy(sample(name))[None]
        if normalize:
            wave = torch.nn.functional.layer_norm(wave, wave.shape)
        with torch.inference_mode():
            emission, _ = model(wave)
        # The decoder of torchaudio's tutorial on speech recognition with wav2vec 2.0.
        indices = torch.unique_consecutive(emission[0].argmax(dim=-1), dim=-1)
        text = "".join(labels[index] for index in indices if index != 0).replace("|", " ").lower()
        stream = recognizer.open(DecodeOptions(offline=True))
        stream.feed(sample(name))
        assert stream.finish().text == " ".join(text.split())


def test_emformer_says_what_the_library_s_streaming_loop_says(tmp_path: Path) -> None:
    files = tiny_models.emformer(tmp_path)
    recognizer = EmformerRecognizer(files, beam=2)
    model = torchaudio.models.emformer_rnnt_model(**json.loads(files["config"].read_text())).eval()
    model.load_state_dict(torch.load(files["weights"], weights_only=True))
    search = torchaudio.models.RNNTBeamSearch(model, recognizer.blank, step_max_tokens=10)
    speech = sample("digits")
    # The loop of the documentation of `torchaudio.pipelines.RNNTBundle`.
    step, heard = SEGMENT_FRAMES * HOP, (SEGMENT_FRAMES + AHEAD_FRAMES) * HOP
    state: Any = None
    hypothesis: Any = None
    for at in range(0, len(speech), step):
        segment = np.pad(speech[at : at + heard], (0, max(0, heard - len(speech[at : at + heard]))))
        with torch.inference_mode():
            features = recognizer.features(segment)[: SEGMENT_FRAMES + AHEAD_FRAMES]
            length = torch.tensor([len(features)])
            hypothesis, state = search.infer(features, length, 2, state=state, hypothesis=hypothesis)
    spm = recognizer.tokens
    pieces = [spm.id_to_piece(token) for token in hypothesis[0][0][1:] if token > 2]
    expected = "".join(pieces).replace("\u2581", " ").lower().split()
    stream = recognizer.open(DecodeOptions())
    for at in range(0, len(speech), 1111):
        stream.feed(speech[at : at + 1111])
        stream.partial()
    assert stream.finish().text.split() == expected
    assert expected, "the tiny model says something"


def test_emformer_features_are_the_library_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tiny_models.emformer(tmp_path)
    bundle = pipelines.EMFORMER_RNNT_BASE_LIBRISPEECH
    asset = tmp_path / "hub" / "torchaudio" / "pipeline-assets" / "global_stats_rnnt_librispeech.json"
    asset.parent.mkdir(parents=True)
    shutil.copy(files["stats"], asset)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "urlopen", None)  # nothing is downloaded
    expected, _ = bundle.get_streaming_feature_extractor()(torch.from_numpy(sample("digits")))
    found = EmformerRecognizer(files).features(sample("digits"))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert (bundle.segment_length, bundle.right_context_length) == (SEGMENT_FRAMES, AHEAD_FRAMES)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    files = tiny_models.wav2vec2(tmp_path / "w")
    other = tiny_models.emformer(tmp_path / "e")
    with pytest.raises(BadInput, match="not the weights"):
        Wav2Vec2Recognizer(files | {"weights": other["weights"]})
    files["weights"].write_bytes(files["weights"].read_bytes()[:999])
    with pytest.raises(BadInput, match="not the weights"):
        Wav2Vec2Recognizer(files)
    with pytest.raises(BadInput, match="not those of an Emformer"):
        EmformerRecognizer(other | {"stats": other["config"]})
    with pytest.raises(BadInput, match="NO_SUCH"):
        Wav2Vec2Recognizer({"weights": files["weights"]}, bundle="NO_SUCH")


def _bundles() -> dict[str, Any]:
    found = {name: getattr(pipelines, name) for name in dir(pipelines)}
    return {name: bundle for name, bundle in found.items() if type(bundle) is pipelines.Wav2Vec2ASRBundle}


def test_every_bundle_of_torchaudio_has_a_card_that_names_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: Any) -> None:
        raise ConnectionRefusedError(request.full_url)

    def url_of(load: Callable[[], object]) -> str:
        """Return what the library downloads to load a part of a bundle."""
        with torch.device("meta"), pytest.raises(ConnectionRefusedError) as refused:  # the model takes no memory
            load()
        return str(refused.value)

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "urlopen", refuse)

    cards = [tomllib.loads(path.read_text()) for path in (shipped_models() / "asr").glob("*.toml")]
    mine = {card["options"]["bundle"]["default"]: card for card in cards if card["implementation"] == "wav2vec2"}
    assert mine.keys() == _bundles().keys()
    for name, bundle in _bundles().items():
        (file,) = mine[name]["files"]
        assert file["url"] == url_of(bundle.get_model)
        assert file["url"].endswith(f"/{file['path']}")
    streaming = pipelines.EMFORMER_RNNT_BASE_LIBRISPEECH
    (card,) = [card for card in cards if card["implementation"] == "emformer"]
    assert {file["role"]: file["url"] for file in card["files"]} == {
        "weights": url_of(streaming.get_decoder),
        "stats": url_of(streaming.get_streaming_feature_extractor),
        "tokens": url_of(streaming.get_token_processor),
    }
