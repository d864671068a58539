from __future__ import annotations

import numpy as np
import pytest

from illama.sources.demo_patterns import FULL_TURN, SHAPE_PATTERNS, TEXTURE_PATTERNS, rotate

AXIS = np.arange(-1024, 1024, 8, dtype=np.int32)
PERIOD = np.arange(256, dtype=np.int32)
AREAS = {
    "circle": np.pi * 900**2,
    "square": 1560**2,
    "cross": 4 * 330**2 + 8 * 330 * 650,
    "ring": np.pi * (980**2 - 480**2),
    "hourglass": 2 * 900 * (0.8 * 900 + 240),
}
INK = {
    "stripes": 1 / 2,
    "checks": 1 / 2,
    "zigzags": 1 / 2,
    "dots": np.pi * 84**2 / 256**2,
    "grid": 1 - (176 / 256) ** 2,
    "bricks": 1 - (88 / 128) * (208 / 256),
    "wedges": 1 / 2,
    "crosses": (72 * 200 * 2 - 72**2) / 256**2,
}


def drawn_shape(name):
    return SHAPE_PATTERNS[name](AXIS[None, :], AXIS[:, None])


def drawn_texture(name, across=0, down=0):
    return TEXTURE_PATTERNS[name](PERIOD[None, :] + across, PERIOD[:, None] + down)


@pytest.mark.parametrize("name", AREAS)
def test_shapes_have_the_areas_of_their_outlines(name):
    assert drawn_shape(name).mean() * 2048**2 == pytest.approx(AREAS[name], rel=0.02)


@pytest.mark.parametrize("name", SHAPE_PATTERNS)
def test_every_shape_is_symmetric_unless_it_is_the_crescent_and_stays_inside(name):
    shape = drawn_shape(name)
    mirrored = (shape[:, 1:] == shape[:, :0:-1]).all()
    assert mirrored == (name != "crescent")
    assert not shape[[0, 0, -1, -1], [0, -1, 0, -1]].any()
    assert 0.1 < shape.mean() < 0.7


@pytest.mark.parametrize("name", INK)
def test_textures_have_their_share_of_ink_and_repeat_after_a_period(name):
    texture = drawn_texture(name)
    assert texture.mean() == pytest.approx(INK[name], abs=0.01)
    assert (texture == drawn_texture(name, across=256, down=-512)).all()


def test_rings_and_rays_have_half_their_ink_around_a_centre():
    for name in TEXTURE_PATTERNS.keys() - INK:
        around = TEXTURE_PATTERNS[name](AXIS[None, :], AXIS[:, None])
        assert around.mean() == pytest.approx(1 / 2, abs=0.05)


def test_a_quarter_turn_swaps_the_axes_and_a_full_one_changes_nothing():
    x, y = np.array([3, -5], np.int32), np.array([7, 2], np.int32)
    across, down = rotate(x, y, FULL_TURN // 4)
    assert (across == 1024 * y).all()
    assert (down == -1024 * x).all()
    assert (np.stack(rotate(x, y, -1)) == np.stack(rotate(x, y, FULL_TURN - 1))).all()
