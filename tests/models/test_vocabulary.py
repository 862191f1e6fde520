"""New pieces join a tokenizer without touching what it said before."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_language import sentences
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import (
    AutoTokenizer,
    M2M100Config,
    M2M100ForConditionalGeneration,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from langadapt.data.tokens import TextBatch
from langadapt.errors import DataError, ModelError
from langadapt.models import TextModel, load_text_model, resolve_model
from langadapt.models.new_pieces import extend_text_model, learn_vocabulary, new_rows
from langadapt.models.vocabulary import Vocabulary
from langadapt.nn.peft_modules import ExtendedEmbedding
from langadapt.recipes import ModelRef, TextModelRef

ENGLISH = [english for english, _ in sentences()]
SPANISH = [target for _, target in sentences()]
GEORGIAN = {letter: chr(0x10D0 + i) for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz")}
UNSEEN = ["".join(GEORGIAN.get(letter, letter) for letter in text) for text in SPANISH]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]


def tokenizer(kind: str) -> Tokenizer:
    """Learnt on the English sentences; each letter of the alphabet is known but no Georgian one."""
    known = [*ENGLISH, *"abcdefghijklmnopqrstuvwxyz", "aabcdefghijklmnopqrstuvwxyz"]
    if kind == "BPE":
        made, trainer = Tokenizer(models.BPE(unk_token="<unk>")), trainers.BpeTrainer
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    elif kind == "bytes":
        made, trainer = Tokenizer(models.BPE(unk_token="<unk>")), trainers.BpeTrainer
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif kind == "Unigram":
        made, trainer = Tokenizer(models.Unigram()), trainers.UnigramTrainer
        made.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        made, trainer = Tokenizer(models.WordPiece(unk_token="<unk>")), trainers.WordPieceTrainer
        made.normalizer = normalizers.BertNormalizer()
        made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    options = {"unk_token": "<unk>"} if kind == "Unigram" else {}
    if kind == "bytes":
        options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
    size = 330 if kind == "bytes" else 90
    made.train_from_iterator(
        known, trainer(vocab_size=size, special_tokens=SPECIALS, show_progress=False, **options)
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return made


def save(folder: Path, kind: str) -> Path:
    made = tokenizer(kind)
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, model_max_length=64, **names)
    fast.add_special_tokens({"mask_token": "<mask>"})  # beside the tokenizer's model, as many have some
    fast.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = XLMRobertaConfig(
            vocab_size=made.get_vocab_size() + 5,  # rows that no piece uses, as many models have
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=66,
        )
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    kinds = ("BPE", "bytes", "Unigram", "WordPiece")
    return {kind: save(tmp_path_factory.mktemp(kind), kind) for kind in kinds}


def load(folder: Path) -> TextModel:
    ref = TextModelRef(repo=str(folder))
    return load_text_model(resolve_model(ModelRef(repo=str(folder))), ref, max_tokens=64)


def ids(model: TextModel, texts: Iterable[str]) -> list[list[int]]:
    tokens = model.tokenize(list(texts))
    return [row.tolist() for row in np.split(tokens.ids, tokens.offsets[1:-1])]


def flat(rows: list[list[int]]) -> set[int]:
    return {i for row in rows for i in row}


@pytest.mark.parametrize("kind", ["BPE", "bytes", "Unigram", "WordPiece"])
@pytest.mark.parametrize("target", [UNSEEN, SPANISH], ids=["unseen script", "known letters"])
def test_the_language_gets_pieces_and_english_keeps_its_own(
    folders: dict[str, Path], kind: str, target: list[str]
) -> None:
    model = load(folders[kind])
    old = dict(model.tokenizer.get_vocab())
    english, before = ids(model, ENGLISH), ids(model, target)
    unknown = model.tokenizer.unk_token_id
    assert (unknown in flat(before)) == (target is UNSEEN and kind != "bytes")
    first = model.encoder.get_input_embeddings().num_embeddings
    vocabulary = learn_vocabulary(model, target, ENGLISH, pieces=60)
    assert dict(model.tokenizer.get_vocab()) == old, "learning only reads"
    extend_text_model(model, vocabulary, seed=0)

    assert ids(model, ENGLISH) == english
    now = model.tokenizer.get_vocab()
    assert {text: now[text] for text in old} == old
    pieces = [piece.text for piece in vocabulary.pieces]
    assert len(set(pieces)) == len(pieces) <= 60
    assert [now[text] for text in pieces] == list(range(first, first + len(pieces)))
    after = ids(model, target)
    assert unknown not in flat(after)
    assert max(map(max, after)) < first + len(pieces)
    used = {i for row in after for i in row if i >= first}
    assert len(used) > 10
    if target is SPANISH or kind == "bytes":  # the same letters in fewer tokens
        assert sum(map(len, after)) < 0.8 * sum(map(len, before))
    # Every token still says which letters it stands for: the tokens of a text spell it.
    if kind in ("BPE", "Unigram"):
        for text, row in zip(target, after, strict=True):
            said = "".join(model.tokenizer.convert_ids_to_tokens(row[1:-1]))
            assert said == "▁" + text.replace(" ", "▁")


@pytest.mark.parametrize("kind", ["BPE", "bytes", "Unigram", "WordPiece"])
def test_a_tokenizer_with_new_pieces_is_read_as_it_was_written(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    model = load(folders[kind])
    extend_text_model(model, learn_vocabulary(model, UNSEEN, ENGLISH, pieces=60), seed=0)
    model.tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    texts = [*UNSEEN, *ENGLISH, f"{ENGLISH[0]}<mask>{UNSEEN[0]}", "<mask>"]
    assert again(texts)["input_ids"] == model.tokenizer(texts)["input_ids"]
    assert again.get_vocab()["<mask>"] == tokenizer(kind).get_vocab_size()


def test_letters_come_first_when_there_is_room_for_few(folders: dict[str, Path]) -> None:
    counts: dict[str, int] = {}
    for text in UNSEEN:
        for letter in text.replace(" ", ""):
            counts[letter] = counts.get(letter, 0) + 1
    vocabulary = learn_vocabulary(load(folders["BPE"]), UNSEEN, ENGLISH, pieces=4)
    chosen = [piece.text for piece in vocabulary.pieces]
    assert sorted(counts[letter] for letter in chosen) == sorted(counts.values())[-4:]


def test_nothing_to_learn_is_one_line(folders: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="hold no piece that its tokenizer lacks"):
        learn_vocabulary(load(folders["BPE"]), ENGLISH, ENGLISH, pieces=50)


def test_a_tokenizer_of_words_is_refused(text_model_folder: Path) -> None:
    with pytest.raises(ModelError, match="a WordLevel tokenizer cannot be extended, only BPE"):
        learn_vocabulary(load(text_model_folder), UNSEEN, ENGLISH, pieces=50)


def test_pieces_of_another_tokenizer_are_refused(folders: dict[str, Path]) -> None:
    vocabulary = learn_vocabulary(load(folders["BPE"]), UNSEEN, ENGLISH, pieces=50)
    for kind in ("WordPiece", "bytes"):
        with pytest.raises(ModelError, match="the new pieces belong to another tokenizer"):
            extend_text_model(load(folders[kind]), vocabulary, seed=0)


def test_the_file_reads_back(folders: dict[str, Path]) -> None:
    vocabulary = learn_vocabulary(load(folders["WordPiece"]), UNSEEN, ENGLISH, pieces=50)
    again = learn_vocabulary(load(folders["WordPiece"]), UNSEEN, ENGLISH, pieces=50)
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary == again
    assert vocabulary.digest == again.digest


def test_rows_start_at_what_the_pieces_are_made_of(folders: dict[str, Path]) -> None:
    model = load(folders["BPE"])
    table = model.encoder.get_input_embeddings().weight.detach().clone()
    old = model.tokenizer.get_vocab()
    mixed = [*SPANISH, *UNSEEN]
    vocabulary = learn_vocabulary(model, mixed, ENGLISH, pieces=80)
    extend_text_model(model, vocabulary, seed=7)
    rows = new_rows(model)
    assert rows is not None
    assert rows.shape == (len(vocabulary.pieces), 32)
    started = list(zip(rows, vocabulary.pieces, strict=True))
    known = [(row, piece) for row, piece in started if -1 not in piece.parts]
    assert len(known) > 10
    words = {part: text for text, part in old.items()}
    for row, piece in known:
        assert "".join(words[part] for part in piece.parts) == piece.text
        torch.testing.assert_close(row, table[list(piece.parts)].mean(dim=0))
    others = torch.stack([row for row, piece in started if -1 in piece.parts]).detach()
    assert len(others) > 10
    assert len(others.unique(dim=0)) == len(others), "no two alike, or they would learn alike"
    torch.testing.assert_close(others.mean(dim=0), table.mean(dim=0), atol=0.02, rtol=0)
    torch.testing.assert_close(others.std(dim=0).mean(), table.std(dim=0).mean(), rtol=0.2, atol=0)

    same, other = load(folders["BPE"]), load(folders["BPE"])
    extend_text_model(same, vocabulary, seed=7)
    extend_text_model(other, vocabulary, seed=8)
    assert torch.equal(new_rows(same), rows)
    assert not torch.equal(new_rows(other), rows)


def test_old_ids_look_up_the_old_table_and_only_new_rows_learn() -> None:
    table = nn.Embedding(6, 3).requires_grad_(False)
    rows = torch.arange(6.0).reshape(2, 3)
    extended = ExtendedEmbedding(table=table, first_id=8, rows=rows.clone())
    given = torch.tensor([[0, 9, 5], [8, 8, 2]])
    out = extended(given)
    assert torch.equal(out[0, [0, 2]], table.weight[[0, 5]])
    assert torch.equal(out[0, 1], rows[1])
    assert torch.equal(out[1, :2], rows[[0, 0]])
    out.sum().backward()
    assert torch.equal(extended.rows.grad, torch.tensor([[2.0] * 3, [1.0] * 3]))
    assert table.weight.grad is None


def test_a_scale_inside_the_table_holds_for_new_rows_too() -> None:
    """M2M100 and NLLB multiply their embeddings by the root of the width."""
    shape = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "vocab_size": 20}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = M2M100Config(**shape, **heads, encoder_layers=1, decoder_layers=1, scale_embedding=True)
    encoder = M2M100ForConditionalGeneration(config).eval().get_encoder()
    table = encoder.get_input_embeddings()
    batch = TextBatch(input_ids=torch.tensor([[4, 7, 2]]), mask=torch.ones(1, 3, dtype=torch.bool))
    with torch.no_grad():
        before = encoder(input_ids=batch.input_ids, attention_mask=batch.mask.long()).last_hidden_state
        encoder.set_input_embeddings(
            ExtendedEmbedding(table=table, first_id=20, rows=table.weight[[7]].clone())
        )
        renamed = torch.tensor([[4, 20, 2]])  # a new piece whose row is the one of piece 7
        after = encoder(input_ids=renamed, attention_mask=batch.mask.long()).last_hidden_state
    assert torch.equal(before, after)
