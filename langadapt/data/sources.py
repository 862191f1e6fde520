"""From a recipe's source to files on this machine: found, or downloaded and verified."""

import errno
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import tqdm

from langadapt.errors import DataError, MissingDataError
from langadapt.files.atomic import write_text
from langadapt.files.fetch import (
    download,
    download_small,
    fetch_verified,
    http_status,
    hub_problem,
    is_offline,
    one_line,
    with_backoff,
)
from langadapt.files.json import open_regular, read_json
from langadapt.files.paths import user_path
from langadapt.files.store import cache_folder, fingerprint
from langadapt.recipes.data import (
    AlignedFiles,
    DataCard,
    DownloadSource,
    HubSource,
    ParallelRecipe,
    Source,
    TableFiles,
)
from langadapt.recipes.find import RecipeFile

D = TypeVar("D", bound=DataCard)
VARIABLE = "LANGADAPT_DATA"
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2")
_TABLES = (".parquet", *(a + b for a in (".jsonl", ".csv", ".tsv") for b in ("", ".gz", ".bz2", ".zst")))
_PHOTO_WORKERS = 8
_MOST_HEADER_BYTES, _MOST_MEMBER_BYTES = 1 << 20, 1 << 40


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """A file inside a zip or tar archive; is read as it streams, and reads like a path."""

    archive: Path
    name: str

    def __str__(self) -> str:
        return f"{self.archive}: {self.name}"

    @property
    def suffix(self) -> str:
        return Path(self.name).suffix

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """Open for reading; a DataError where the archive is damaged or has no such member."""
        try:
            if self.archive.suffix == ".zip":
                with (
                    open_regular(self.archive) as raw,
                    zipfile.ZipFile(raw) as packed,
                    packed.open(self.name) as file,
                ):
                    yield file
                return
            for tar, member in tar_members(self.archive, "r|*"):
                if member.name.removeprefix("./") == self.name and (found := tar.extractfile(member)):
                    yield found
                    return
        except (zipfile.BadZipFile, tarfile.TarError) as error:
            raise DataError(f"{self.archive}: damaged archive ({error}); remove it and run again") from error
        except KeyError:
            pass
        raise DataError(f"{self.archive}: holds no {self.name}; the archive's layout has changed")


SourceFile = Path | ArchiveMember


def open_source(path: SourceFile) -> AbstractContextManager[IO[bytes]]:
    """Open a file, which must be a regular one, or an archive's member."""
    return open_regular(path) if isinstance(path, Path) else path.open()


def unreadable(path: object, error: OSError) -> DataError:
    """Make the error for a file that the system does not hand out."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file; check the name and the folder")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path}: is a folder; name a file inside it")
    if isinstance(error, PermissionError):
        return DataError(f"{path}: may not be read; change its permissions")
    return DataError(f"{path}: cannot be read: {error.strerror or error}; check the disk and the name")


class _Header(tarfile.TarInfo):
    """Refuses what `tarfile` would follow: sizes below zero, and names or attributes of megabytes."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            header = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.strip(b"\0"):  # or the end; in the midst of an archive the library ends silently, too
                raise tarfile.ReadError(str(error)) from error
            raise
        if header.size < 0 or (header.type not in tarfile.REGULAR_TYPES and header.size > _MOST_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {header.size:,} bytes")
        return header


def tar_members(path: Path, mode: Literal["r:", "r|*"]) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Stream the regular files of a tar archive; raise a DataError where it is damaged or unreadable."""
    try:
        with open_regular(path) as file, tarfile.open(fileobj=file, mode=mode, tarinfo=_Header) as tar:
            for member in tar:
                # Attributes may overwrite the size after the header was read.
                if not 0 <= member.size < _MOST_MEMBER_BYTES:
                    raise tarfile.ReadError(f"{member.name}: {member.size:,} bytes")
                if member.isfile():
                    yield tar, member
    except tarfile.TarError as error:
        way_out = "unpack compressed shards, or fetch it again" if mode == "r:" else "fetch it again"
        raise DataError(f"{path}: not a plain tar file, or damaged ({error}); {way_out}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def source_files(
    found: RecipeFile[D], source: Source | None, names: Sequence[str] | None = None
) -> list[SourceFile]:
    """Return the local files of `names`, or the source's own; fetch what is missing, or say how to."""
    if isinstance(source, HubSource):
        return list(_hub_files(found, source, source.files if names is None else names))
    if isinstance(source, DownloadSource):
        wanted = source.files if names is None else names
        return [_downloaded(found, source, name) for name in wanted or ("",)]
    if names is None and isinstance(source, TableFiles):
        names = source.paths
    return [local_path(found, name) for name in names or ()]


def check_local(found: RecipeFile[ParallelRecipe]) -> None:
    """Raise a MissingDataError where files that a person has to fetch are not here; download nothing."""
    source = found.recipe.source
    if isinstance(source, AlignedFiles):
        source_files(found, None, (source.english, source.target))
    elif isinstance(source, TableFiles):
        source_files(found, source)


def _hub_files(found: RecipeFile[D], source: HubSource, globs: Sequence[str]) -> Iterator[Path]:
    commit, sizes = _listed(source)
    tables = [name for name in sorted(sizes) if name.endswith(_TABLES)]
    chosen = [name for name in tables if any(fnmatch(name, glob) for glob in globs)]
    chosen += sorted({*globs} & {*sizes} - {*tables})
    if not globs:
        chosen = [name for name in tables if _is_of_split(name, source)]
    if not chosen:
        wanted = ", ".join(globs) or f"table of split '{source.split}', config '{source.config or 'default'}'"
        held = ", ".join(sorted(sizes)[:8])
        raise MissingDataError(f"{source.repo}: holds no {wanted} at revision {commit}; it holds {held}")
    if not commit:  # a local folder
        yield from (Path(source.repo) / name for name in chosen)
        return
    place: dict[str, Any] = {"repo_id": source.repo, "repo_type": "dataset", "revision": commit}
    missing = [name for name in chosen if not isinstance(try_to_load_from_cache(filename=name, **place), str)]
    if missing:
        _check_online(source.repo)
        where = f"{len(missing)} files of https://huggingface.co/datasets/{source.repo}"
        _announce(found.recipe, where, sum(sizes[name] for name in missing))
    for name in chosen:
        with _hub_faults(source):
            yield fetch_verified(
                lambda name=name: hf_hub_download(filename=name, **place),  # type: ignore[misc]
                what=f"{source.repo}: {name}",
            )


def _is_of_split(name: str, source: HubSource) -> bool:
    """The Hub's usual names: `config/train-00000-of-00001.parquet`, `data/train.jsonl`, `train/0.parquet`."""
    *folders, file = name.split("/")
    if not file.endswith(_TABLES) or (
        source.config not in (None, "default") and source.config not in folders
    ):
        return False
    return source.split in folders or file.replace("_", "-").replace(".", "-").split("-")[0] == source.split


def _listed(source: HubSource) -> tuple[str, dict[str, int]]:
    """Return a repository's commit and the sizes of its files; a commit is asked for once."""
    folder = Path(source.repo)
    if folder.is_dir():
        return "", {path.relative_to(folder).as_posix(): 0 for path in folder.rglob("*") if path.is_file()}
    key = fingerprint(constants.ENDPOINT, source.repo, source.revision)
    known = cache_folder() / "hub-lists" / f"{key}.json"
    if known.is_file() and (source.revision or is_offline()):
        facts = read_json(known)
    else:
        _check_online(source.repo)
        with _hub_faults(source):
            info = with_backoff(
                lambda: HfApi().dataset_info(source.repo, revision=source.revision, files_metadata=True),
                what=source.repo,
            )
        files = {item.rfilename: item.size or 0 for item in info.siblings or ()}
        facts = {"commit": info.sha, "files": files}
        write_text(known, json.dumps(facts))
    return facts["commit"], facts["files"]


def _download_problem(error: Exception) -> str:
    status = http_status(error)
    if status == 404:
        return "is not there any more (404); look where it has gone and correct the recipe"
    if status is not None:
        return f"is refused by the server ({status})"
    return f"cannot be fetched: {one_line(error):.160}; the next run goes on where this one stopped"


@contextmanager
def _faults(what: str, variable: str, problem: Callable[[Exception], str]) -> Iterator[None]:
    """Turn a fault of a download into one line; `variable` moves downloads to another disk."""
    try:
        yield
    except (HTTPError, HFValidationError, OSError) as error:
        line = problem(error)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            line = f"the disk is full; set {variable} to a larger one; the next run goes on"
        raise MissingDataError(f"{what}: {line}") from error


def _hub_faults(source: HubSource) -> AbstractContextManager[None]:
    problem = partial(hub_problem, repo=source.repo, revision=source.revision, kind="datasets/")
    return _faults(source.repo, "HF_HOME", problem)


def _downloaded(found: RecipeFile[D], source: DownloadSource, name: str) -> SourceFile:
    packed = bool(name) and source.base.endswith(_ARCHIVES)
    url = f"{source.base.rstrip('/')}/{name}" if name and not packed else source.base
    path = _place(url)
    if not path.is_file():
        _check_online(found.recipe.name)
        file = url.removeprefix(source.base).strip("/") or path.name
        sums = {line.split(maxsplit=1)[1]: line.split()[0] for line in source.sha256}
        # A resumed download is announced once.
        announce = cache(lambda size: _announce(found.recipe, url, size))
        with _faults(f"{found.recipe.name}: {url}", VARIABLE, _download_problem):
            download(url, path, sha256=sums.get(file), announce=announce)
    return ArchiveMember(path, name) if packed else path


def fetch_photos(found: RecipeFile[D], base: str, names: Sequence[str]) -> Path:
    """Download missing photos, of `names` below the URL `base`; return their folder. Those that came stay."""
    folder = _place(base.rstrip("/") + "/x").parent
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        _check_online(found.recipe.name)
        _announce(found.recipe, f"{len(missing):,} photos below {base}", 0)

        def fetch(name: str) -> None:
            url = f"{base.rstrip('/')}/{name}"
            with _faults(f"{found.recipe.name}: {url}", VARIABLE, _download_problem):
                download_small(url, _place(url))

        with ThreadPoolExecutor(_PHOTO_WORKERS) as pool:
            jobs = [pool.submit(fetch, name) for name in missing]
            try:
                for job in tqdm(jobs, desc=found.recipe.name):  # type: ignore[no-untyped-call]
                    job.result()
            finally:
                pool.shutdown(cancel_futures=True)
    return folder


def _place(url: str) -> Path:
    """Return where a URL's file goes: below LANGADAPT_DATA, or `data` in the cache."""
    parts = urlsplit(url)
    if ".." in parts.path.split("/"):
        raise DataError(f"{url}: `..` leads out of the folder of downloads; correct the recipe")
    root = os.environ.get(VARIABLE)
    folder = user_path(root) if root else cache_folder() / "data"
    return folder / (parts.hostname or "") / parts.path.strip("/")


def _check_online(name: str) -> None:
    if is_offline():
        way_out = "`langadapt data fetch`, without --offline and HF_HUB_OFFLINE, brings it"
        raise MissingDataError(f"{name}: not on this machine, and nothing is downloaded now; {way_out}")


def _announce(card: DataCard, where: str, size: int) -> None:
    amount = f", {size / 1e6:,.1f} MB" if size else ""
    sys.stderr.write(f"{card.name}: fetching {where}{amount} (licence: {card.licence})\n")


def local_path(found: RecipeFile[D], name: str) -> Path:
    """Return the file or folder that a recipe names; a MissingDataError says how to get it.

    A relative name starts at the recipe's folder, for a shipped recipe at `$LANGADAPT_DATA/<recipe name>`;
    `../other/file` shares the files of another recipe.
    """
    try:
        written = user_path(name)
        if not found.shipped or written.is_absolute():
            path, way_in = found.folder / written, _way_in(found.recipe, str(found.folder))
        else:
            wanted = Path(os.path.normpath(Path(found.recipe.name) / written))
            way_in = _way_in(found.recipe, f"{VARIABLE} as {wanted.parts[0]}/")
            root = os.environ.get(VARIABLE)
            if not root:
                hint = f"`export {VARIABLE}=/folder/of/your/data` sets it"
                raise MissingDataError(f"{found.recipe.name}: {VARIABLE} is not set; {hint}; {way_in}")
            path = user_path(root) / wanted
        if not path.exists():
            raise MissingDataError(f"{path}: no such file or folder; {way_in}")
        return path
    except (OSError, ValueError, RuntimeError) as error:  # too long, a zero byte, nobody's home
        raise DataError(f"{found.path}: '{name:.80}' cannot be a file's name: {error}; correct it") from error


def _way_in(card: DataCard, folder: str) -> str:
    if card.how_to_get:
        return " ".join(card.how_to_get.split())
    if card.access == "request":
        return f"{card.title} must be requested at {card.homepage}; put its folder into {folder}"
    fetch = f"fetch {card.title} from {card.homepage}" if card.homepage else f"fetch {card.title}"
    if card.access == "gated":
        fetch = f"accept the terms of {card.title} at {card.homepage}, fetch it"
    return f"{fetch} and put its folder into {folder}"
