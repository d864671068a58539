"""Image decoding and the evaluation transform, equal to the published one bit for bit."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from illama.preprocessing import WHOLE, Channels, Interpolation, Preprocess, TransformOptions

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""What is decoded, by content; Pillow's other decoders are not used on untrusted files."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CROP_RATIO = 224 / 256
"""Side of the centre crop over the short side before it (Wang et al. 2024, released code)."""

MAXIMUM_PIXELS = 64_000_000
MAXIMUM_ASPECT_RATIO = 50
LARGEST_SMALL_MODEL = 32
"""Models of at most this many pixels see the whole image, never a crop of it."""
SMALLEST_WARPING_MODEL = 384
"""Models of at least this many pixels see the whole image, squeezed into a square."""

LEVELS = 256
"""Values of a channel of a pixel."""

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


Resize = Literal["short-side", "warp", "direct"]


class ImageError(ValueError):
    """An image that cannot be measured; the message gives the reason, in one line."""


def check_size(width: int, height: int, *, maximum_pixels: int = MAXIMUM_PIXELS) -> None:
    """Refuse sizes that would exhaust memory, before any pixel is decoded or resized.

    Raises:
        ImageError: more than `maximum_pixels`, an aspect ratio above 50, or no pixel at all.
    """
    if min(width, height) < 1:
        raise ImageError(f"{width} x {height} pixels: the image is empty")
    if width * height > maximum_pixels:
        raise ImageError(
            f"{width} x {height} pixels; at most {maximum_pixels:,} pixels are decoded"
        )
    if max(width, height) > MAXIMUM_ASPECT_RATIO * min(width, height):
        raise ImageError(f"{width} x {height} pixels: aspect ratio above {MAXIMUM_ASPECT_RATIO}")


def decode(
    data: bytes | BinaryIO | Path, *, maximum_pixels: int = MAXIMUM_PIXELS
) -> NDArray[np.uint8]:
    """Decode one image to RGB, uint8 [row, column, 3], recognised by content, not by name.

    Alpha is dropped, EXIF orientation is not applied and only the first frame is read, as in the
    published ImageNet evaluations; 16-bit grey is scaled by 1/257 instead of being clipped.

    Raises:
        ImageError: unreadable, damaged, truncated, too large, too narrow, or floating point.
    """
    origin = f"{data}: " if isinstance(data, Path) else ""
    try:
        with _open(BytesIO(data) if isinstance(data, bytes) else data) as image:
            check_size(*image.size, maximum_pixels=maximum_pixels)
            return _pixels(image)
    except ImageError as error:
        raise ImageError(f"{origin}{error}") from None
    except Image.DecompressionBombError:
        raise ImageError(
            f"{origin}a decompression bomb; at most {maximum_pixels:,} pixels are decoded"
        ) from None
    except UnidentifiedImageError:
        raise ImageError(f"{origin}not an image of {', '.join(FORMATS)}") from None
    except Exception as error:  # noqa: BLE001 - a damaged file makes decoders raise almost anything
        detail = " ".join(f"{type(error).__name__}: {error}".split())
        raise ImageError(f"{origin}cannot be decoded ({detail})") from None


_OPENING = threading.Lock()
"""Warning filters belong to the whole process, and images are read by several threads."""


def _open(file: BinaryIO | Path) -> Image.Image:
    """Open without Pillow's warnings: sizes are checked by us, damaged metadata is not pixels."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(file, formats=FORMATS)


def _pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Convert any supported mode to uint8 [row, column, 3]."""
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known range; save it with 8 bits")
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > np.iinfo(np.uint16).max:
            raise ImageError("integer pixels beyond 16 bits have no known range")
        return np.repeat(((grey + 128) // 257).astype(np.uint8)[..., None], 3, axis=2)
    image.info.pop("transparency", None)  # alpha is dropped; Pillow would warn about palettes
    return np.array(image.convert("RGB"))


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Return an image [row, column, 3] as uint8 [3, row, column], copied."""
    return torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C"))


def color_table(mean: Channels, std: Channels) -> torch.Tensor:
    """Return what each level of each channel becomes, scaled to 0..1 and normalised.

    float32 [3 x 256], one channel after the other.
    """
    levels = torch.arange(LEVELS, dtype=torch.float32).div_(LEVELS - 1)
    shift, scale = (torch.tensor(values)[:, None] for values in (mean, std))
    return levels.sub(shift).div_(scale).flatten()


def look_up(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Return uint8 images as a network takes them, by a `color_table` on their device.

    uint8 [..., 3, row, column] -> float32 of that shape. Looked up rather than computed, values
    are the same on every device: GPUs divide by a constant with an error of rounding.
    """
    starts = LEVELS * torch.arange(3, dtype=torch.int32, device=pixels.device)
    index = pixels + starts[:, None, None]
    return table.index_select(0, index.flatten()).view(pixels.shape)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The part of a transform that makes an image of the model's size: resize and crop."""

    image_size: int
    resize: Resize
    interpolation: Interpolation
    crop_ratio: float

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Return one image at the model's size.

        uint8 [row, column, 3] -> uint8 [3, image_size, image_size].
        """
        side = self.image_size
        if self.resize != "short-side" and image.shape[:2] == (side, side):
            return to_tensor(image)
        return to_tensor(np.asarray(self.frame(Image.fromarray(image))))

    def frame(self, image: Image.Image) -> Image.Image:
        """Return the image at the model's size, resized and cropped."""
        side = self.image_size
        untouched = self.resize != "short-side" and image.size == (side, side)
        return image if untouched else self._resized(image)

    @property
    def short_side(self) -> int:
        """Pixels of the short side before the crop."""
        return int(self.image_size / self.crop_ratio)

    def _resized(self, image: Image.Image) -> Image.Image:
        side, resample = self.image_size, _FILTERS[self.interpolation]
        if self.resize != "short-side":
            return image.resize((side, side), resample)
        short, (width, height) = self.short_side, image.size
        if width <= height:
            size = (short, int(short * height / width))
        else:
            size = (int(short * width / height), short)
        left, top = (round((length - side) / 2) for length in size)
        return image.resize(size, resample).crop((left, top, left + side, top + side))


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The evaluation transform: resize, crop, scale to 0..1, normalise.

    `short-side` resizes the short side to `image_size / crop_ratio` and crops the centre; `warp`
    squeezes the whole image into the square; `direct` does the same for small models, and leaves an
    image of the model's own size untouched. Equal to torchvision's on Pillow images, bit for bit.

    Raises:
        ValueError: a value is unknown or out of range.
    """

    image_size: int
    resize: Resize
    interpolation: Interpolation = "bicubic"
    crop_ratio: float = CROP_RATIO
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        for name, known in (("resize", get_args(Resize)), ("interpolation", tuple(_FILTERS))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"transform: {name}={getattr(self, name)!r} is not one of {', '.join(known)}"
                )
        if self.image_size < 1:
            raise ValueError(f"transform: image_size {self.image_size} is not a positive number")
        if not 0 < self.crop_ratio <= 1:
            raise ValueError(
                f"transform: crop_ratio {self.crop_ratio} is not above 0 and at most 1"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError("transform: mean and std must be finite, and std above 0")

    def with_preprocess(self, preprocess: Preprocess) -> Transform:
        """Return the transform itself (`model`), or the paper's for calibration with its colours.

        The paper's takes the short side and the centre crop at any size, bilinear, as in its
        calibration figures (Wang et al. 2024, section 4).
        """
        if preprocess == "model":
            return self
        return replace(self, resize="short-side", interpolation="bilinear", crop_ratio=CROP_RATIO)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], image_size: int) -> Transform:
        """Return the transform that `to_dict` described, for this size in pixels.

        Raises:
            ValueError: a field is missing, unknown or out of range.
        """
        try:
            colours = {name: tuple(map(float, values[name])) for name in ("mean", "std")}
            if any(len(each) != 3 for each in colours.values()):  # noqa: PLR2004 - RGB
                raise ValueError("mean and std have three numbers each")
            return cls(**{**values, **colours}, image_size=image_size)
        except (KeyError, TypeError) as error:
            raise ValueError(f"transform: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the size as a plain dictionary, for a checkpoint."""
        described = asdict(self)
        del described["image_size"]
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in described.items()
        }

    def with_options(self, options: TransformOptions) -> Transform:
        """Return the transform with what is given changed."""
        given = options.given()
        crop = given.pop("crop", None)
        if crop == WHOLE:
            given["resize"] = "direct" if self.resize == "direct" else "warp"
        elif crop is not None:
            given |= {"resize": "short-side", "crop_ratio": crop}
        return replace(self, **given)

    def __call__(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """Prepare one image, uint8 [row, column, 3] -> float32 [3, image_size, image_size]."""
        return self.normalize(self.geometry(image))

    @property
    def geometry(self) -> Geometry:
        """The resize and the crop, without the colours."""
        return Geometry(
            image_size=self.image_size,
            resize=self.resize,
            interpolation=self.interpolation,
            crop_ratio=self.crop_ratio,
        )

    @cached_property
    def colors(self) -> torch.Tensor:
        """The table of colours for `look_up`, float32 [3 x 256]."""
        return color_table(self.mean, self.std)

    def normalize(self, pixels: torch.Tensor) -> torch.Tensor:
        """Scale and normalise without resizing.

        uint8 [..., 3, row, column] -> float32 of that shape, on the same device.
        """
        return look_up(pixels, self.colors.to(pixels.device))

    def describe(self) -> dict[str, object]:
        """Return the settings that determine the pixels, for the header of a run."""
        crops = self.resize == "short-side"
        return {
            "image_size": self.image_size,
            "resize": self.resize,
            "short_side": self.geometry.short_side if crops else None,
            "crop": "centre" if crops else None,
            "interpolation": self.interpolation,
            "antialias": True,
            "library": "Pillow",
            "mean": list(self.mean),
            "std": list(self.std),
        }


def evaluation_transform(image_size: int) -> Transform:
    """Return the published evaluation transform for a model of `image_size` pixels.

    Up to 32 px straight to the model's size, below 384 px short side and centre crop, from 384 px
    squeezed; bicubic.
    """
    if image_size <= LARGEST_SMALL_MODEL:
        return Transform(image_size=image_size, resize="direct")
    if image_size < SMALLEST_WARPING_MODEL:
        return Transform(image_size=image_size, resize="short-side")
    return Transform(image_size=image_size, resize="warp")
