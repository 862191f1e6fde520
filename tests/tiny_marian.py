"""A MarianMTModel with random weights and a tokenizer that knows the tiny language."""

import json
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from tiny_language import sentences
from transformers import MarianConfig, MarianMTModel, MarianTokenizer


def loud(model: Any) -> Any:
    """Weights of natural size, so that other texts get other translations."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.5, generator=generator)
    return model


def make_marian(folder: Path, *, languages: tuple[str, ...]) -> Path:
    (folder / "lines.txt").write_text("\n".join(f"{a}\n{b}" for a, b in sentences()), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "lines.txt"), model_prefix=str(folder / "source"), vocab_size=48, minloglevel=2
    )
    (folder / "target.spm").write_bytes((folder / "source.model").read_bytes())
    (folder / "source.model").rename(folder / "source.spm")
    pieces = [line.split("\t")[0] for line in (folder / "source.vocab").read_text("utf-8").splitlines()]
    words = ["</s>", "<unk>", *(f">>{code}<<" for code in languages), *pieces[3:], "<pad>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = MarianTokenizer(
        source_spm=str(folder / "source.spm"),
        target_spm=str(folder / "target.spm"),
        vocab=str(folder / "vocab.json"),
    )
    pad = vocabulary["<pad>"]
    config = MarianConfig(
        vocab_size=len(words),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=160,
        eos_token_id=0,
        pad_token_id=pad,
        decoder_start_token_id=pad,
        forced_eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loud(MarianMTModel(config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
