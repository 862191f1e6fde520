"""An artifact changed by somebody who also writes new sums."""

import json
from hashlib import sha256
from pathlib import Path

from langadapt.files.atomic import sealed


def reseal(run: Path, **changes: object) -> None:
    facts = json.loads((run / "artifact.json").read_text(encoding="utf-8"))
    files = {name: sha256((run / name).read_bytes()).hexdigest() for name in facts["files"]}
    (run / "artifact.json").write_text(
        json.dumps(sealed({**facts, "files": files, **changes})), encoding="utf-8"
    )


def reseal_json(path: Path, old: str, new: str) -> None:
    """Replace a text in a sealed file by somebody who also writes a new sum."""
    changed = json.loads(path.read_text(encoding="utf-8").replace(old, new))
    path.write_text(json.dumps(sealed(changed)), encoding="utf-8")
