"""Recognizers of the real libraries, tiny and untrained, saved as their publishers save them."""

import json
from pathlib import Path
from typing import Any

import torch

from speechpipe.cascade.asr.torchaudio_import import torchaudio

LETTERS = "|etaonihsrdlu"
W2V = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [
        [16, 10, 5],
        [16, 3, 2],
        [16, 3, 2],
        [16, 3, 2],
        [16, 3, 2],
        [16, 2, 2],
        [16, 2, 2],
    ],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 64,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
    "aux_num_out": len(LETTERS) + 1,
}


def wav2vec2(folder: Path, *, normalize: bool = False) -> dict[str, Path]:
    """Return the files of a wav2vec 2.0."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(3)
    model = torchaudio.models.wav2vec2_model(**W2V)
    torch.nn.init.normal_(model.aux.weight, std=3.0)  # an untrained one says nothing else than its bias
    torch.save(model.state_dict(), folder / "weights.pth")
    config = {"params": W2V, "labels": list(LETTERS), "normalize": normalize}
    (folder / "config.json").write_text(json.dumps(config))
    return {"weights": folder / "weights.pth", "config": folder / "config.json"}


def emformer(folder: Path) -> dict[str, Path]:
    """Return the files of an Emformer RNN-T, with a SentencePiece model made for it."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "texts.txt"
    texts.write_text("\n".join(["one two three four five six seven eight nine zero"] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "tokens"), vocab_size=40, model_type="bpe", minloglevel=2
    )
    blank = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokens.model")).get_piece_size()
    config = {
        "input_dim": 80,
        "encoding_dim": 32,
        "num_symbols": blank + 1,
        "segment_length": 16,
        "right_context_length": 4,
        "time_reduction_input_dim": 16,
        "time_reduction_stride": 4,
        "transformer_num_heads": 2,
        "transformer_ffn_dim": 32,
        "transformer_num_layers": 2,
        "transformer_dropout": 0.0,
        "transformer_activation": "gelu",
        "transformer_left_context_length": 30,
        "transformer_max_memory_size": 0,
        "transformer_weight_init_scale_strategy": "depthwise",
        "transformer_tanh_on_mem": True,
        "symbol_embedding_dim": 16,
        "num_lstm_layers": 1,
        "lstm_layer_norm": True,
        "lstm_layer_norm_epsilon": 1e-3,
        "lstm_dropout": 0.0,
    }
    torch.manual_seed(5)
    model = torchaudio.models.emformer_rnnt_model(**config)
    torch.nn.init.normal_(model.joiner.linear.weight, std=0.5)
    with torch.no_grad():
        model.joiner.linear.bias[blank] += 4.0  # mostly it says nothing, as a trained one
    torch.save(model.state_dict(), folder / "weights.pt")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "stats.json").write_text(json.dumps({"mean": [15.0] * 80, "invstddev": [0.25] * 80}))
    names = {"weights": "weights.pt", "stats": "stats.json", "tokens": "tokens.model", "config": "config.json"}
    return {role: folder / name for role, name in names.items()}


def _bpe(special: list[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(["one two three four five"] * 5, trainer)
    tokenizer.add_special_tokens(special)
    return tokenizer


def whisper(folder: Path) -> dict[str, Path]:
    """Return the files of a Whisper, converted to CTranslate2 as its publisher does."""
    from ctranslate2.converters import TransformersConverter
    from transformers import WhisperConfig, WhisperForConditionalGeneration
    from transformers import WhisperTokenizer as WhisperTokenizerFast

    special = ["<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
    special += ["<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer = _bpe([*special, *(f"<|{number * 0.02:.2f}|>" for number in range(1501))])
    source = folder / "source"
    source.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(source / "tokenizer.json"))
    number = tokenizer.token_to_id
    wrapped = WhisperTokenizerFast(tokenizer_object=tokenizer, unk_token="<|endoftext|>", eos_token="<|endoftext|>")
    wrapped.save_pretrained(source)
    torch.manual_seed(2)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size(),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            max_target_positions=448,
            decoder_start_token_id=number("<|startoftranscript|>"),
            eos_token_id=number("<|endoftext|>"),
            bos_token_id=number("<|endoftext|>"),
            pad_token_id=number("<|endoftext|>"),
            begin_suppress_tokens=[],
            suppress_tokens=[],
            init_std=0.3,  # with less, all tokens are as probable, and rounding decides
        )
    )
    generation: Any = model.generation_config
    generation.update(alignment_heads=[[0, 0]], no_timestamps_token_id=number("<|notimestamps|>"))
    model.save_pretrained(source)
    TransformersConverter(str(source)).convert(str(folder / "model"), force=True)
    (folder / "model" / "tokenizer.json").write_text((source / "tokenizer.json").read_text())
    return {"model": folder / "model" / "model.bin"}


def moonshine(folder: Path) -> dict[str, Path]:
    """Return the files of a Moonshine."""
    from transformers import MoonshineConfig, MoonshineForConditionalGeneration, PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _bpe(["<s>", "</s>"])
    number = tokenizer.token_to_id
    made: Any = PreTrainedTokenizerFast
    wrapped = made(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    wrapped.save_pretrained(folder)
    torch.manual_seed(4)
    model = MoonshineForConditionalGeneration(
        MoonshineConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            intermediate_size=64,
            encoder_num_hidden_layers=1,
            decoder_num_hidden_layers=1,
            encoder_num_attention_heads=2,
            decoder_num_attention_heads=2,
            bos_token_id=number("<s>"),
            eos_token_id=number("</s>"),
            decoder_start_token_id=number("<s>"),
            pad_token_id=number("</s>"),
        )
    )
    model.save_pretrained(folder)
    return {"model": folder / "model.safetensors"}
