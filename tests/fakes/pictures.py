"""Small pictures, different for each seed, and their encoded files."""

import io

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 218, width: int = 178) -> np.ndarray:
    """Draws `[height, width, 3]` uint8 with soft blobs, which JPEG hardly changes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 4, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(pixels, kind: str, mode: str | None = None, **options) -> bytes:
    """Encodes an array or a Pillow image; `kind` is Pillow's name of the format."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind, **options)
    return buffer.getvalue()
