"""torchaudio's pretrained CTC recognizers, by the name of their bundle in `torchaudio.pipelines`.

wav2vec 2.0 (Baevski et al., 2020), HuBERT (Hsu et al., 2021), VoxPopuli (Wang et al., 2021). The weights are files of
the card (`speechpipe models pull`); torchaudio's own downloader is not used.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from speechpipe.cascade.asr import BufferedStream, DecodeOptions, transcript_of
from speechpipe.cascade.asr.acoustic.lattice import Spelled, best_path
from speechpipe.cascade.asr.torchaudio_import import torchaudio
from speechpipe.errors import BadInput
from speechpipe.types import SAMPLE_RATE_HZ, NullCause, Samples, Transcript, Word

FRAME_SAMPLES = 320
"""Samples per frame of the output of all these models (20 ms)."""

LEAST_SAMPLES = 400
"""Least samples for one frame."""

SPACE = "|"

pipelines = torchaudio.pipelines


class Wav2Vec2Recognizer:
    """Files: `weights` (a state dict) and, for a model that is not a torchaudio bundle, `config`.

    `config` is JSON with `params` of `torchaudio.models.wav2vec2_model`, `labels` without the blank, and `normalize`.
    """

    def __init__(self, files: Mapping[str, Path], bundle: str = "", device: str = "auto", threads: int = 1) -> None:
        """Load the model.

        Raises:
            BadInput: torchaudio has no such bundle, or the weights do not fit the model.
            OSError: a file is missing.
        """
        torch.set_num_threads(int(threads))
        self._device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        config = _of_file(files["config"]) if "config" in files else _of_bundle(str(bundle))
        if any(len(label) != 1 for label in config["labels"]):
            raise BadInput("a label of this model has more than one letter, which is not supported")
        self._alphabet = "".join(config["labels"])
        self._normalise = bool(config["normalize"])
        model = torchaudio.models.wav2vec2_model(**config["params"])
        try:
            state = torch.load(files["weights"], map_location="cpu", weights_only=True)  # executes no pickled code
            for name in ("aux.weight", "aux.bias"):
                # fairseq's dictionaries have entries that never occur in texts
                kept = [row for number, row in enumerate(state[name]) if number not in config["unused"]]
                state[name] = torch.stack(kept)
            model.load_state_dict(state)
        except (RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
            message = f"{files['weights']} are not the weights of this model: {str(error).splitlines()[0]}"
            raise BadInput(message, cause="weights_broken") from error
        self._model = model.to(self._device).eval()

    def open(self, options: DecodeOptions) -> "Wav2Vec2Stream":
        """Begin a segment."""
        del options
        return Wav2Vec2Stream(self)

    @torch.inference_mode()
    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples: the most probable letter of each frame (greedy decoding)."""
        if len(samples) < LEAST_SAMPLES:
            return Transcript.null(NullCause.EMPTY)
        wave = torch.from_numpy(samples)[None].to(self._device)
        if self._normalise:
            wave = torch.nn.functional.layer_norm(wave, wave.shape)
        logits, _ = self._model(wave)
        log_probs = logits.log_softmax(-1)[0].cpu().numpy()
        length_s = len(samples) / SAMPLE_RATE_HZ
        return transcript_of([_word(found, length_s) for found in best_path(log_probs, self._alphabet, SPACE)])


class Wav2Vec2Stream(BufferedStream):
    """One segment, decoded at once."""

    def __init__(self, recognizer: Wav2Vec2Recognizer) -> None:
        super().__init__()
        self._recognizer = recognizer

    def decode(self, samples: Samples) -> Transcript:
        """Return the transcript of (n,) samples."""
        return self._recognizer.decode(samples)


def _word(found: Spelled, length_s: float) -> Word:
    start_s, end_s = (min(frame * FRAME_SAMPLES / SAMPLE_RATE_HZ, length_s) for frame in (found.start, found.end))
    return Word(found.text.lower(), start_s, end_s, found.confidence)


def _of_bundle(name: str) -> dict[str, Any]:
    bundle: Any = getattr(pipelines, name, None)
    if type(bundle) is not pipelines.Wav2Vec2ASRBundle:  # a subclass is for alignment only
        raise BadInput(f"torchaudio has no CTC recognizer {name!r}")
    return {
        "params": bundle._params,
        "labels": bundle.get_labels()[1:],
        "normalize": bundle._normalize_waveform,
        "unused": bundle._remove_aux_axis,
    }


def _of_file(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {"unused": (), **{name: found[name] for name in ("params", "labels", "normalize")}}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: {error}") from error
