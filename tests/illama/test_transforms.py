from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from illama.transforms import ImageError, Transform, decode, evaluation_transform, to_tensor

RANDOM = np.random.default_rng(0)
GRADIENT = np.stack(
    [np.add.outer(np.arange(48) * 5, np.arange(64) * k) % 256 for k in (1, 2, 4)], axis=-1
).astype(np.uint8)


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is this large and then has no pixels."""
    chunks = b""
    for name, body in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ):
        chunks += struct.pack(">I", len(body)) + name + body
        chunks += struct.pack(">I", zlib.crc32(name + body))
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="module")
def torchvision_transforms(reference):
    return reference("torchvision.transforms")


@pytest.mark.parametrize("image_size", [32, 64, 224, 384])
@pytest.mark.parametrize("preprocess", ["model", "paper-calibration"])
def test_the_transform_equals_torchvisions_bit_for_bit(
    torchvision_transforms, image_size, preprocess
):
    tv = torchvision_transforms
    bicubic, bilinear = tv.InterpolationMode.BICUBIC, tv.InterpolationMode.BILINEAR
    short, crop = tv.Resize(int(image_size / (224 / 256)), bicubic), tv.CenterCrop(image_size)
    if preprocess == "paper-calibration":
        steps = [tv.Resize(short.size, bilinear), crop]
    elif 32 < image_size < 384:
        steps = [short, crop]
    else:
        steps = [tv.Resize((image_size, image_size), bicubic)]
    normalize = tv.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    reference = tv.Compose([*steps, tv.ToTensor(), normalize])
    ours = evaluation_transform(image_size).with_preprocess(preprocess)
    for height, width in [(image_size, image_size), *RANDOM.integers(8, 300, (6, 2)).tolist()]:
        image = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
        assert torch.equal(ours(image), reference(Image.fromarray(image))), (height, width)


def test_the_long_side_is_truncated_and_the_crop_rounded():
    image = RANDOM.integers(0, 256, (451, 300, 3), np.uint8)  # 451 * 256 / 300 = 384.85
    resized = Image.fromarray(image).resize((256, 384), Image.Resampling.BICUBIC)
    expected = torch.tensor(np.array(resized)[80:304, 16:240]).permute(2, 0, 1) / 255
    transform = evaluation_transform(224)
    mean, std = (torch.tensor(values)[:, None, None] for values in (transform.mean, transform.std))
    assert torch.equal(transform(image), (expected - mean) / std)


def test_an_image_of_a_small_models_size_is_untouched():
    image = RANDOM.integers(0, 256, (32, 32, 3), np.uint8)
    seen = evaluation_transform(32)(image)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    assert ((seen * std + mean) * 255).round().permute(1, 2, 0).byte().equal(torch.tensor(image))


@pytest.mark.parametrize(
    ("image_size", "resize", "short_side"),
    [
        (28, "direct", None),
        (32, "direct", None),
        (33, "short-side", 37),
        (224, "short-side", 256),
        (383, "short-side", 437),
        (384, "warp", None),
        (512, "warp", None),
    ],
)
def test_the_rule_follows_the_models_size(image_size, resize, short_side):
    described = evaluation_transform(image_size).describe()
    assert (described["resize"], described["short_side"]) == (resize, short_side)
    assert described["interpolation"] == "bicubic"
    assert json.loads(json.dumps(described)) == described


def test_the_papers_calibration_is_bilinear_and_crops_at_every_size():
    for image_size in (32, 224, 384):
        described = evaluation_transform(image_size).with_preprocess("paper-calibration").describe()
        assert (described["resize"], described["interpolation"]) == ("short-side", "bilinear")


@given(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40))
def test_a_batch_is_normalised_as_its_images_are(images, height, width):
    transform = Transform(image_size=height, resize="direct")
    pixels = RANDOM.integers(0, 256, (images, height, width, 3), np.uint8)
    pixels.flags.writeable = False
    prepared = torch.stack([to_tensor(each) for each in pixels])
    batch = transform.normalize(prepared)
    assert (batch.dtype, batch.shape) == (torch.float32, (images, 3, height, width))
    assert batch.is_contiguous()
    assert torch.equal(batch, torch.stack([transform.normalize(each) for each in prepared]))
    if height == width:
        assert torch.equal(batch[0], transform(pixels[0]))


@given(st.tuples(*[st.floats(0, 1)] * 3), st.tuples(*[st.floats(0.01, 1)] * 3))
def test_the_table_of_colours_has_the_bits_of_the_formula(mean, std):
    transform = Transform(image_size=16, resize="direct", mean=mean, std=std)
    pixels = torch.arange(256, dtype=torch.uint8).expand(3, 256).reshape(3, 16, 16)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    assert torch.equal(transform.normalize(pixels), (pixels / 255 - shift) / scale)


@pytest.mark.parametrize("resize", ["short-side", "warp", "direct"])
def test_the_geometry_keeps_the_pixels_in_eight_bits(resize):
    image = RANDOM.integers(0, 256, (40, 50, 3), np.uint8)
    transform = Transform(image_size=32, resize=resize)
    framed = transform.geometry(image)
    assert (framed.dtype, framed.shape) == (torch.uint8, (3, 32, 32))
    assert (
        framed.permute(1, 2, 0).numpy()
        == np.asarray(transform.geometry.frame(Image.fromarray(image)))
    ).all()
    assert replace(transform, mean=(0.5, 0.5, 0.5)).geometry == transform.geometry


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG"])
def test_every_listed_format_is_decoded_by_content(kind, tmp_path):
    path = tmp_path / "named.wrong"
    path.write_bytes(encode(Image.fromarray(GRADIENT), kind))
    for data in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        image = decode(data)
        assert (image.dtype, image.shape) == (np.uint8, GRADIENT.shape)
    if kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert (image == GRADIENT).all()


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICO", "TGA", "DDS"])
def test_other_formats_stay_closed(kind):
    with pytest.raises(ImageError, match="not an image of JPEG"):
        decode(encode(Image.fromarray(GRADIENT), kind))


def test_sixteen_bits_of_grey_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256 * 256).astype(np.uint16).reshape(256, 256)
    for kind in ("PNG", "TIFF"):
        image = decode(encode(Image.fromarray(ramp), kind))
        assert abs(image.mean() - 127.5) < 1
        assert (image.min(), image.max()) == (0, 255)
    assert (decode(b"P5 2 1 65535 " + struct.pack(">HH", 0, 65535))[0, :, 0] == [0, 255]).all()


@pytest.mark.parametrize("pixels", [np.float32([[0.5]]), np.int32([[1 << 20]])])
def test_pixels_without_a_known_range_are_refused(pixels):
    with pytest.raises(ImageError, match="no known range"):
        decode(encode(Image.fromarray(pixels), "TIFF"))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_what_torchvision_makes_of_it(mode):
    source = Image.fromarray(GRADIENT).convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    data = encode(source, kind)
    assert (decode(data) == np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))).all()


def test_a_transparent_pixel_keeps_its_colour():
    data = encode(Image.new("RGBA", (2, 2), (255, 0, 0, 0)), "PNG")
    assert (decode(data) == (255, 0, 0)).all()


def test_a_palette_with_transparency_passes_without_a_warning():
    palette = Image.fromarray(GRADIENT).quantize(16)
    image = decode(encode(palette, "PNG", transparency=bytes(range(16))))
    assert (image == np.asarray(palette.convert("RGB"))).all()


def test_the_orientation_tag_is_not_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode(encode(Image.fromarray(GRADIENT), "JPEG", exif=exif))
    assert image.shape == GRADIENT.shape


def test_the_first_frame_is_read():
    frames = [Image.new("RGB", (3, 3), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decode(data) == (255, 0, 0)).all()


@pytest.mark.parametrize("width", [8_001, 9_500, 20_000, 60_000])
def test_bombs_are_refused_before_they_are_decoded(width):
    with pytest.raises(ImageError, match="at most 64,000,000"):
        decode(png_header(width, max(8_000, width // 10)))


def test_the_limit_of_pixels_can_be_set():
    data = encode(Image.fromarray(GRADIENT), "PNG")
    assert decode(data, maximum_pixels=48 * 64).shape == GRADIENT.shape
    with pytest.raises(ImageError, match="64 x 48 pixels; at most 3,071 pixels"):
        decode(data, maximum_pixels=48 * 64 - 1)


@pytest.mark.parametrize("size", [(1, 51), (5100, 100)])
def test_absurd_aspect_ratios_are_refused(size):
    with pytest.raises(ImageError, match="aspect ratio"):
        decode(encode(Image.new("L", size), "PNG"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.9])
def test_truncated_images_are_refused(kind, share):
    data = encode(Image.fromarray(GRADIENT), kind)
    with pytest.raises(ImageError):
        decode(data[: int(share * len(data))])


def test_a_jpeg_without_its_end_and_a_png_with_a_false_checksum_are_refused():
    jpeg, png = (encode(Image.fromarray(GRADIENT), kind) for kind in ("JPEG", "PNG"))
    place = png.index(b"IDAT") + 20
    for damaged in (jpeg[:-2], png[:place] + bytes([png[place] ^ 1]) + png[place + 1 :]):
        with pytest.raises(ImageError):
            decode(damaged)


def test_a_text_bomb_is_refused():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "0" * 20_000_000, zip=True)
    with pytest.raises(ImageError):
        decode(encode(Image.fromarray(GRADIENT), "PNG", pnginfo=text))


@pytest.mark.parametrize("data", [b"", b"<html>", b"version https://git-lfs", b"\xff\xd8\xff\xe0"])
def test_what_is_no_image_is_named_in_one_line(data, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"broken\.jpg: ") as caught:
        decode(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_an_unreadable_image(tmp_path):
    with pytest.raises(ImageError, match="FileNotFoundError"):
        decode(tmp_path / "gone.png")


@settings(max_examples=100)
@given(
    st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM"]),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_gives_an_image_or_our_error_and_nothing_else(kind, damage):
    data = bytearray(encode(Image.fromarray(GRADIENT[:8, :8]), kind))
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    with contextlib.suppress(ImageError):
        image = decode(bytes(data))
        assert image.dtype == np.uint8
        assert image.shape[2:] == (3,)
