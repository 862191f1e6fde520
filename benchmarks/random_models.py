"""Models of real sizes with random weights, for timing: real speed, rows that mean nothing."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    PreTrainedTokenizerFast,
    XLMRobertaConfig,
    XLMRobertaModel,
)

from langadapt.models import Artifact, Student, load_text_model, resolve_model, write_artifact
from langadapt.models.artifact import BaseModel
from langadapt.recipes import LanguageRecipe

# Widths of XLM-R base and of the multilingual MiniLM family: hidden, feed-forward, layers, heads.
SIZES = {"xlm-roberta-base": (768, 3072, 12, 12), "minilm-l12-384": (384, 1536, 12, 12)}
# Cut from 250,000 words: that costs no time, only memory.
VOCABULARY = 16000


def random_run(folder: Path, size: str, texts: list[str]) -> Path:
    """An artifact on a random text model of that size; its tokenizer is trained on the texts."""
    tokenizer = _tokenizer(texts)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        shape = dict(zip(names, SIZES[size], strict=True))
        config = XLMRobertaConfig(vocab_size=VOCABULARY, max_position_embeddings=514, **shape)
        XLMRobertaModel(config, add_pooling_layer=False).save_pretrained(folder / "text")
        tokenizer.save_pretrained(folder / "text")
        tower = {
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
        }
        ids = {"vocab_size": VOCABULARY, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
        vision = {**tower, "image_size": 32, "patch_size": 16}
        teacher = CLIPConfig(text_config={**tower, **ids}, vision_config=vision, projection_dim=512)
        CLIPModel(teacher).save_pretrained(folder / "teacher")
        tokenizer.save_pretrained(folder / "teacher")
        square = {"height": 32, "width": 32}
        CLIPImageProcessorPil(size=square, crop_size=square).save_pretrained(folder / "teacher")
        recipe = LanguageRecipe.model_validate(
            {
                "code": "zh", "name": "Chinese", "native_name": "中文",
                "iso639_3": "zho", "scripts": ("Hans",),
                "teacher": {"repo": str(folder / "teacher")}, "text_model": {"repo": str(folder / "text")},
                "distill": {"data": ("none",)},
            }
        )  # fmt: skip
        text, image = resolve_model(recipe.text_model), resolve_model(recipe.teacher)
        encoder = load_text_model(text, recipe.text_model, max_tokens=recipe.distill.max_tokens)
        student = Student(text_model=encoder, spec=recipe.adapter, target_dim=512)
    weights = {f"adapter.{name}": value for name, value in student.adapter.state_dict().items()}
    artifact = Artifact(
        recipe=recipe,
        teacher=BaseModel(repo=image.repo, revision=image.revision),
        text_model=BaseModel(repo=text.repo, revision=text.revision),
        target_dim=512,
        weights=weights,
    )
    write_artifact(folder / size, artifact)
    return folder / size


def _tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Pieces as a real vocabulary cuts captions, XLM-R's special ids."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip
