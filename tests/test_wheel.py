"""The wheel holds all that the package needs at run time."""

import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from hatchling.builders.wheel import WheelBuilder

import langadapt

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_wheel_works_by_itself(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    inside = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(inside)
        tops = {name.partition("/")[0] for name in archive.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"langadapt"}, "no tools, no tests"
    assert Path(wheel).stat().st_size < 12_000_000
    (facts,) = inside.glob("*.dist-info/METADATA")
    links = re.findall(r"(!?)\[[^]]*\]\(([^)]*)\)", facts.read_text("utf-8"))
    at = f"https://github.com/langadapt/langadapt/{{}}/v{langadapt.__version__}/"
    for image, link in links:
        start = at.format("raw" if image else "blob")
        assert link.startswith("#") or (ROOT / link.removeprefix(start).partition("#")[0]).is_file(), link
    assert sum(bool(image) for image, _ in links) == 1
    assert len(links) > 20
    shipped = {path.relative_to(ROOT) for path in (ROOT / "languages").iterdir()}
    shipped |= {path.relative_to(ROOT) for path in (ROOT / "data_recipes").rglob("*.yaml")}
    assert {path for path in shipped if not (inside / "langadapt" / path).is_file()} == set()

    program = (
        "import json, langadapt, pathlib\n"
        "from langadapt.evaluation.page import Page, page_html\n"
        "from langadapt.quickstart.world import WEIGHTS, write_world\n"
        "from langadapt.recipes import ParallelRecipe, data_recipe, find_language\n"
        "zh = find_language('zh')\n"
        "data = data_recipe(ParallelRecipe, zh.recipe.distill.data[0])\n"
        "page_html(Page(title='x'))\n"
        "assert (pathlib.Path(langadapt.__file__).parent / 'search/templates/demo.html').is_file()\n"
        "assert (pathlib.Path(langadapt.__file__).parent / 'search/templates/demo.css').is_file()\n"
        "write_world(pathlib.Path('world'), parallel=3, tests=1)\n"
        "weights = len(list(WEIGHTS.glob('*/model.safetensors')))\n"
        "print(json.dumps([langadapt.__file__, zh.recipe.native_name, str(data.path), weights]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(inside)},
        capture_output=True,
        text=True,
        check=True,
    )
    package, native_name, data, weights = json.loads(done.stdout)
    assert Path(package).is_relative_to(inside)
    assert Path(data).is_relative_to(inside)
    assert native_name == "中文"
    assert (inside / "langadapt" / "py.typed").is_file()
    assert weights == 2


def test_workflows_name_their_actions_by_commit() -> None:
    paths = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in paths] == ["release", "test"]
    for path in paths:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
        used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
        assert used
        for action in used:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action), action
    release = yaml.safe_load(paths[0].read_text(encoding="utf-8"))
    assert release["permissions"] == {"contents": "read"}
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}, (
        "PyPI trusts it: no token is stored"
    )
