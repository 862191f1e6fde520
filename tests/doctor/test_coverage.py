"""Fertility and coverage of tokenizers, counted by hand."""

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from langadapt.doctor.examine import measure_coverage


def tokenizer(pieces: list[str]) -> PreTrainedTokenizerFast:
    """WordPiece: the longest piece that fits, a word with an unknown letter is unknown as a whole."""
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", *pieces])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<unk>")


def test_counts_by_hand() -> None:
    found = measure_coverage(
        tokenizer(["cat", "a", "g", "##a", "##t", "##o"]), ["gato ñato", "gat"], ["a cat", "cat"]
    )
    # gato: g a t o; ñato: unknown; gat: g a t. English: a, cat; cat.
    assert found.sentences == 2
    assert found.tokens_per_word == 8 / 3
    assert found.tokens_per_character == 8 / 12
    assert found.english_tokens_per_word == 1.0
    assert found.english_tokens_per_character == 3 / 8
    assert found.times_english == 8 / 3
    assert found.unknown_percent == 100 / 8
    # Letters g a t o ñ; alone at the start of a word only `g` and `a` are pieces.
    assert found.letters_percent == 40.0
    assert found.unknown_letters == "toñ"


def test_letters_that_fall_into_bytes_are_not_known() -> None:
    alphabet = {piece: i for i, piece in enumerate(["<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    made = Tokenizer(models.BPE(vocab=alphabet, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<unk>")
    found = measure_coverage(fast, ["a ა"], None)
    assert found.unknown_percent == 0
    assert found.letters_percent == 50
    assert found.unknown_letters == "ა"
    assert found.times_english is None
