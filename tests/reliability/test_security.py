"""Nothing that comes from outside runs, leaves its folder or learns the token; one test for each promise.

Others stand where the code is: pickles (models/test_artifact.py, models/test_text_model_families.py), YAML
tags and names that lead out (test_fuzz.py), captions in pages (evaluation/test_page.py, search/test_demo.py),
pictures outside the index and foreign hosts (search/test_demo.py).
"""

import ast
import http.server
import inspect
import io
import json
import tarfile
import threading
import traceback
from pathlib import Path
from typing import ClassVar

import pytest
from own_endpoint import use_endpoint
from small_world import small_teacher

import langadapt
from langadapt.cli.search import demo_command, serve_command
from langadapt.data.pairs import load_pairs
from langadapt.errors import DataError, LangadaptError, ModelError
from langadapt.models import load_teacher
from langadapt.models.artifact import read_artifact
from langadapt.models.load import resolve_model
from langadapt.recipes import ModelRef
from langadapt.search.server import is_loopback

PACKAGE = Path(langadapt.__file__).parent
CALLS = [
    (path, node)
    for path in sorted(PACKAGE.rglob("*.py"))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Call)
]


def test_no_shell_no_pickle_and_nothing_is_unpacked() -> None:
    assert len(CALLS) > 3000
    for path, node in CALLS:
        called, where = ast.unparse(node.func), f"{path}:{node.lineno}"
        assert not called.startswith(("os.system", "os.popen", "os.exec", "os.spawn", "subprocess.")), where
        assert called.rpartition(".")[2] not in ("extractall", "unpack_archive", "loads_pickle"), where
        said = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "np.load":
            assert said["allow_pickle"] == "False", where
        if called.endswith("load_dataset"):
            assert "trust_remote_code" not in said, where


def test_code_beside_a_model_never_runs(tmp_path: Path) -> None:
    """A folder that asks for its own classes, as remote code does."""
    folder = small_teacher(tmp_path / "teacher")
    ran = tmp_path / "ran"
    for name in ("modeling_own.py", "own.py"):
        (folder / name).write_text(f"open({str(ran)!r}, 'w').close()\nclass Own: pass\n", encoding="utf-8")
    own = {"AutoConfig": "own.Own", "AutoModel": "modeling_own.Own", "AutoTokenizer": ["own.Own", None]}
    for name in ("config.json", "tokenizer_config.json", "preprocessor_config.json"):
        said = json.loads((folder / name).read_text(encoding="utf-8"))
        said |= {"auto_map": own, "model_type": "own"} if name == "config.json" else {"auto_map": own}
        (folder / name).write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(LangadaptError) as error:
        load_teacher(resolve_model(ModelRef(repo=str(folder))))
    assert "brings code of its own for 'own', which never runs" in str(error.value)
    assert "\n" not in str(error.value)
    assert not ran.exists()
    (folder / "config.json").rename(folder / "open_clip_config.json")
    with pytest.raises(LangadaptError, match="is for open_clip alone; name its copy for transformers"):
        load_teacher(resolve_model(ModelRef(repo=str(folder))))


def test_names_in_a_tar_shard_reach_no_file(tmp_path: Path) -> None:
    """Members are read where they lie: neither written elsewhere nor followed."""
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret", encoding="utf-8")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in (
            ("../../up.jpg", b"x"),
            ("../../up.txt", b"gato"),
            ("/abs.jpg", b"x"),
            ("/abs.txt", b"y"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for kind, name in (
            (tarfile.SYMTYPE, "l.txt"),
            (tarfile.LNKTYPE, "h.txt"),
            (tarfile.FIFOTYPE, "f.jpg"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            tar.addfile(member)
    shard = tmp_path / "in" / "s.tar"
    shard.parent.mkdir()
    shard.write_bytes(out.getvalue())
    pairs = load_pairs(str(shard))
    assert pairs.texts == ("gato", "y")
    assert [image.read_bytes() for image in pairs.images] == [b"x", b"x"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["in", "s.tar", "secret.txt"]


def test_a_tar_shard_with_a_damaged_record_is_one_line(tmp_path: Path) -> None:
    """Found by reading: a `.json` member that was none showed a traceback."""
    for record in (b"{", b"[1]", b"7", b"[" * 5000):
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            for name, content in (("0.jpg", b"x"), ("0.json", record)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        with pytest.raises(DataError, match=r"0\.json"):
            load_pairs(str(tmp_path / "s.tar"))


class Echo(http.server.BaseHTTPRequestHandler):
    """Sends back what it was sent, as a badly set up proxy does."""

    heard: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.heard.append(str(self.headers.get("Authorization")))
        body = json.dumps({"error": f"not for {self.headers.get('Authorization')}"}).encode()
        self.send_response(418)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Error-Message", f"not for {self.headers.get('Authorization')}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


@pytest.mark.hub
def test_the_token_is_in_no_error(
    socket_enabled: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    use_endpoint(monkeypatch, f"http://127.0.0.1:{server.server_port}", cache=tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_" + "s" * 34)
    for call in (lambda: resolve_model(ModelRef(repo="me/it")), lambda: read_artifact("me/it")):
        with pytest.raises(ModelError) as error:
            call()
        assert "sssss" not in "".join(traceback.format_exception(error.value))
    server.shutdown()
    assert any("sssss" in said for said in Echo.heard), "it was sent, and sent back"


def test_servers_listen_on_this_machine_alone_unless_told() -> None:
    for command in (demo_command, serve_command):
        assert inspect.signature(command).parameters["host"].default == "127.0.0.1"
    assert is_loopback("127.0.0.1")
    assert not is_loopback("0.0.0.0")
