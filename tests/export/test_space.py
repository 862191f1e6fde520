"""An exported Space starts, answers a search under its own host name, and is what the Hub expects."""

import http.client
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from PIL import Image
from untrained import untrained_run

import langadapt as package
from langadapt.export.space import export_space

NAME = "me-clip-es.hf.space"


@pytest.fixture(scope="module")
def space(
    language_folder: Path,
    teacher_folder: Path,
    text_model_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A Space whose base models and photos are gone from where they were."""
    home = tmp_path_factory.mktemp("space")
    own = home / "own"
    run = untrained_run(language_folder, home / "run")
    shutil.copytree(language_folder / "photos", own / "photos" / "more")
    (own / "photos" / "broken.png").write_bytes(b"no image")
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    Image.new("RGB", (2400, 300), "red").save(own / "photos" / "wide.jpg", exif=exif)
    facts = export_space(str(run), own / "photos", home / "es")
    assert (facts["model"], facts["images"]) == ("model", 13)
    assert [line.partition("photos/")[2].partition(":")[0] for line in facts["failed"]] == ["broken.png"]
    shutil.rmtree(own)
    return home / "es"


def test_its_files(space: Path) -> None:
    _, front, text = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    card = yaml.safe_load(front)
    assert (card["sdk"], card["app_port"], card["title"]) == ("docker", 7860, "Search images in Spanish")
    assert "13 images" in text
    assert (space / "requirements.txt").read_text() == f"langadapt=={package.__version__}\n"
    assert 'CMD ["python", "app.py"]' in (space / "Dockerfile").read_text()
    wide = space / "images" / "wide.jpg.jpg"
    assert Image.open(wide).size == (1600, 200)
    assert b"taken at home" not in wide.read_bytes()
    assert not any(
        str(space.parents[1]).encode() in path.read_bytes() for path in space.rglob("*") if path.is_file()
    )


def wait_for(port: int) -> None:
    """Wait until somebody listens; a minute at most."""
    for _ in range(600):
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.hub
@pytest.mark.enable_socket
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_it_serves(space: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(space, tmp_path / "app"))
    environment = {**os.environ, "PORT": "0", "SPACE_HOST": NAME, "LANGADAPT_CACHE": str(tmp_path / "cache")}
    environment["PYTHONPATH"] = str(Path(package.__file__).parents[1])
    with subprocess.Popen(
        [sys.executable, moved / "app.py"], cwd="/", env=environment, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        try:
            said = next(line for line in server.stderr if " at http" in line)
            port = int(re.findall(r":(\d+)/", said)[0])
            wait_for(port)
            answers = {}
            for host in (NAME, "evil.example"):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", "/?q=gato+rojo", headers={"Host": host})
                answer = connection.getresponse()
                answers[host] = (
                    answer.status,
                    answer.read().decode(),
                    answer.getheader("Content-Security-Policy"),
                )
        finally:
            server.terminate()
            server.stderr.close()
    status, page, policy = answers[NAME]
    assert status == 200
    assert len(re.findall(r"<img ", page)) == 13
    assert str(policy).endswith("frame-ancestors https://huggingface.co")
    assert answers["evil.example"][0] == 403
