import pytest

from illama_eval.render.format.numbers import align, show_images, show_number, show_row
from illama_eval.results import Row


@pytest.mark.parametrize(
    ("value", "half_width", "text"),
    [
        (74.4137, 0.41, "74.41"),
        (74.4137, 4.1, "74.4"),
        (129.4, 12.0, "129"),
        (-0.0123, 0.004, "\N{MINUS SIGN}0.0123"),
        (-0.00001, 0.5, "0.00"),
        (6.9e-16, 0.02, "0.000"),
        (-0.00001, 2e-6, "\N{MINUS SIGN}1.0e\N{MINUS SIGN}5"),
        (2.6e-5, 8.5e-5, "0.00003"),
        (-0.001, 0.5, "0.00"),
        (0.0, 0.0, "0"),
        (1.0, 0.0, "1.000"),
        (3.14e-8, 0.0, "3.1e\N{MINUS SIGN}8"),
        (1234567.0, 0.0, "1,234,567"),
        (float("inf"), 0.0, "\N{EM DASH}"),
    ],
)
def test_digits_follow_the_interval(value, half_width, text):
    assert show_number(value, half_width) == text


def test_a_count_has_no_decimals_and_a_share_of_one_keeps_them():
    count = Row(metric="nonfinite", value=3.0, unit="images", images=5)
    share = Row(metric="top1", value=1.0, low=1.0, high=1.0, images=5)
    assert show_row(count).full == "3 images"
    assert show_row(share).full == "100.0 % (100.0 to 100.0)"


def test_decimal_points_stand_below_each_other():
    assert align(["77.34", "0.5", "8", ""]) == ["77.34", "0.5 ", "8   ", ""]


def test_one_image_is_not_called_images():
    assert [show_images(count) for count in (0, 1, 2500)] == ["0 images", "1 image", "2,500 images"]
