"""sentence-transformers, in a process without langadapt and network, embeds as langadapt does."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clean_process import run_clean
from PIL import Image
from tiny_language import sentences
from transformers import (
    M2M100Config,
    M2M100ForConditionalGeneration,
    NllbTokenizer,
    Siglip2Config,
    Siglip2Model,
    Siglip2Tokenizer,
    XLMRobertaModel,
)
from untrained import untrained_run

import langadapt
from langadapt.errors import LangadaptError
from langadapt.export.onnx import export_onnx
from langadapt.export.sentence_transformers import (
    default_probes,
    export_sentence_transformers,
    write_module_files,
)
from langadapt.hub.stage import module_files
from langadapt.models.new_pieces import new_rows

TEXTS = ["gato", *(target for _, target in sentences()[::9]), "perro azul en mar " * 9]
LORA, PAIRS = "{lora: {rank: 2, alpha: 7}}", "pairs: [none.tsv]"
PROGRAM = """
import json
from pathlib import Path
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer

try:
    import langadapt
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("langadapt is here")
given = json.loads(Path(sys.argv[1]).read_text())
pictures = [Image.open(path) for path in given["images"]]
rows = {}
for name, folder in given["folders"].items():
    model = SentenceTransformer(folder, trust_remote_code=True, device="cpu")
    rows[f"{name}.texts"] = model.encode(given["texts"], batch_size=5)
    rows[f"{name}.images"] = model.encode(pictures, batch_size=2)
    rows[f"{name}.paths"] = model.encode(given["images"])
    assert model.supports("text") and model.supports("image")
    assert model.get_embedding_dimension() == rows[f"{name}.texts"].shape[1]
    if name in given["again"]:
        model.save(given["again"][name])
        again = SentenceTransformer(given["again"][name], trust_remote_code=True, device="cpu")
        rows[f"{name} again.texts"] = again.encode(given["texts"])
        rows[f"{name} again.images"] = again.encode(pictures)
for name, code in given["pages"].items():
    found = {}
    exec(code, found)
    rows[f"{name}.page texts"], rows[f"{name}.page images"] = found["texts"], found["images"]
np.savez(given["out"], **rows)
"""


@pytest.fixture(scope="module")
def nllb_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder-decoder of width 32 whose tokenizer puts the language before the text."""
    folder = tmp_path_factory.mktemp("nllb")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = M2M100ForConditionalGeneration(
            M2M100Config(
                vocab_size=40, bos_token_id=0, pad_token_id=1, eos_token_id=2, d_model=32, encoder_layers=2,
                decoder_layers=1, encoder_ffn_dim=64, decoder_ffn_dim=64, encoder_attention_heads=2,
                decoder_attention_heads=2, max_position_embeddings=20,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    letters = sorted(set("".join(TEXTS)) - {" "})
    vocabulary = {word: i for i, word in enumerate(["<s>", "<pad>", "</s>", "<unk>", "▁", *letters])}
    NllbTokenizer(
        vocab=vocabulary, merges=[], additional_special_tokens=["spa_Latn", "eng_Latn"], padding_side="left"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def siglip2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image tower that takes images of any shape, with a mask, as three tensors."""
    folder = tmp_path_factory.mktemp("siglip2")
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 40, "max_position_embeddings": 8, "projection_size": 32}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        vision = {**tower, "patch_size": 16, "num_patches": 16}
        model = Siglip2Model(Siglip2Config(text_config=text, vision_config=vision))
    model.save_pretrained(folder)
    letters = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "▁", *"abcdefghijklmnopqrstuvwxyz"]
    Siglip2Tokenizer(
        vocab={letter: i for i, letter in enumerate(letters)}, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    processor = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 16, "max_num_patches": 16}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    paths = []
    turned = Image.Exif()
    turned[0x0112] = 6
    for number, size in enumerate(((40, 32), (32, 64), (50, 50))):
        paths.append(folder / f"{number}.png")
        noise = Image.effect_noise(size, 90).convert("RGB")
        noise.paste((250, 10, 10), (0, 0, size[0], size[1] // 3))
        noise.save(paths[-1], exif=turned)
    grey = np.arange(48 * 40, dtype=np.uint16).reshape(48, 40) * 34
    Image.fromarray(grey).save(folder / "grey.png")
    return [*paths, folder / "grey.png"]


@pytest.fixture(scope="module")
def runs(
    language_folder: Path,
    nllb_folder: Path,
    siglip2_folder: Path,
    unigram_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    settings = {
        "frozen": ["text_model.prefix='gato '", "distill.max_tokens=6"],
        "embeddings": ["text_model.trains=embeddings"],
        "last": ["text_model.trains={last: 1}", "adapter.states=[0, -1]"],
        "lora": ["text_model.trains={lora: {rank: 2, alpha: 7}}"],
        "full": ["text_model.trains=full", "adapter.layers=0", "adapter.pooling=mean", "adapter.states=last"],
        "nllb": [
            f"text_model.repo={nllb_folder}", "text_model.tokenizer_language=spa_Latn",
            "text_model.trains={last: 1}", "text_model.extend_vocabulary={pieces: 30}",
            f"tune={{{PAIRS}, text: [{LORA}, embeddings], image: locked}}",
        ],
        "siglip2": [
            f"teacher.repo={siglip2_folder}", f"tune={{{PAIRS}, text: locked, image: [adapters, bitfit]}}",
        ],
        "tuned": [
            f"text_model.trains={LORA}",
            f"tune={{{PAIRS}, text: [adapters, layer, {LORA}, bitfit, layer_norm, projection, embeddings],"
            f" image: [adapters, layer, {LORA}, bitfit, layer_norm, projection]}}",
            f"domain={{{PAIRS}, text: [adapters, layer, {LORA}, {{last: 1}}],"
            f" image: [adapters, layer, {LORA}, {{last: 1}}]}}",
        ],
        "unigram": [
            f"text_model.repo={unigram_folder}", "text_model.trains=full", "adapter.layers=0",
            "text_model.extend_vocabulary={pieces: 30}",
            f"tune={{{PAIRS}, text: [adapters, layer, embeddings], image: [adapters]}}",
            f"domain={{{PAIRS}, text: full, image: full}}",
        ],
    }  # fmt: skip
    root = tmp_path_factory.mktemp("untrained")
    return {
        name: untrained_run(language_folder, root / name, *changes, seed=seed)
        for seed, (name, changes) in enumerate(settings.items())
    }


@pytest.fixture(scope="module")
def embedded(
    runs: dict[str, Path], pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What other tools make of each export, by `name.kind`; what the pages' code prints as `TOOL.page`."""
    root = tmp_path_factory.mktemp("exports")
    folders = {}
    for name, run in runs.items():
        model = langadapt.load(run)
        folders[name] = root / name
        export_sentence_transformers(model, folders[name], probes=default_probes(model))
        if name in LIGHT:
            folders[f"{name} light"] = Path(shutil.copytree(run, root / f"{name}-light"))
            write_module_files(folders[f"{name} light"], model)
    model = langadapt.load(runs["frozen"])
    export_onnx(model, root / "onnx", probes=default_probes(model))
    pages = {"sentence-transformers": folders["frozen"], "onnx": root / "onnx"}
    given = {
        "folders": {name: str(folder) for name, folder in folders.items()},
        "pages": {name: page_code(folder, pictures[0]) for name, folder in pages.items()},
        "texts": TEXTS,
        "images": [str(path) for path in pictures],
        "out": str(root / "rows.npz"),
        "again": {name: str(root / f"{name} again") for name in AGAIN},
    }
    (root / "given.json").write_text(json.dumps(given), encoding="utf-8")
    run_clean(PROGRAM, str(root / "given.json"), home=root / "home")
    return dict(np.load(root / "rows.npz"))


def page_code(folder: Path, picture: Path) -> str:
    """The example on an export's page, with the two places filled in that a reader fills in."""
    code = (folder / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    return code.replace("PATH OF THIS FOLDER", str(folder)).replace("photo.jpg", str(picture))


NAMES = ["frozen", "embeddings", "last", "lora", "full", "nllb", "siglip2", "tuned", "unigram"]
LIGHT = ["frozen", "nllb", "siglip2", "tuned", "unigram"]
AGAIN, PIECES = ["lora", "tuned light"], ["nllb", "unigram"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_embeds_as_langadapt_does(
    name: str, runs: dict[str, Path], embedded: dict[str, np.ndarray], pictures: list[Path]
) -> None:
    model = langadapt.load(runs[name])
    texts, images = model.encode_text(TEXTS).numpy(), model.encode_images(pictures).numpy()
    assert np.ptp(texts, axis=0).max() > 0.1, "the texts must not look alike"
    assert np.ptp(images, axis=0).max() > 0.01, "nor the images"
    if name in PIECES:
        vocabulary = model.artifact.vocabulary
        assert vocabulary is not None
        assert (model.student.text_model.tokenize(TEXTS).ids >= vocabulary.first_id).sum() > len(TEXTS)
    made = [name, f"{name} light"] if name in LIGHT else [name]
    kinds = [*made, *(f"{again} again" for again in AGAIN if again in made)]
    for kind in kinds:
        np.testing.assert_allclose(embedded[f"{kind}.texts"], texts, rtol=0, atol=1e-5)
        np.testing.assert_allclose(embedded[f"{kind}.images"], images, rtol=0, atol=1e-5)
        if not kind.endswith(" again"):
            np.testing.assert_allclose(embedded[f"{kind}.paths"], images, rtol=0, atol=1e-5)


def test_the_artifact_with_module_files_is_still_an_artifact(runs: dict[str, Path], tmp_path: Path) -> None:
    light = Path(shutil.copytree(runs["lora"], tmp_path / "light"))
    model = langadapt.load(light)
    write_module_files(light, model)
    assert torch.equal(langadapt.load(light).encode_text(TEXTS), model.encode_text(TEXTS))


@pytest.mark.parametrize("name", ["tuned", "unigram"])
def test_what_is_published_has_the_module(name: str, runs: dict[str, Path], tmp_path: Path) -> None:
    """With base models on the Hub; by name it is what the folders with light modules are."""
    light = Path(shutil.copytree(runs[name], tmp_path / "light"))
    model = langadapt.load(light)
    bases = {
        role: replace(getattr(model.artifact, role), repo=f"org/{role}", revision="1" * 40)
        for role in ("teacher", "text_model")
    }
    model.artifact = replace(model.artifact, **bases)
    assert set(module_files(light, model)) == {
        path.name for path in light.iterdir() if not (runs[name] / path.name).exists()
    }


def test_pieces_that_were_changed_are_noticed(runs: dict[str, Path], tmp_path: Path) -> None:
    from langadapt.export.module import LanguageAndImages

    light = Path(shutil.copytree(runs["nllb"], tmp_path / "light"))
    write_module_files(light, langadapt.load(light))
    said = json.loads((light / "vocabulary.json").read_text(encoding="utf-8"))
    said["pieces"][0], said["pieces"][1] = said["pieces"][1], said["pieces"][0]
    (light / "vocabulary.json").write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(ValueError, match=r"vocabulary.json is not the file that was written"):
        LanguageAndImages.load(str(light))


def test_a_changed_byte_is_noticed(runs: dict[str, Path], tmp_path: Path) -> None:
    from langadapt.export.module import LanguageAndImages

    model = langadapt.load(runs["frozen"])
    export_sentence_transformers(model, tmp_path / "out", probes=default_probes(model))
    LanguageAndImages.load(str(tmp_path / "out"))
    raw = bytearray((tmp_path / "out" / "adapter.safetensors").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "out" / "adapter.safetensors").write_bytes(raw)
    with pytest.raises(ValueError, match=r"adapter.safetensors is not the file that was written"):
        LanguageAndImages.load(str(tmp_path / "out"))


def test_a_folder_in_use_is_kept(runs: dict[str, Path], tmp_path: Path) -> None:
    model = langadapt.load(runs["frozen"])
    probes = default_probes(model)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(LangadaptError, match="is not empty; choose another --out, or --overwrite"):
        export_sentence_transformers(model, tmp_path / "out", probes=probes)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    export_sentence_transformers(model, tmp_path / "out", probes=probes, overwrite=True)
    assert not (tmp_path / "out" / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_text_model_inside_is_one_of_transformers(runs: dict[str, Path], tmp_path: Path) -> None:
    """Pieces are in its table; what tuning added, which its class has no place for, is not in its file."""
    model = langadapt.load(runs["unigram"])
    export_sentence_transformers(model, tmp_path / "out", probes=default_probes(model))
    found, info = XLMRobertaModel.from_pretrained(
        tmp_path / "out" / "text_model", add_pooling_layer=False, output_loading_info=True
    )
    assert not any(info.values()), info
    rows = new_rows(model.student.text_model)
    assert rows is not None
    assert torch.equal(found.get_input_embeddings().weight[-len(rows) :], rows)


def test_texts_and_images_in_one_list_are_refused(runs: dict[str, Path], pictures: list[Path]) -> None:
    from langadapt.export.sentence_transformers import merged_module

    module = merged_module(langadapt.load(runs["frozen"]))
    with pytest.raises(ValueError, match="encode them in two calls"):
        module.preprocess(["gato", Image.open(pictures[0])])
    with pytest.raises(TypeError, match="ndarray: expected PIL images, paths or bytes"):
        module.preprocess([np.zeros((8, 8, 3))])


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["sentence-transformers", "onnx"])
def test_the_page_says_how_it_is_used(
    tool: str, runs: dict[str, Path], embedded: dict[str, np.ndarray], pictures: list[Path]
) -> None:
    model = langadapt.load(runs["frozen"])
    expected = model.encode_text(["gato rojo en mar"]), model.encode_images(pictures[:1])
    for found, rows in zip(
        (embedded[f"{tool}.page texts"], embedded[f"{tool}.page images"]), expected, strict=True
    ):
        np.testing.assert_allclose(found, rows.numpy(), rtol=0, atol=1e-4)
