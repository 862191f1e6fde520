"""Each text model family as a tiny random model of the real class, loaded from its own saved folder."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_language import save_tokenizer
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    DistilBertConfig,
    DistilBertModel,
    M2M100Config,
    M2M100ForConditionalGeneration,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    NllbTokenizer,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
)

from langadapt.data.tokens import TextBatch
from langadapt.errors import DataError, ModelError, RecipeError
from langadapt.models import TextModel, load_text_model, resolve_model
from langadapt.models.families import HalfLayers
from langadapt.models.towers import Layers, spread
from langadapt.nn.peft_modules import add_bottlenecks, add_top_layer, transformer_layers
from langadapt.recipes import ModelRef, TextModelRef

WORDS = [f"w{i}" for i in range(40)]
IDS = {"vocab_size": 44, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11"]
# One row holds them all but the first; padding's own token inside a text is a token like any other.
PACKED = ["w5 w6 w7 w8 w9 w10 w11", "w1 w2 w3", "w1 <pad> w3", "w9 w3 w1", "w4", "w2 w7 w8"]
WITHOUT_PACKING = {"m2m100", "mpnet"}
PROGRAM = """
import sys
import numpy as np
from safetensors.torch import save_file
from langadapt.models import load_text_model, resolve_model
from langadapt.recipes import ModelRef, TextModelRef

folder, out, *texts = sys.argv[1:]
source = resolve_model(ModelRef(repo=folder))
model = load_text_model(source, TextModelRef(repo=folder), max_tokens=16)
save_file({"states": model.packed_states(model.tokenize(texts), np.arange(len(texts)), "all")}, out)
"""


def m2m100() -> Any:
    layers = {"encoder_layers": 3, "decoder_layers": 1, "encoder_attention_heads": 2}
    width = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "decoder_attention_heads": 2}
    config = M2M100Config(**IDS, **layers, **width, max_position_embeddings=12, encoder_layerdrop=0.9)
    return M2M100ForConditionalGeneration(config)


# Model, and the longest text in tokens that it has positions for.
FAMILIES: dict[str, tuple[Callable[[], Any], int]] = {
    # Saved with its head, as the Hub's checkpoints are; positions start behind padding: 14 - 2.
    "xlm-roberta": (
        lambda: XLMRobertaForMaskedLM(XLMRobertaConfig(**IDS, **SIZE, max_position_embeddings=14)),
        12,
    ),
    "bert": (lambda: BertModel(BertConfig(**IDS, **SIZE, max_position_embeddings=12)), 12),
    # Local layers see two tokens to each side, less than a text has.
    "modernbert": (
        lambda: ModernBertModel(
            ModernBertConfig(**IDS, **SIZE, max_position_embeddings=12, local_attention=4)
        ),
        12,
    ),
    "m2m100": (m2m100, 12),
    "distilbert": (
        lambda: DistilBertModel(
            DistilBertConfig(**IDS, dim=32, hidden_dim=64, n_layers=3, n_heads=2, max_position_embeddings=12)
        ),
        12,
    ),
    "mpnet": (lambda: MPNetModel(MPNetConfig(**IDS, **SIZE, max_position_embeddings=14)), 12),
}


def save(model: Any, folder: Path, *, seed: int = 0) -> Path:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.2, generator=generator)
            else:  # biases and norms matter, too
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    model.save_pretrained(folder)
    save_tokenizer(folder, WORDS, max_tokens=10**30)
    return folder


def load(folder: Path, **ref: Any) -> TextModel:
    source = resolve_model(ModelRef(repo=str(folder)))
    return load_text_model(source, TextModelRef(repo=str(folder), **ref), max_tokens=1000)


def batch(model: TextModel, texts: list[str]) -> TextBatch:
    return model.tokenize(texts).batch(np.arange(len(texts)))


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TextModel]:
    make, _ = FAMILIES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        original = make().eval()
    folder = save(original, tmp_path_factory.mktemp(request.param))
    return original, load(folder)


def test_last_state_is_the_last_hidden_state(family: tuple[Any, TextModel]) -> None:
    original, model = family
    given = batch(model, TEXTS)
    encoder = original.get_encoder() if original.config.is_encoder_decoder else original.base_model
    inputs = {"input_ids": given.input_ids, "attention_mask": given.mask.long()}
    with torch.no_grad():
        expected = encoder(**inputs).last_hidden_state[given.mask]
        every = model.states(given, "all")
        assert every.shape == (3, 9, 4, 32)
        assert every.dtype == torch.float32
        assert (model.state_count, model.state_dim) == (4, 32)
        torch.testing.assert_close(every[:, :, 3][given.mask], expected)
        torch.testing.assert_close(model.states(given, "last")[:, :, 0][given.mask], expected)
        torch.testing.assert_close(model.states(given, (-1, 0)), every[:, :, [3, 0]])
        torch.testing.assert_close(model.states(given, 3), every[:, :, [0, 2, 3]])
        first = encoder(**inputs, output_hidden_states=True).hidden_states[0]
        torch.testing.assert_close(every[:, :, 0], first)


def test_no_layer_is_left_out_in_training(family: tuple[Any, TextModel]) -> None:
    _, model = family
    model.train()
    try:
        with torch.no_grad():
            assert model.states(batch(model, TEXTS), "all").shape[2] == 4
    finally:
        model.eval()


def test_texts_in_a_batch_equal_texts_one_by_one(family: tuple[Any, TextModel]) -> None:
    _, model = family
    given = batch(model, TEXTS)
    with torch.no_grad():
        together = model.states(given, "all")
        for i, text in enumerate(TEXTS):
            alone = model.states(batch(model, [text]), "all")[0]
            torch.testing.assert_close(together[i, : len(alone)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layers", ["last", "all", 2, (-1, 0)])
def test_packed_states_equal_the_plain_ones(
    family: tuple[Any, TextModel], request: pytest.FixtureRequest, layers: Layers
) -> None:
    _, model = family
    name = request.node.callspec.params["family"]
    assert model.path == ("padded" if name in WITHOUT_PACKING else "packed")
    with torch.no_grad():
        alone = [model.states(batch(model, [text]), layers)[0] for text in PACKED]
    states = model.packed_states(model.tokenize(PACKED), np.arange(6), layers)
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, torch.cat(alone), rtol=0, atol=3e-5)
    assert (states[:3] - states[9:12]).abs().max() > 0.1, "the texts differ"


def test_states_in_bfloat16_are_near_the_plain_ones(
    family: tuple[Any, TextModel], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = family
    tokens, rows = model.tokenize(PACKED), np.arange(6)
    exact = model.packed_states(tokens, rows, "all")
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    half = model.packed_states(tokens, rows, "all")
    assert half.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(half.float(), exact, dim=2)
    assert 0.999 <= cosine.min() < 1 - 1e-7, "near token by token and layer by layer, and not in float32"
    torch.testing.assert_close(model.packed_states(tokens, rows, (-1, 1)), half[:, [-1, 1]])
    torch.testing.assert_close(model.packed_states(tokens, rows, "last"), half[:, -1:])
    torch.testing.assert_close(model.packed_states(tokens, rows, "all", exact=True), exact)
    fused = [part for part in model.bfloat16_copy.of(model.encoder).modules() if isinstance(part, HalfLayers)]
    assert len(fused) == (1 if request.node.callspec.params["family"] in ("bert", "xlm-roberta") else 0)


@pytest.mark.slow
def test_bfloat16_on_a_processor_without_it(text_model_folder: Path, tmp_path: Path) -> None:
    """oneDNN is told to use nothing of this one that an old one lacks; it listens only when it starts."""
    texts = ["cat dog", "sea", "red boat road"]
    settings = {"ONEDNN_MAX_CPU_ISA": "SSE41", "LANGADAPT_PRECISION": "bfloat16"}
    subprocess.run(
        [sys.executable, "-c", PROGRAM, text_model_folder, tmp_path / "states", *texts],
        env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    half = load_file(tmp_path / "states")["states"]
    assert half.dtype == torch.bfloat16
    model = load(text_model_folder)
    exact = model.packed_states(model.tokenize(texts), np.arange(3), "all")
    assert torch.nn.functional.cosine_similarity(half.float(), exact, dim=2).min() > 0.999


def test_bfloat16_with_an_attention_that_somebody_else_chose(
    text_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is padded, so transformers' own forward pass must find its own layers."""
    model = load(text_model_folder)
    model.encoder.config._attn_implementation = "eager"  # type: ignore[union-attr]
    model = TextModel(
        source=model.source, encoder=model.encoder, tokenizer=model.tokenizer, prefix="", max_tokens=12
    )
    assert model.path == "padded"
    tokens, rows = model.tokenize(["cat dog", "sea"]), np.arange(2)
    exact = model.packed_states(tokens, rows, "all")
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    half = model.packed_states(tokens, rows, "all").float()
    assert torch.nn.functional.cosine_similarity(half, exact, dim=2).min() > 0.999


def test_bfloat16_runs_what_tuning_has_put_into_a_layer(
    text_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(text_model_folder)
    given = batch(model, ["cat dog", "sea"])
    layers = transformer_layers(model.encoder, lambda: model.states(given, "last"))
    with torch.no_grad():
        for added in add_bottlenecks(layers):
            added.up.bias.normal_()
    tokens, rows = model.tokenize(["cat dog", "sea"]), np.arange(2)
    exact = model.packed_states(tokens, rows, "last")
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    half = model.packed_states(tokens, rows, "last").float()
    assert torch.nn.functional.cosine_similarity(half, exact, dim=2).min() > 0.999


def test_bfloat16_follows_a_changed_weight(text_model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGADAPT_PRECISION", "bfloat16")
    model = load(text_model_folder)
    tokens, rows = model.tokenize(["cat dog", "sea"]), np.arange(2)
    before = model.packed_states(tokens, rows, "last")
    assert torch.equal(before, model.packed_states(tokens, rows, "last"))
    with torch.no_grad():
        next(model.encoder.parameters()).mul_(-1)
    changed = model.packed_states(tokens, rows, "last")
    assert (changed.float() - before.float()).abs().max() > 0.1
    exact = model.packed_states(tokens, rows, "last", exact=True)
    torch.testing.assert_close(changed.float(), exact, rtol=0, atol=0.1)


def test_a_layer_on_top_reads_its_own_text_alone(tmp_path: Path) -> None:
    """Packed or padded: it attends to what the layer in front of it attends to."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name in FAMILIES:
            model = load(save(FAMILIES[name][0]().eval(), tmp_path / name))
            given = batch(model, ["w1 w2"])
            run = lambda: model.states(given, "last")  # noqa: B023, E731
            top = add_top_layer(transformer_layers(model.encoder, run)[-1])
            for value in top.parameters():
                value.data += 0.3 * torch.randn(value.shape)
            with torch.no_grad():
                alone = torch.cat([model.states(batch(model, [text]), "last")[0] for text in PACKED])
                together = batch(model, PACKED)
                padded = model.states(together, "last")[together.mask]
            packed = model.packed_states(model.tokenize(PACKED), np.arange(6), "last")
            torch.testing.assert_close(padded, alone, rtol=0, atol=1e-4, msg=name)
            torch.testing.assert_close(packed, alone, rtol=0, atol=1e-4, msg=name)


def test_a_text_beyond_the_positions_is_cut(
    family: tuple[Any, TextModel], request: pytest.FixtureRequest
) -> None:
    _, model = family
    limit = FAMILIES[request.node.callspec.params["family"]][1]
    assert model.max_tokens == limit
    given = batch(model, [" ".join(WORDS)])
    assert given.input_ids.shape == (1, limit)
    assert given.input_ids[0, -1] == 2, "the end token stays"
    with torch.no_grad():
        assert model.states(given, "last").isfinite().all()


def test_it_is_frozen_and_has_no_pooler(family: tuple[Any, TextModel]) -> None:
    _, model = family
    assert not any(weight.requires_grad for weight in model.parameters())
    assert not model.encoder.training
    assert not [name for name, _ in model.named_parameters() if "pooler" in name or "decoder" in name]


@pytest.mark.parametrize(
    ("facts", "prefix", "expected"),
    [
        ({"prompts": {"query": "cat ", "passage": "dog "}, "default_prompt_name": None}, None, "cat "),
        ({"prompts": {"query": "cat ", "passage": "dog "}, "default_prompt_name": "passage"}, None, "dog "),
        ({"prompts": {"query": "cat "}}, "", ""),
        ({"prompts": {"passage": "dog "}}, None, ""),
        ({"model_type": "SentenceTransformer"}, None, ""),
    ],
)
def test_the_prompt_of_a_sentence_transformers_repository_is_the_prefix(
    facts: dict[str, Any], prefix: str | None, expected: str, text_model_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(text_model_folder, tmp_path / "model"))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(facts), encoding="utf-8")
    assert load(folder, prefix=prefix).prefix == expected


def test_damaged_prompts_are_refused(text_model_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_model_folder, tmp_path / "model"))
    (folder / "config_sentence_transformers.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"no usable config_sentence_transformers\.json"):
        load(folder)


def test_prefix_is_part_of_each_text(text_model_folder: Path) -> None:
    plain, prefixed = load(text_model_folder), load(text_model_folder, prefix="cat dog ")
    assert prefixed.tokenize(["red sea"]).ids.tolist() == plain.tokenize(["cat dog red sea"]).ids.tolist()
    with pytest.raises(DataError, match="text 1 is empty"):
        prefixed.tokenize(["red", "  "])


def test_source_language_stands_before_the_text(tmp_path: Path) -> None:
    original = m2m100()
    save(original, tmp_path)
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁w1", "▁w2"])}
    languages = ["eng_Latn", "swh_Latn"]
    NllbTokenizer(vocab=vocabulary, merges=[], additional_special_tokens=languages).save_pretrained(tmp_path)
    swahili = load(tmp_path, tokenizer_language="swh_Latn")
    english = load(tmp_path, tokenizer_language="eng_Latn")
    number = swahili.tokenizer.convert_tokens_to_ids("swh_Latn")
    assert number != swahili.tokenizer.unk_token_id
    ids = swahili.tokenize(["w1"]).ids
    assert number in ids
    assert number not in english.tokenize(["w1"]).ids


def test_states_that_the_model_does_not_have_are_refused(text_model_folder: Path) -> None:
    model = load(text_model_folder)
    assert [model.check_layers(layers) for layers in ((-4, 3), 3, 9)] == [2, 3, 4]
    with pytest.raises(RecipeError, match=r"has states 0 to 3, got 4"):
        model.check_layers((0, 4))


@pytest.mark.parametrize(
    ("count", "states", "expected"),
    [(4, 13, (0, 4, 8, 12)), (4, 7, (0, 2, 4, 6)), (2, 25, (0, 24)), (4, 3, (0, 1, 2)), (4, 4, (0, 1, 2, 3))],
)
def test_states_at_even_distances(count: int, states: int, expected: tuple[int, ...]) -> None:
    assert spread(count, states) == expected


def change_weights(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_missing_weights_are_refused(text_model_folder: Path, tmp_path: Path) -> None:
    change_weights(
        text_model_folder, tmp_path, lambda weights: weights.pop("encoder.layer.1.output.dense.weight")
    )
    with pytest.raises(ModelError) as error:
        load(tmp_path)
    assert "1 weights are missing from the file, first 'encoder.layer.1.output.dense.weight'" in str(
        error.value
    )


def test_weights_of_another_shape_are_refused(text_model_folder: Path, tmp_path: Path) -> None:
    def cut(weights: dict[str, torch.Tensor]) -> None:
        weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][:-1]

    change_weights(text_model_folder, tmp_path, cut)
    with pytest.raises(ModelError, match="cannot load its weights") as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_never_opened(text_model_folder: Path, tmp_path: Path) -> None:
    for path in text_model_folder.iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(load_file(text_model_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors weights in it, and other formats are never opened"):
        load(tmp_path)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ViTModel(ViTConfig(**SIZE, image_size=32, patch_size=16)),
        lambda: CLIPModel(CLIPConfig(text_config={**IDS, **SIZE}, vision_config={**SIZE, "image_size": 32})),
        lambda: BertModel(BertConfig(**IDS, **SIZE, is_decoder=True)),
    ],
    ids=["image model", "image-text model", "decoder"],
)
def test_what_is_no_text_encoder_is_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    save(make(), tmp_path)
    with pytest.raises(ModelError, match="is not a text encoder"):
        load(tmp_path)


def test_a_model_without_tokenizer_is_refused(text_model_folder: Path, tmp_path: Path) -> None:
    """Transformers would make an empty vocabulary, and every text would look alike."""
    for path in text_model_folder.iterdir():
        if path.name != "tokenizer.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ModelError, match="tokenizer"):
        load(tmp_path)
