"""The shipped sentences and scenes are those that the grammars compose."""

import gzip

from langadapt.quickstart import world
from langadapt.quickstart.world import SENTENCES, TARGETS
from tools.embedded_world import sentences
from tools.embedded_world.captions import CAPTIONS


def test_shipped_files_hold_what_the_grammars_say_and_nothing_else() -> None:
    composed = sentences.shipped_texts()
    assert {path.name for path in SENTENCES.iterdir()} == composed.keys()
    for name, text in composed.items():
        assert gzip.decompress((SENTENCES / name).read_bytes()).decode() == text, name
        assert (SENTENCES / name).stat().st_size < 2_000_000


def test_reading_gives_what_was_composed() -> None:
    assert list(world.held_out_rows()) == list(sentences.held_out_rows(1_000))
    assert set(CAPTIONS) == {"en", *TARGETS}
    for language in TARGETS:
        assert list(world.parallel_rows(language, 50)) == list(sentences.parallel_rows(language, 50))
