"""Options that several commands have, so that they read alike everywhere."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option

from langadapt.errors import DataError, ModelError
from langadapt.files.paths import user_path
from langadapt.recipes.find import is_local_name


def existing(name: str | None) -> str | None:
    """Refuse a run folder that is not there, before torch is imported; `org/name` may be on the Hub."""
    if name is not None and is_local_name(name) and not user_path(name).is_dir():
        raise ModelError(f"{name}: no such artifact folder")
    return name


def new_folder(text: str) -> Any:
    """Option `--out` for a folder to write; where a file is, it is refused before any work."""
    return Option("--out", metavar="DIR", callback=_place_of_folder, help=text)


def own_folder(text: str) -> Any:
    """Option `--out` for a folder that a command fills; one that holds images is somebody's collection."""
    return Option("--out", metavar="DIR", callback=_place_of_own_folder, help=text)


def new_file(name: str, text: str) -> Any:
    """Option for a file to write; where a folder is, it is refused before any work."""
    return Option(name, metavar="FILE", callback=_place_of_file, help=text)


def _place_of_folder(path: Path | None) -> Path | None:
    for place in (path, *path.parents) if path is not None else ():
        if place.exists() and not place.is_dir():
            raise DataError(f"{place}: is a file; name a folder")
    return path


def _place_of_own_folder(path: Path | None) -> Path | None:
    if path is not None and path.is_dir():
        from langadapt.data.pixels import SUFFIXES

        if any(item.name.lower().endswith(SUFFIXES) for item in path.iterdir()):
            raise DataError(f"--out {path}: holds images; name a folder of its own")
    return _place_of_folder(path)


def _place_of_file(path: Path | None) -> Path | None:
    if path is not None:
        _place_of_folder(path.parent)
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name a file in it")
    return path


def check_suffix(path: Path, option: str) -> None:
    """Refuse a file of embeddings whose name ends neither in .npy nor in .parquet."""
    if path.suffix not in (".npy", ".parquet"):
        raise DataError(f"{option} {path}: the name must end in .npy or .parquet")


def parsed_columns(settings: list[str] | None) -> dict[str, str]:
    """Return column by role, as `--column ROLE=NAME` says."""
    columns = {}
    for setting in settings or []:
        role, equals, name = setting.partition("=")
        if not (role and equals and name):
            raise DataError(f"--column {setting}: expected ROLE=NAME, for example english=source")
        columns[role] = name
    return columns


def refused_data_removed(folder: Path, run: Path | None = None) -> AbstractContextManager[None]:
    """Remove what a command wrote into `folder`/data where it is refused before `run` (`folder`) trains."""
    from langadapt.files.atomic import removed_if_refused

    return removed_if_refused(folder / "data", unless=(run or folder) / "log.jsonl")


AsJson = Annotated[bool, Option("--json", help="Print the result as JSON.")]
ClassNames = Annotated[Path | None, Option(metavar="FILE", help="Class names: .txt, .yaml or .json.")]
Columns = Annotated[
    list[str] | None, Option("--column", metavar="ROLE=NAME", help="Which column holds what; else guessed.")
]
Device = Annotated[str | None, Option(help="cpu, cuda, cuda:1, mps; the best by default.")]
JsonFile = Annotated[Path | None, new_file("--json-file", "Also write the result as JSON here.")]
LanguageCode = Annotated[str | None, Option(help="Shipped recipe: a language's code, or a variant.")]
ModelName = Annotated[str, Option("--model", callback=existing, help="Run folder, or org/name on the Hub.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Start again in a used folder.")]
PairNames = Annotated[list[str] | None, Option(help="Table, tar shard or recipe; else the recipe's own.")]
PromptFolder = Annotated[Path | None, Option(metavar="DIR", help="Folder that `langadapt prompts` wrote.")]
RecipePath = Annotated[str | None, Option(help="Path of your own language recipe.")]
RunName = Annotated[str, Argument(metavar="RUN", callback=existing, help="Run folder, or Hub org/name.")]
Settings = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe or stage.")
]
Signatures = Annotated[bool, Option("--signatures", help="Show the conditions of each score.")]
StageRecipe = Annotated[str | None, Option(help="Recipe with this stage; by default the run's own.")]
StudentRun = Annotated[Path | None, Option("--from", help="Run folder to begin with; runs/LANG by default.")]
Track = Annotated[
    Literal["wandb", "tensorboard", "trackio"] | None, Option(help="Also log to this experiment tracker.")
]
TableImages = Annotated[Path | None, Option(help="Folder of a table's images; by default its own.")]
