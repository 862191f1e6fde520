"""mteb scores an export on texts against images, as it scores any model; needs the extra `mteb`."""

import json
from pathlib import Path

import pytest
from clean_process import run_clean
from tiny_pictures import noise
from untrained import untrained_run

import langadapt
from langadapt.export.sentence_transformers import default_probes, export_sentence_transformers

PROGRAM = """
import json
from pathlib import Path
import mteb
from datasets import Dataset
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SentenceTransformerEncoderWrapper
from PIL import Image
from sentence_transformers import SentenceTransformer

given = json.loads(Path(sys.argv[1]).read_text())
METADATA = TaskMetadata(
    name="PicturesRetrieval", description="Captions against pictures", reference=None,
    type="Any2AnyRetrieval", category="t2i", modalities=["text", "image"], eval_splits=["test"],
    eval_langs=["spa-Latn"],
    main_score="recall_at_1", dataset={"path": "local", "revision": "1"}, date=("2025-01-01", "2025-01-02"),
    domains=[], task_subtypes=[], license="cc0-1.0", annotations_creators="derived", dialect=[],
    sample_creation="created", bibtex_citation="",
)

class Pictures(AbsTaskRetrieval):
    metadata = METADATA

    def load_data(self, **options):
        pictures = [Image.open(path).convert("RGB") for path in given["images"]]
        numbers = range(len(pictures))
        split = RetrievalSplitData(
            queries=Dataset.from_dict({"id": [f"q{i}" for i in numbers], "text": given["texts"]}),
            corpus=Dataset.from_dict({"id": [f"d{i}" for i in numbers], "image": pictures}),
            relevant_docs={f"q{i}": {f"d{i}": 1} for i in numbers},
            top_ranked=None,
        )
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True

model = SentenceTransformer(given["folder"], trust_remote_code=True, device="cpu")
encoder = SentenceTransformerEncoderWrapper(model)
encoder.mteb_model_meta = encoder.mteb_model_meta.model_copy(update={"modalities": ["text", "image"]})
found = mteb.evaluate(encoder, Pictures(), cache=None, co2_tracker=False, show_progress_bar=False)
scores = found.task_results[0].scores["test"][0]
print(json.dumps({name: scores[name] for name in ("recall_at_1", "recall_at_3", "recall_at_5")}))
"""


@pytest.mark.mteb
def test_scores_are_those_of_the_rows(language_folder: Path, tmp_path: Path) -> None:
    run = untrained_run(language_folder, tmp_path / "run", "text_model.trains=full")
    model = langadapt.load(run)
    export_sentence_transformers(model, tmp_path / "out", probes=default_probes(model))
    paths, texts = (
        [],
        ["gato rojo en mar", "perro azul", "barco", "casa verde en camino", "arbol gris en hogar"],
    )
    for number in range(len(texts)):
        paths.append(tmp_path / f"{number}.png")
        noise((40 + 5 * number, 48), 30 + 20 * number, seed=number).save(paths[-1])
    given = {"folder": str(tmp_path / "out"), "images": [str(path) for path in paths], "texts": texts}
    (tmp_path / "given.json").write_text(json.dumps(given), encoding="utf-8")
    printed = run_clean(PROGRAM, str(tmp_path / "given.json"), home=tmp_path / "home")
    said = json.loads(printed.strip().splitlines()[-1])

    similarity = model.encode_text(texts) @ model.encode_images(paths).T
    ranks = [int((row > row[own]).sum()) for own, row in enumerate(similarity)]
    expected = {f"recall_at_{k}": sum(rank < k for rank in ranks) / len(ranks) for k in (1, 3, 5)}
    assert said == pytest.approx(expected, abs=1e-4)
    assert 0 < expected["recall_at_3"] < 1, "the pictures are told apart, and not all are found"
