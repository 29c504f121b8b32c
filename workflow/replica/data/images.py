"""Pictures of any kind as pixels of 8 bits, red, green and blue."""

import io
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

from replica.data.parts import DataError

# The modes of Pillow that hold 8 bits a channel or fewer, without and with transparency.
OPAQUE = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB", "HSV")
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")


def decoded(encoded: Iterable[tuple[str, bytes]], size: int | None, orientation: str) -> np.ndarray:
    """Decode pictures of one size, or resize them to one.

    Args:
        encoded: where each picture stands, for messages, and its bytes.
        size: pixels a side to which pictures are resized (bilinear); None leaves them as they are.
        orientation: `upright` turns photographs as their EXIF says, `as stored` does not.

    Returns:
        uint8 (N, 3, H, W).

    Raises:
        DataError: names the first picture that cannot be decoded, has pixels of an unknown range,
            or another size than the first.
    """
    arrays: list[np.ndarray] = []
    first = ""
    for where, data in encoded:
        array = _decoded(where, data, size, orientation)
        if not arrays:
            first = where
        elif array.shape != arrays[0].shape:
            (_, h, w), (_, H, W) = array.shape, arrays[0].shape
            raise DataError(
                f"{where} has {w} x {h} pixels, {first} has {W} x {H}: all images must have the "
                "same size; say one under `size` in config/datasets.yaml to resize them."
            )
        arrays.append(array)
    return np.stack(arrays) if arrays else np.empty((0, 3, 0, 0), np.uint8)


def _decoded(where: str, data: bytes, size: int | None, orientation: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if orientation == "upright":
                image = ImageOps.exif_transpose(image)
            image = rgb(image)
            if size is not None:
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image).transpose(2, 0, 1)
    except Image.DecompressionBombError:
        raise DataError(
            f"{where} is an image of more than {2 * Image.MAX_IMAGE_PIXELS} pixels: make it "
            "smaller, or leave it out."
        ) from None
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    # Decoders of foreign bytes end in any exception; all of them mean the same here.
    except Exception as error:
        words = str(error) or type(error).__name__
        raise DataError(f"{where} holds an image that cannot be decoded: {words}.") from error


def rgb(image: Image.Image) -> Image.Image:
    """A picture as 8-bit RGB.

    Of 16 bits the upper 8 stay (v >> 8). What is transparent is laid over white. Only the first
    picture of several is taken; colour profiles are not applied.

    Raises:
        DataError: pixels are 32-bit or floating-point numbers, whose white nobody states.
    """
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM"):
        # Pillow scales deep PPM to 16 bits, and holds it as 32.
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        if (clear := image.info.get("transparency")) is not None:
            grey[np.asarray(image) == clear] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode not in OPAQUE + TRANSPARENT:
        raise DataError(
            f"its pixels are 32-bit or floating-point numbers ({image.mode}), so which value "
            "is white is unknown: save it with 8 or 16 bits."
        )
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
