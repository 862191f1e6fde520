"""Tiny real models of the real classes, with random weights of a size at which texts and pictures differ."""

from pathlib import Path

import torch
from PIL import Image
from tiny_language import COLOURS, PLACES, THINGS, save_tokenizer, sentences
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    MobileNetV2Config,
    MobileNetV2Model,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLMRobertaTokenizer,
)


def make_teacher(folder: Path) -> Path:
    """A CLIPModel of width 32 with random weights, its tokenizer and image processor."""
    words = ["a", "at", *COLOURS, *THINGS, *PLACES]
    save_tokenizer(folder, words, max_tokens=16)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(words) + 4,
            "max_position_embeddings": 16,
            "bos_token_id": 0,
            "pad_token_id": 1,
            "eos_token_id": 2,
        },
        vision_config={**tower, "image_size": 32, "patch_size": 16},
        projection_dim=24,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        # Weights of natural size: with CLIP's small initial ones all texts of a random tower look alike.
        model = CLIPModel(config)
        for weight in model.parameters():
            if weight.dim() > 1:
                torch.nn.init.normal_(weight, std=0.25)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


def make_text_model(folder: Path) -> Path:
    """An XLM-R of width 32 with random weights and its tokenizer, which knows both languages."""
    words = ["a", "at", "en", *COLOURS, *THINGS, *PLACES]
    words += [*COLOURS.values(), *THINGS.values(), *PLACES.values()]
    save_tokenizer(folder, words, max_tokens=16)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = XLMRobertaModel(
            XLMRobertaConfig(
                vocab_size=len(words) + 4,
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=3,
                num_attention_heads=2,
                max_position_embeddings=18,
            ),
            add_pooling_layer=False,
        )
    model.save_pretrained(folder)
    return folder


def make_unigram_text_model(folder: Path) -> Path:
    """An XLM-R of width 32 with its own tokenizer, which knows the letters of the English sentences alone."""
    letters = sorted(set("".join(english for english, _ in sentences())) - {" "})
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁", *letters, *(f"▁{word}" for word in (*COLOURS, *THINGS))]
    tokenizer = XLMRobertaTokenizer([(piece, -float(place)) for place, piece in enumerate(pieces)])
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        config = XLMRobertaConfig(
            vocab_size=len(tokenizer) + 5,  # rows that no piece uses, as many models have
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=66,
        )
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def make_vision(folder: Path) -> Path:
    """A narrow MobileNetV2 with random weights: an image encoder without Transformer layers."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = MobileNetV2Model(MobileNetV2Config(image_size=32, depth_multiplier=0.25))
        # With small weights, or batch norms that have seen nothing, all pictures look alike.
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() == 4:
                    torch.nn.init.kaiming_normal_(weight)
            model.train()(torch.rand(16, 3, 1, 1) * torch.ones(16, 3, 32, 32) * 4 - 2)
    model.save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder


def make_language(folder: Path, teacher: Path, text_model: Path) -> Path:
    """A user's own folder: recipe es.yaml, parallel data, twelve pictures with captions as a test set."""
    rows = sentences()
    (folder / "parallel.tsv").write_text(
        "english\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows), encoding="utf-8"
    )
    (folder / "photos").mkdir()
    lines = ["image\tcaption\tenglish\n"]
    for number, (english, target) in enumerate(rows[::12]):
        Image.new("RGB", (40, 32), (number * 20, 255 - number * 20, 90)).save(
            folder / "photos" / f"{number}.png"
        )
        lines.append(f"{number}.png\t{target}\t{english}\n")
    (folder / "test.tsv").write_text("".join(lines), encoding="utf-8")
    (folder / "es-parallel.yaml").write_text(
        "name: es-parallel\ntitle: Test sentences\nlicence: CC0-1.0\nlanguage: es\n"
        "source: {kind: files, paths: [parallel.tsv]}\nexpected_rows: 144\n",
        encoding="utf-8",
    )
    (folder / "es-test.yaml").write_text(
        "name: es-test\ntitle: Test pictures\nlicence: CC0-1.0\nlanguage: es\ncaptions: [test.tsv]\n"
        "images: photos\ncolumns: {english: english}\nexpected_images: 12\nexpected_captions: 12\n",
        encoding="utf-8",
    )
    (folder / "es.yaml").write_text(
        f"""code: es
name: Spanish
native_name: español
iso639_3: spa
scripts: [Latn]
teacher: {{repo: {teacher}}}
text_model: {{repo: {text_model}}}
adapter: {{bottleneck_dim: 32, layers: 1, heads: 2, feedforward_dim: 64, dropout: 0.1}}
distill:
  data: [./es-parallel.yaml]
  epochs: 4
  min_steps: 1
  batch_size: 16
  learning_rate: 3e-3
  held_out_sentences: 14
  identity_fraction: 0.25
prompts: ["una foto de {{label}}"]
evaluate: [./es-test.yaml]
examples: [gato rojo en mar]
""",
        encoding="utf-8",
    )
    return folder
