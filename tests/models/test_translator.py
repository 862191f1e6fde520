"""Translation models of the real classes, tiny and random: what they say is what `generate` says."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import sentences
from tiny_marian import loud, make_marian
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    MarianMTModel,
    MarianTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from langadapt.errors import DataError, ModelError
from langadapt.models import resolve_model
from langadapt.models.translator import load_translator, named_model
from langadapt.recipes import ModelRef

TEXTS = [target for _, target in sentences()[::20]] + ["gato", "casa rojo en mar en mar en parque"]


def source(folder: Path) -> Any:
    return resolve_model(ModelRef(repo=str(folder)))


def test_greedy_marian_is_generate_text_by_text(marian_folder: Path) -> None:
    model = MarianMTModel.from_pretrained(marian_folder).eval()
    tokenizer = MarianTokenizer.from_pretrained(marian_folder)
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            made = model.generate(
                **tokenizer([text], return_tensors="pt"), num_beams=1, do_sample=False, max_new_tokens=128
            )
        expected.append(" ".join(tokenizer.decode(made[0], skip_special_tokens=True).split()))
    assert len(set(expected)) > 3, "the model tells texts apart"
    assert load_translator(source(marian_folder)).translate(TEXTS) == expected
    assert load_translator(source(marian_folder)).translate(TEXTS, batch_tokens=1) == expected
    assert load_translator(source(marian_folder), beams=3).translate(TEXTS) != expected


def test_a_marian_of_many_languages_is_told_which(tmp_path: Path) -> None:
    folder = make_marian(tmp_path, languages=("swh", "yor"))
    for code in ("swh", "yor"):
        assert load_translator(source(folder), target_code=code).prefix == f">>{code}<< "
    with pytest.raises(ModelError, match="does not know the language 'swa'; near: swh"):
        load_translator(source(folder), target_code="swa")


def test_the_target_language_of_madlad_stands_before_the_text(tmp_path: Path) -> None:
    words = ["<pad>", "</s>", "<unk>", "<2sw>", "<2de>", *{w for text in TEXTS for w in text.split()}]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    fast.save_pretrained(tmp_path)
    shape = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = T5Config(
        vocab_size=len(words), **shape, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0
    )
    model = loud(T5ForConditionalGeneration(config)).eval()
    model.save_pretrained(tmp_path)
    found = {
        code: load_translator(source(tmp_path), target_code=code).translate(TEXTS) for code in ("sw", "de")
    }
    for code, said in found.items():
        for text, translation in zip(TEXTS, said, strict=True):
            given = fast([f"<2{code}> {text}"], return_tensors="pt")
            with torch.no_grad():
                made = model.generate(
                    input_ids=given["input_ids"], num_beams=1, do_sample=False, max_new_tokens=128
                )
            assert translation == " ".join(fast.decode(made[0], skip_special_tokens=True).split())
    assert found["sw"] != found["de"]


def test_what_cannot_be_is_one_line(marian_folder: Path, text_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="is no translation model that is known here"):
        load_translator(source(text_model_folder))
    with pytest.raises(ModelError, match="translates one pair of languages"):
        load_translator(source(marian_folder), target_code="swh")
    with pytest.raises(DataError, match="text 1 is empty"):
        load_translator(source(marian_folder)).translate(["gato", " "])
    with pytest.raises(ModelError, match="a full commit hash of 40 hex digits, got 'main'"):
        named_model("facebook/nllb-200-distilled-600M@main")
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert named_model(f"a/b@{commit}") == ModelRef(repo="a/b", revision=commit)
    assert named_model("./a@b") == ModelRef(repo="./a@b")
