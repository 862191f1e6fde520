"""Numbered lines of plain, .gz and .zst files: split at line feeds only, UTF-8 or a clear error."""

import codecs
import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import zstandard

from langadapt.errors import DataError

_PACKED_BYTES = 1 << 16
_SIGNATURES = {
    b"\x1f\x8b": "it is gzip data: let its name end in .gz",
    b"\x28\xb5\x2f\xfd": "it is zstd data: let its name end in .zst",
    codecs.BOM_UTF16_LE: "it is UTF-16: save it as UTF-8",
    codecs.BOM_UTF16_BE: "it is UTF-16: save it as UTF-8",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its line feed; `number` counts from 1."""

    number: int
    text: str


def read_lines(path: Path) -> Iterator[Line]:
    """Streams the lines of a text file.

    A byte order mark and the carriage return of CRLF are removed. Only line feeds end a line: U+2028, U+0085
    and vertical tabs are text, because an aligned file that is cut there loses its alignment.

    Args:
        path: text file, also .gz or .zst.

    Raises:
        DataError: no such file, a folder, no permission, damaged compression, a byte that is not UTF-8.
    """
    try:
        for number, raw in enumerate(_raw_lines(path), start=1):
            yield Line(number, _decode(path, number, raw))
    except (gzip.BadGzipFile, zlib.error, EOFError, zstandard.ZstdError) as error:
        raise DataError(
            f"{path}: compressed data are damaged or cut off ({error}); fetch it again"
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: object, error: OSError) -> DataError:
    """The error for a file that the system does not hand out."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: no such file; check the name and the folder")
    if isinstance(error, IsADirectoryError):
        return DataError(f"{path}: is a folder; name a file inside it")
    if isinstance(error, PermissionError):
        return DataError(f"{path}: may not be read; change its permissions")
    return DataError(f"{path}: cannot be read: {error.strerror or error}; check the disk and the name")


def _raw_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as packed:
        if path.suffix.lower() == ".gz":
            with gzip.open(packed) as unpacked:
                yield from unpacked
        elif path.suffix.lower() == ".zst":
            rest = b""
            for piece in _unzstd(packed):
                *whole, rest = (rest + piece).split(b"\n")
                yield from (line + b"\n" for line in whole)
            if rest:
                yield rest
        else:
            yield from packed


def _unzstd(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpacks zstd frames. The library's own stream reader takes a cut-off file for a complete one."""
    unpacker = None
    while raw := packed.read(_PACKED_BYTES):
        while raw:
            unpacker = unpacker or zstandard.ZstdDecompressor().decompressobj()
            yield unpacker.decompress(raw)
            raw = unpacker.unused_data
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise EOFError("ends inside a zstd frame")


def _decode(path: Path, number: int, raw: bytes) -> str:
    body = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        hints = (hint for head, hint in _SIGNATURES.items() if number == 1 and raw.startswith(head))
        byte = error.start + len(raw) - len(body)
        raise DataError(
            f"{path}: line {number}, byte {byte + 1} (0x{raw[byte]:02x}) is not UTF-8; "
            f"{next(hints, 'save the file as UTF-8')}"
        ) from error
    return text.removesuffix("\n").removesuffix("\r")
