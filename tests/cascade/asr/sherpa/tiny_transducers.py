"""Tiny models in the formats of sherpa-onnx whose text is known: they say when a sound begins and when it ends.

Of each frame they know whether it is loud. At the beginning of a sound they say the piece that begins a word, at its
end the piece that ends it. So a recording of three sounds is three words, whose first and last tokens lie at the
beginnings and ends of the sounds.
"""

from pathlib import Path

from tests.cascade.asr.sherpa.onnx_files import Graph, Value

BEGIN, OTHER, END = "\u2581BEEP", "\u2581PEEP", "S"
"""Pieces: two that begin a word, of which the first is a little more probable, and one that ends it."""

LETTERS = ("\u2581", "B", "E", "P")
LOUD, STEEPNESS = -9.0, 10.0
"""Mean logarithmic mel energy that counts as loud, and how sharply."""

BLANK, SURE, LITTLE = 0.0, 6.0, 0.5


def _tokens(path: Path, pieces: list[str]) -> Path:
    path.write_text("".join(f"{piece} {number}\n" for number, piece in enumerate(pieces)), encoding="utf-8")
    return path


def _loudness(graph: Graph, features: str, axis: int, threshold: float = LOUD) -> str:
    """Return the loudness, between -1 and 1, of features whose mel bins are `axis`, which keeps one place."""
    mean = graph.node("ReduceMean", features, axes=[axis], keepdims=1)
    above = graph.node("Sub", mean, graph.const(threshold))
    return graph.node("Tanh", graph.node("Mul", above, graph.const(STEEPNESS)))


def _rows(pieces: list[str], outside: float) -> tuple[list[float], list[float], list[float]]:
    """Return for each piece the weight of the loudness, that of being within a sound, and the bias."""
    known = {
        BEGIN: (SURE, -2 * SURE, 0.0),
        OTHER: (SURE, -2 * SURE, -LITTLE),
        END: (-SURE, 2 * SURE, -2 * SURE),
        "<blk>": (0.0, 0.0, BLANK),
    }
    rows = [known.get(piece, (0.0, 0.0, outside)) for piece in pieces]
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def streaming(folder: Path, **changed: str) -> dict[str, Path]:
    """Return the files of a streaming Zipformer: chunks of 320 ms, a token at most every 40 ms."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["<blk>", "<sos/eos>", "<unk>", BEGIN, OTHER, END, *LETTERS]
    count = len(pieces)
    graph = Graph()
    states = [
        Value("cached_key_0", "float", (4, "N", 4)),
        Value("cached_nonlin_attn_0", "float", (1, "N", 4, 6)),
        Value("cached_val1_0", "float", (4, "N", 4)),
        Value("cached_val2_0", "float", (4, "N", 4)),
        Value("cached_conv1_0", "float", ("N", 8, 1)),
        Value("cached_conv2_0", "float", ("N", 8, 1)),
        Value("embed_states", "float", ("N", 128, 3, 19)),
        Value("processed_lens", "int64", ("N",)),
    ]
    frames = graph.node("Slice", "x", *(graph.const([number], "int64") for number in (6, 38, 1, 4)))
    graph.node("Identity", _loudness(graph, frames, 2), to="encoder_out")
    for state in states:
        graph.node("Identity", state.name, to=f"new_{state.name}")
    metadata = {
        "model_type": "zipformer2", "encoder_dims": 8, "query_head_dims": 4, "value_head_dims": 4, "num_heads": 1,
        "num_encoder_layers": 1, "cnn_module_kernels": 3, "left_context_len": 4, "T": 45, "decode_chunk_len": 32,
    }  # fmt: skip
    encoder = graph.save(
        folder / "encoder.int8.onnx",
        [Value("x", "float", ("N", 45, 80)), *states],
        [Value("encoder_out", "float", ("N", 8, 1)), *(Value(f"new_{s.name}", s.kind, s.shape) for s in states)],
        {key: value for key, value in {**metadata, **changed}.items() if value},
    )
    decoder = Graph()
    last = decoder.node("Gather", "y", decoder.const(1, "int64"), axis=1)
    within = [[float(piece in (BEGIN, OTHER))] for piece in pieces]
    decoder.node("Gather", decoder.const(within), last, to="decoder_out", axis=0)
    joiner = Graph()
    loud, inside, bias = _rows(pieces, -20.0)
    both = joiner.node(
        "Add",
        joiner.node("MatMul", "encoder_out", joiner.const([loud])),
        joiner.node("MatMul", "decoder_out", joiner.const([inside])),
    )
    joiner.node("Add", both, joiner.const(bias), to="logit")
    return {
        "encoder": encoder,
        "decoder": decoder.save(
            folder / "decoder.onnx",
            [Value("y", "int64", ("N", 2))],
            [Value("decoder_out", "float", ("N", 1))],
            {"vocab_size": count, "context_size": 2},
        ),
        "joiner": joiner.save(
            folder / "joiner.int8.onnx",
            [Value("encoder_out", "float", ("N", 1)), Value("decoder_out", "float", ("N", 1))],
            [Value("logit", "float", ("N", count))],
            {"joiner_dim": 1},
        ),
        "tokens": _tokens(folder / "tokens.txt", pieces),
    }


def parakeet(folder: Path, **changed: str) -> dict[str, Path]:
    """Return the files of a token-and-duration transducer as NeMo's Parakeet: a frame every 80 ms."""
    folder.mkdir(parents=True, exist_ok=True)
    begin, other = "\u2581Beep", "\u2581Peep"
    pieces = ["<unk>", begin, other, "s", "\u2581", *"bepBP", "<blk>"]
    same = {begin: BEGIN, other: OTHER, "s": END}
    count, durations = len(pieces), 5
    encoder = Graph()
    every = [encoder.const([number], "int64") for number in (0, 2**31, 2, 8)]
    encoder.node("Identity", _loudness(encoder, encoder.node("Slice", "audio_signal", *every), 1), to="outputs")
    up = encoder.node("Add", "length", encoder.const(7, "int64"))
    encoder.node("Div", up, encoder.const(8, "int64"), to="encoded_lengths")
    metadata = {
        "model_type": "EncDecRNNTBPEModel", "vocab_size": count - 1, "normalize_type": "NA", "pred_rnn_layers": 1,
        "pred_hidden": 2, "subsampling_factor": 8, "feat_dim": 128,
        "url": "https://huggingface.co/nvidia/parakeet-tdt-0.6b-v3",
    }  # fmt: skip
    decoder = Graph()
    within = [[float(piece in (begin, other))] for piece in pieces]
    found = decoder.node("Gather", decoder.const(within), "targets", axis=0)
    decoder.node("Transpose", found, to="outputs", perm=[0, 2, 1])
    for name in ("prednet_lengths", "states", "cells"):
        decoder.node("Identity", {"prednet_lengths": "target_length"}.get(name, f"{name}.1"), to=name)
    joiner = Graph()
    loud, inside, bias = _rows([same.get(piece, piece) for piece in pieces], -20.0)
    zeros = [0.0] * durations
    both = joiner.node(
        "Add",
        joiner.node(
            "MatMul", joiner.node("Transpose", "encoder_outputs", perm=[0, 2, 1]), joiner.const([loud + zeros])
        ),
        joiner.node(
            "MatMul", joiner.node("Transpose", "decoder_outputs", perm=[0, 2, 1]), joiner.const([inside + zeros])
        ),
    )
    both = joiner.node("Add", both, joiner.const([*bias, 0.0, 9.0, 0.0, 0.0, 0.0]))
    joiner.node("Unsqueeze", both, joiner.const([1], "int64"), to="outputs")
    state = ("states", "cells")
    return {
        "encoder": encoder.save(
            folder / "encoder.int8.onnx",
            [Value("audio_signal", "float", ("N", 128, "T")), Value("length", "int64", ("N",))],
            [Value("outputs", "float", ("N", 1, "U")), Value("encoded_lengths", "int64", ("N",))],
            {key: value for key, value in {**metadata, **changed}.items() if value},
        ),
        "decoder": decoder.save(
            folder / "decoder.int8.onnx",
            [
                Value("targets", "int32", ("N", "U")),
                Value("target_length", "int32", ("N",)),
                *(Value(f"{name}.1", "float", (1, "N", 2)) for name in state),
            ],
            [
                Value("outputs", "float", ("N", 1, "U")),
                Value("prednet_lengths", "int32", ("N",)),
                *(Value(name, "float", (1, "N", 2)) for name in state),
            ],
            {},
        ),
        "joiner": joiner.save(
            folder / "joiner.int8.onnx",
            [Value("encoder_outputs", "float", ("N", 1, "T")), Value("decoder_outputs", "float", ("N", 1, "U"))],
            [Value("outputs", "float", ("N", 1, "U", count + durations))],
            {},
        ),
        "tokens": _tokens(folder / "tokens.txt", pieces),
    }


LANGUAGES = ("auto", "zh", "en", "ja", "ko", "yue")


def sense_voice(folder: Path, **changed: str) -> dict[str, Path]:
    """Return the files of a SenseVoice: every 60 ms one of its symbols, after tags for language, emotion and event.

    The tag of the language is that which was asked for; for `auto` it is Chinese.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tags = ["<|zh|>", *(f"<|{name}|>" for name in LANGUAGES[1:]), "<|NEUTRAL|>", "<|Speech|>", "<|woitn|>"]
    pieces = ["<unk>", "<s>", "</s>", "\u2581beep", *tags[1:]]
    count = len(pieces)
    graph = Graph()
    loud = _loudness(graph, "x", 2, 5.0)
    # A frame: loud is the word, not loud is the blank.
    weights, bias = [0.0] * count, [-20.0] * count
    bias[0], weights[3], bias[3] = 0.0, 6.0, 0.0
    spoken = graph.node("Add", graph.node("MatMul", loud, graph.const([weights])), graph.const(bias))
    numbers = {name: pieces.index(f"<|{'zh' if name == 'auto' else name}|>") for name in LANGUAGES}
    rows = [[9.0 * (place == numbers[name]) for place in range(count)] for name in LANGUAGES]
    first = graph.node("Gather", graph.const(rows), "language", axis=0)  # (N, V)
    first = graph.node("Unsqueeze", first, graph.const([1], "int64"))
    rest = [[[9.0 * (place == pieces.index(tag)) for place in range(count)] for tag in tags[-3:]]]
    graph.node("Concat", first, graph.const(rest), spoken, to="logits", axis=1)
    metadata = {
        "model_type": "sense_voice_ctc", "vocab_size": count, "lfr_window_size": 7, "lfr_window_shift": 6,
        "normalize_samples": 0, "with_itn": 14, "without_itn": 15, "version": 1, "comment": "tiny",
        **{f"lang_{name}": number for number, name in enumerate(LANGUAGES)},
        "neg_mean": ",".join(["0"] * 560), "inv_stddev": ",".join(["1"] * 560),
    }  # fmt: skip
    return {
        "model": graph.save(
            folder / "model.int8.onnx",
            [
                Value("x", "float", ("N", "T", 560)),
                Value("x_length", "int32", ("N",)),
                Value("language", "int32", ("N",)),
                Value("text_norm", "int32", ("N",)),
            ],
            [Value("logits", "float", ("N", "U", count))],
            {key: value for key, value in {**metadata, **changed}.items() if value != ""},
        ),
        "tokens": _tokens(folder / "tokens.txt", pieces),
    }
