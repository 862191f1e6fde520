"""Published with base models that are on the Hub: sentence-transformers needs the name alone."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from own_endpoint import use_endpoint
from PIL import Image
from scored import score
from sealing import reseal
from stand_in import OwnHub
from tiny_tune import stage, tuned, write_pairs

import langadapt
from langadapt.hub.stage import StageOptions, publish

pytestmark = [pytest.mark.slow, pytest.mark.hub]
LORA = {"lora": {"rank": 2}}
TEXTS = ["gato rojo en mar", "perro", "un texto más largo con gato rojo en mar"]
PROGRAM = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "langadapt":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModel
names, texts, picture, out = json.loads(sys.argv[1])
rows = {}
for name in names:
    model = SentenceTransformer(name, trust_remote_code=True, device="cpu")
    rows[name], rows[f"{name} images"] = model.encode(texts), model.encode([Image.open(picture)])
    auto = AutoModel.from_pretrained(name, trust_remote_code=True)
    rows[f"{name} auto"] = auto(auto.preprocess(texts))["sentence_embedding"].detach().numpy()
np.savez(out, **rows)
"""


def test_loaded_by_name_without_langadapt(
    own_hub: OwnHub,
    run: Path,
    teacher_folder: Path,
    text_model_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(picture)
    better = tmp_path / "es-tuned"
    pairs = write_pairs(tmp_path / "pairs", images=12)
    tuned(run, better, stage(pairs, text=["adapters", "layer_norm"], image=[LORA, "projection"]))
    score(better, monkeypatch)
    based = {}
    for role, folder in (("teacher", teacher_folder), ("text_model", text_model_folder)):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        revision = own_hub.state.made(f"base/{role}", **files).head
        based[role] = {"repo": f"base/{role}", "revision": revision, "licence": "MIT", "licence_source": None}
    runs = {"me/clip-es": run, "me/clip-es-tuned": better}
    expected = {}
    for name, folder in runs.items():
        model = langadapt.load(folder)
        expected[name], expected[f"{name} images"] = model.encode_text(TEXTS), model.encode_images([picture])
        expected[f"{name} auto"] = expected[name]
        reseal(folder, **based)
    assert not torch.allclose(expected["me/clip-es images"], expected["me/clip-es-tuned images"], atol=1e-3)

    use_endpoint(monkeypatch, own_hub.url, cache=tmp_path / "author")
    done = {name: publish(folder, options=StageOptions(repo=name)) for name, folder in runs.items()}
    revision, files = own_hub.state.repositories["me/clip-es"].commits[-1]
    assert done["me/clip-es"].commit == revision
    assert {"langadapt_module.py", "modules.json", "adapter.safetensors"} <= files.keys()
    card = files["README.md"].decode()
    assert "base_model:\n- base/teacher\n- base/text_model" in card
    assert "license: apache-2.0" in card
    assert {"config.json", "langadapt_module.json"} <= files.keys()
    assert "- sentence-transformers\n- custom_code\n" in card
    assert 'SentenceTransformer("me/clip-es", trust_remote_code=True)' in card

    out, home = tmp_path / "rows.npz", tmp_path / "reader"
    home.mkdir()
    env = {key: os.environ[key] for key in ("PATH", "OMP_NUM_THREADS") if key in os.environ}
    env |= {"HF_ENDPOINT": own_hub.url, "HF_HOME": str(home), "HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    read = subprocess.run(
        [sys.executable, "-I", "-c", PROGRAM, json.dumps([list(runs), TEXTS, str(picture), str(out)])],
        env=env,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )
    assert read.returncode == 0, read.stderr
    rows = np.load(out)
    assert rows.keys() == expected.keys()
    for name, embedded in expected.items():
        torch.testing.assert_close(torch.from_numpy(rows[name]), embedded, rtol=0, atol=1e-5)
    asked = {line.split("/resolve/")[0] for line in own_hub.state.requests if "/resolve/" in line}
    assert {"GET /me/clip-es", "GET /base/teacher", "GET /base/text_model"} <= asked
