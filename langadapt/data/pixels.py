"""The one way to read an image: upright by its EXIF orientation, in 8 bits, RGB.

Exports carry the text of this file, behind that of `files/json.py`.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from langadapt.files.json import read_bytes

# EPS is left out on purpose: opening one starts Ghostscript.
# MPO has a suffix of its own, and JPEG's reader; the newer formats are not in every Pillow.
_KNOWN = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "AVIF", "JPEG2000", "PPM")
SUFFIXES = tuple(sorted(name for name, kind in Image.registered_extensions().items() if kind in _KNOWN))
_FORMATS = tuple(kind for kind in _KNOWN if kind in Image.OPEN)

MOST_IMAGE_BYTES = 1 << 29
_MOST_PIXELS = 89_478_485
_LONGEST_SIDE = 65_535
# Image processors scale the short side to a few hundred pixels: one by ten thousand would fill the memory.
_MOST_OBLONG = 200
_MOST_16_BITS = 65_535

# What Pillow's readers were seen to raise on damaged bytes, and its kin.
_DAMAGED = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(TypeError, LookupError, AttributeError, OverflowError),
)


class ImageError(ValueError):
    """An image that cannot be read; the text says why, and the way out."""


def read_image(source: Image.Image | bytes | str | Path) -> Image.Image:
    """Read an image completely, as RGB, upright by its EXIF orientation: the same pixels from any source.

    Of an animation the first frame counts; transparency is left out. Raise an ImageError for what is not an
    image, damaged or cut off, larger than 89 million pixels, too long or too oblong, or of unknown range; an
    OSError for a path that cannot be read, no regular file, or over 512 MB; a TypeError for another source.
    """
    if not isinstance(source, Image.Image | bytes | str | Path):
        raise TypeError(f"{type(source).__name__}: expected PIL images, paths or bytes of image files")
    raw = read_bytes(Path(source), most_bytes=MOST_IMAGE_BYTES) if isinstance(source, str | Path) else source
    try:
        image = raw if isinstance(raw, Image.Image) else Image.open(io.BytesIO(raw), formats=_FORMATS)
        short, long = sorted(image.size)
        if short * long > _MOST_PIXELS or long > _LONGEST_SIDE:
            raise ImageError(f"{image.width} x {image.height} pixels are too many; scale it down")
        if long > _MOST_OBLONG * short:
            raise ImageError(f"{image.width} x {image.height} pixels are too oblong; crop it")
        return _eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        found = "is not an image of a known kind" if raw else "is empty"
        raise ImageError(f"{found}; replace it or take it out of the captions") from error
    except Image.DecompressionBombError as error:
        raise ImageError("has more than twice 89 million pixels; scale it down") from error
    except _DAMAGED as error:
        raise ImageError(f"damaged image ({error}); fetch it again") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale grey pictures of 16 bits to 8; Pillow itself would cut every value above 255 to white."""
    if not image.mode.startswith(("I", "F")):
        return image
    if image.mode == "F":
        raise ImageError("holds floating-point numbers, whose white nobody states; save it in 8 bits")
    values = np.asarray(image)
    if values.min() < 0 or values.max() > _MOST_16_BITS:
        raise ImageError("holds numbers of 32 bits, whose white nobody states; save it in 8 bits")
    return Image.fromarray((values // 257).astype(np.uint8))
