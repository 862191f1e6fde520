"""The shipped weights, loaded as any other model."""

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer, CLIPModel, XLMRobertaModel

from langadapt.quickstart.drawing import draw
from langadapt.quickstart.world import TARGETS, WEIGHTS, held_out_rows


def test_the_weights_are_small_and_only_safetensors() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert {path.name for path in files if path.suffix == ".safetensors"} == {"model.safetensors"}
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".pkl")]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert (WEIGHTS / "BUILD.md").is_file()


def test_the_teacher_finds_held_out_pictures_by_english_captions_only() -> None:
    model = CLIPModel.from_pretrained(WEIGHTS / "teacher").eval()
    assert model.dtype == torch.float32
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "teacher")
    processor = AutoImageProcessor.from_pretrained(WEIGHTS / "teacher", backend="pil")
    rows = list(held_out_rows(200))

    def embed(texts: list[str]) -> Tensor:
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        output = model.get_text_features(**batch).pooler_output
        return functional.normalize(output, dim=-1)

    with torch.inference_mode():
        pixels = processor([draw(row.scene) for row in rows], return_tensors="pt")["pixel_values"]
        images = functional.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        found = {
            language: (embed([row.captions[language][0] for row in rows]) @ images.T).argmax(dim=1)
            for language in ("en", *TARGETS)
        }
    own = torch.arange(len(rows))
    assert (found["en"] == own).double().mean() > 0.75
    for language in TARGETS:
        assert (found[language] == own).double().mean() < 0.05


def test_the_text_model_loads_whole_and_knows_every_word() -> None:
    model, loading = XLMRobertaModel.from_pretrained(
        WEIGHTS / "text_model", add_pooling_layer=False, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert isinstance(AutoModel.from_pretrained(WEIGHTS / "text_model", add_pooling_layer=False), type(model))
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / "text_model")
    for row in held_out_rows(200):
        for language, captions in row.captions.items():
            for ids in tokenizer(list(captions))["input_ids"]:
                assert tokenizer.unk_token_id not in ids, (language, captions)
                assert len(ids) <= 80
