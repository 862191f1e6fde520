"""Several languages in one run: one recipe, shares of the rows, scores of each, one artifact."""

import json
import shutil
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_language import sentences

import langadapt
from langadapt.cli.distill import beginnings
from langadapt.cli.evaluate import in_language
from langadapt.data.batches import Mixture
from langadapt.data.pairs import Pairs
from langadapt.data.parallel import ParallelSentences, Split, split_by_english
from langadapt.errors import DataError, LangadaptError, ModelError, RecipeError
from langadapt.hub.stage import StageOptions, publish
from langadapt.models import resolve_model
from langadapt.models.student import load_text_model
from langadapt.recipes import DistillStage, LanguageRecipe, TextModelRef, find_language, with_values
from langadapt.recipes.find import universal_recipe
from langadapt.recipes.yaml import dump_recipe, read_yaml
from langadapt.training.distill_start import settled_adapter
from langadapt.training.log import log_entries
from langadapt.training.tune import caption_source


@pytest.fixture(scope="module")
def folder(language_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny language, and a second one of 48 of its sentences read backwards."""
    folder = Path(shutil.copytree(language_folder, tmp_path_factory.mktemp("many") / "es"))
    for name in ("es.yaml", "es-parallel.yaml", "es-test.yaml"):
        text = (folder / name).read_text().replace("es-", "it-").replace("Spanish", "Italian")
        text = text.replace("code: es", "code: it").replace("language: es", "language: it")
        text = text.replace("iso639_3: spa", "iso639_3: ita")
        text = text.replace("language: it\nsource", "language: ita\nsource")
        text = text.replace("[parallel", "[it-parallel").replace("[test", "[it-test").replace("144", "48")
        (folder / name.replace("es", "it", 1)).write_text(text.replace("CC0-1.0", "CC-BY-SA-4.0"))
    rows = [f"{english}\t{' '.join(target.split()[::-1])}\n" for english, target in sentences()[::3]]
    (folder / "it-parallel.tsv").write_text("english\ttarget\n" + "".join(rows))
    head, *lines = (folder / "test.tsv").read_text().splitlines()
    cells = [line.split("\t") for line in lines]
    tests = [f"{image}\t{' '.join(text.split()[::-1])}\t{side}" for image, text, side in cells]
    (folder / "it-test.tsv").write_text("\n".join([head, *tests]) + "\n")
    (folder / "both.yaml").write_text("languages: [./es.yaml, ./it]\ndistill: {language_temperature: 2}\n")
    return folder


def test_recipes_are_joined(folder: Path) -> None:
    found = find_language(str(folder / "both"))
    recipe = found.recipe
    assert (recipe.code, recipe.languages, recipe.name) == ("mul", ("es", "it"), "Spanish, Italian")
    assert [Path(name).name for name in recipe.distill.data] == ["es-parallel.yaml", "it-parallel.yaml"]
    assert all(Path(name).is_file() for name in (*recipe.distill.data, *recipe.evaluate))
    assert (recipe.distill.epochs, recipe.distill.language_temperature) == (4, 2.0)
    told = find_language(f"{folder}/es,{folder}/it.yaml")
    assert (told.recipe.languages, told.path.stem) == (("es", "it"), "es-it")
    assert told.recipe.distill == recipe.distill.model_copy(update={"language_temperature": 3.3})
    (folder / "as-run.yaml").write_text(dump_recipe(recipe))
    assert find_language(str(folder / "as-run")).recipe == recipe


def test_one_language_of_several_is_scored(folder: Path) -> None:
    recipe = find_language(str(folder / "both")).recipe
    italian = in_language(recipe, "ita")
    assert (italian.code, [Path(name).name for name in italian.evaluate]) == ("it", ["it-test.yaml"])
    other = in_language(recipe, "sw")
    assert other.evaluate == find_language("sw").recipe.evaluate, "any that the text model knows"
    with pytest.raises(RecipeError, match="no language 'xx'"):
        in_language(recipe, "xx")


def test_starts_and_english_text_go_by_path_or_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "universal").mkdir(parents=True)
    (tmp_path / "mine.tsv").write_text("english\n")
    assert list(beginnings(["mine.tsv", "cc3m-mt-en-de"], "universal")) == [
        f'distill.english=["{tmp_path}/mine.tsv", "cc3m-mt-en-de"]',
        f'distill.start="{tmp_path}/runs/universal"',
    ]
    assert list(beginnings([], "org/name")) == ['distill.start="org/name"']


def test_data_may_use_the_other_code_of_a_language() -> None:
    """Of one language and of several; `zho` alone says nothing where two scripts of it are joined."""
    assert find_language("zh").recipe.codes == {"zh": "zh", "zho": "zh"}
    both = find_language("zh,sw").recipe
    assert both.codes == {"zh": "zh", "sw": "sw", "zho": "zh", "swa": "sw"}
    assert [one.scripts for one in both.members] == [("Hans", "Hant"), ("Latn",)]
    twice = [one.model_copy(update={"iso639_3": "zho"}) for one in both.each]
    assert both.model_copy(update={"each": tuple(twice)}).codes == {"zh": "zh", "sw": "sw"}


def test_shipped_languages_are_joined_and_english_serves_all_of_the_aligned_model() -> None:
    three = find_language("zh,de,swh").recipe
    assert three.languages == ("zh", "de", "sw")
    own = [find_language(code).recipe.distill.data for code in ("zh", "de", "sw")]
    assert three.distill.data == tuple(name for data in own for name in data)
    assert three.distill.epochs == DistillStage().epochs, "theirs differ"
    everything = universal_recipe()
    assert everything.path.stem == "universal"
    assert {"zh", "de", "sw", "eu"} <= {*everything.recipe.languages}
    assert not {"yo", "qu"} & {*everything.recipe.languages}, "of another text model"


def test_languages_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    def refused(*names: str, own: str = "") -> str:
        (tmp_path / "many.yaml").write_text(f"languages: [{', '.join(names)}]\n{own}")
        with pytest.raises(RecipeError) as error:
            find_language(str(tmp_path / "many"))
        assert "\n" not in str(error.value)
        return str(error.value)

    es, it = str(folder / "es"), str(folder / "it")
    assert "'es' is named twice" in refused(es, it, es)
    assert "name at least one" in refused()
    assert "'mul' is itself of several languages" in refused(str(folder / "both"), it)
    assert "'zh' and 'yo' differ in text_model" in refused("zh", "yo")
    assert "no language 'xx'" in refused("zh", "xx")
    own = "text_model: {repo: ./text}\n"
    (tmp_path / "many.yaml").write_text(f"languages: [zh, yo]\n{own}")
    assert find_language(str(tmp_path / "many")).recipe.text_model.repo == "./text"
    values = read_yaml(folder / "it.yaml")
    values["distill"] |= {"data": [], "english": ["a.tsv"]}
    (folder / "bare.yaml").write_text(json.dumps(values))
    assert "'it' has no parallel data" in refused(es, str(folder / "bare"))


def test_shares_follow_the_temperature_and_rows_come_in_turn() -> None:
    """Of 900, 90 and 10 rows at temperature 2: 30, 9.5 and 3.2 parts of 42.6, their square roots."""
    language = np.repeat([0, 1, 2], [900, 90, 10])

    def mixture(temperature: float) -> Mixture:
        stage = DistillStage(data=("a",), batch_size=10, epochs=1, language_temperature=temperature)
        stage = stage.model_copy(update={"min_steps": 400})
        return Mixture(lengths=np.full(1_000, 9), english=0, language=language, stage=stage)

    assert mixture(1.0).drawn.tolist() == [900, 90, 10]
    assert mixture(2.0).drawn.tolist() == [703, 223, 74]
    even = mixture(1e6)
    assert even.drawn.tolist() == [333, 334, 333]
    for cold in (0.1, 1e-3):  # the shares of the small ones round to no row
        assert mixture(cold).drawn.tolist() == [998, 1, 1]
        assert {0, 1, 2} == {*language[np.concatenate(list(mixture(cold).batches(0, 0)))].tolist()}
    order = list(even.batches(0, 0))
    counts = Counter(np.concatenate(order).tolist())
    assert (even.passes, len(order)) == (4, 400)
    for rows, times in ((range(900), {1, 2}), (range(900, 990), {14, 15}), (range(990, 1_000), {133, 134})):
        assert {counts[row] for row in rows} <= times, "all rows of a language equally often"
    assert all(len(np.unique(language[batch])) > 1 for batch in order[:20]), "languages share the batches"
    rest = list(even.batches(0, 137))
    assert all((a == b).all() for a, b in zip(rest, order[137:], strict=True)), "resumed"


def test_each_language_holds_out_its_own_and_no_english_side_trains() -> None:
    english = [f"sentence {n}" for n in range(1_000)] + [f"sentence {n}" for n in range(100)] + ["alone"] * 5
    language = np.repeat([0, 1, -1], [1_000, 100, 5])
    generator = torch.Generator().manual_seed(0)
    names = ("es", "it")
    made = split_by_english(english, held_out=20, generator=generator, language=language, names=names)
    assert np.bincount(language[made.held_out]).tolist() == [10, 10]
    assert not {english[row] for row in made.held_out} & {english[row] for row in made.train}
    assert {1_100, 1_104} <= {*made.train.tolist()}
    with pytest.raises(DataError, match="it: 5 distinct"):
        split_by_english(
            english[:1_005], held_out=20, generator=generator, language=language[:1_005], names=names
        )


def test_english_that_languages_share_is_held_out_once() -> None:
    def shared(languages: int, count: int) -> tuple[Split, NDArray[np.int64]]:
        language = np.repeat(np.arange(languages), count)
        english = [f"sentence {n}" for n in range(count)] * languages
        generator, names = torch.Generator().manual_seed(0), [f"l{n}" for n in range(languages)]
        return split_by_english(
            english, held_out=1_000, generator=generator, language=language, names=names
        ), language

    for languages, count, each in ((10, 1_000, 100), (100, 200, 10)):
        made, language = shared(languages, count)
        assert np.bincount(language[made.held_out]).tolist() == [each] * languages
        assert np.bincount(language[made.train]).tolist() == [count - each] * languages
        assert not {*(made.train % count).tolist()} & {*(made.held_out % count).tolist()}


def test_a_language_whose_english_others_hold_out_is_named() -> None:
    """2,000 languages have one sentence each of the last one's 20, and hold out a tenth of theirs."""
    own = [[f"{n} {m}" for m in range(19)] + [f"shared {n % 20}"] for n in range(2_000)]
    english = [text for part in own for text in part] + [f"shared {n}" for n in range(20)]
    names = [f"l{n}" for n in range(2_000)] + ["small"]
    with pytest.raises(DataError, match="hold out every English sentence of small; lower distill"):
        split_by_english(
            english,
            held_out=9_999,
            generator=torch.Generator().manual_seed(0),
            language=np.repeat(np.arange(2_001), 20),
            names=names,
        )


def test_the_least_aligned_language_decides_the_shape(
    text_model_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its English is that of another one, whichever comes first."""
    module = sys.modules["langadapt.training.distill_start"]
    monkeypatch.setattr(module, "alignment", lambda _, __, target: 90.0 if target[0] == "hund" else 20.0)
    ref = TextModelRef(repo=str(text_model_folder))
    encoder = load_text_model(resolve_model(ref), ref, max_tokens=77)
    recipe = with_values(LanguageRecipe, find_language(str(folder / "both")).recipe, ["adapter={heads: 2}"])
    said: list[str] = []
    run = SimpleNamespace(
        settled=lambda _, make: str(make()), report=lambda progress: said.append(progress.stage)
    )
    corpora = [
        ParallelSentences(name=code, language=code, english=["dog"], target=[target])
        for code, target in (("de", "hund"), ("qu", "allqu"))
    ]
    for order in (corpora, corpora[::-1]):
        assert settled_adapter(encoder, recipe, order, None, run).adapter.layers == 2
        assert "20 % of the translations from qu, the fewest of 2 languages" in said[-1]
    assert settled_adapter(encoder, recipe, corpora[:1], None, run).adapter.layers == 0


def test_captions_keep_their_language(folder: Path) -> None:
    recipe = find_language(str(folder / "both")).recipe
    values = "title: Own\nlicence: CC0-1.0\nsource: {kind: files, paths: [a.tsv]}\nimages: .\n"
    for code, expected in (("ita", "it"), ("es", "es"), ("und", "mul")):
        (folder / "own.yaml").write_text(f"name: own\nlanguage: {code}\n{values}")
        pairs = Pairs(name="own", images=(), texts=(), image_of_text=np.zeros(0, np.int64), english=None)
        assert caption_source(str(folder / "own.yaml"), pairs, "unchecked", recipe).language == expected


def test_one_run_learns_two_languages(folder: Path, tmp_path: Path) -> None:
    """Trained together, each scores far above chance; log, facts, card and set know both."""
    run = tmp_path / "both"
    settings = {"distill.epochs": 16, "distill.held_out_sentences": 28}
    model = langadapt.distill(find_language(str(folder / "both")), run, settings=settings)
    facts = model.artifact.training
    assert facts["language_rows"].keys() == {"es", "it"}
    assert 1.5 < facts["language_shares"]["es"] / facts["language_shares"]["it"] < 2.0, "root of three"
    assert facts["held_out_recall"] == pytest.approx(sum(facts["held_out_languages"].values()) / 2)
    assert min(facts["held_out_languages"].values()) > 20, "chance is 4"
    last = list(log_entries(run, "held_out"))[-1]
    assert last["languages"].keys() == {"es", "it"}
    cards = langadapt.evaluate(run)
    assert [card.language for card in cards] == ["es", "it"]
    publish(run, options=StageOptions(repo="me/clip-both", local_base_models=True), out=tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "language:\n- es\n- it\n" in card
    assert "| CC0-1.0 |" in card
    assert "| CC-BY-SA-4.0 |" in card
    assert "must be shared under the same terms" in card, "as one of the two corpora asks"
    assert "codes `es it`" in card
    assert "| `it` |" in card
    places = {role: getattr(model.artifact, role).repo for role in ("teacher", "text_model")}
    assert langadapt.load(tmp_path / "out", **places).artifact.recipe.languages == ("es", "it")
    both = langadapt.load_set([run])
    assert both.languages == ("es", "it")
    torch.testing.assert_close(
        both.encode_text(["gato rojo"], language="it"), model.encode_text(["gato rojo"])
    )
    alone = langadapt.distill(
        find_language(str(folder / "it")), tmp_path / "it", settings={"distill.epochs": 1}
    )
    assert alone.artifact.recipe.languages == ()
    with pytest.raises(ModelError, match="two models of the language it"):
        langadapt.load_set([run, tmp_path / "it"])


def test_own_sentences_are_of_one_language(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LangadaptError, match=r"--data is of one language, the recipe of es, it"):
        langadapt.distill(find_language(str(folder / "both")), tmp_path / "x", data=[folder / "parallel.tsv"])
    assert not (tmp_path / "x").exists()
