"""Build hook: the README that PyPI shows leads to this version's files in the repository."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class ReadmeHook(MetadataHookInterface):
    """Give the package README.md with absolute links; images are named by their raw files."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set `readme`."""
        base, tag = metadata["urls"]["Repository"], f"v{metadata['version']}"
        text = Path(self.root, "README.md").read_text("utf-8")
        text = re.sub(r"!\[([^]]*)\]\((?!https?:)", rf"![\1]({base}/raw/{tag}/", text)
        text = re.sub(r"(?<=\]\()(?!https?:|#)", f"{base}/blob/{tag}/", text)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
