import numpy as np
from matplotlib.colors import to_rgb

from illama import figure_style
from illama_eval.render.style import palette


def test_colours_are_told_from_the_paper_and_text_can_be_read():
    def luminance(colour):
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        ]
        return np.dot(linear, (0.2126, 0.7152, 0.0722))

    def contrast(one, other):
        dark, light = sorted((luminance(one), luminance(other)))
        return (light + 0.05) / (dark + 0.05)

    for colour, _ in palette.RUNS:
        assert contrast(colour, figure_style.PAPER) >= 3
    for colour in (figure_style.TEXT, figure_style.MUTED):
        assert contrast(colour, figure_style.PAPER) >= 4.5
    for cell, text in zip(palette.SEQUENTIAL, palette.ON_SEQUENTIAL, strict=True):
        assert contrast(cell, text) >= 4.5


def test_a_subject_keeps_its_look_and_more_than_five_are_grey(run_of):
    def looks(count):
        run = run_of(layers=1, heads=1, tokens=5, subjects=[f"s{n}" for n in range(count)])
        return [(look.colour, look.marker) for _, look in palette.looks_of(run)]

    assert looks(1) == looks(2)[1:]
    assert looks(3) == looks(5)[:3]
    assert len(set(looks(5))) == 5
    assert len(set(looks(6))) == 2


def test_random_weights_have_one_look_of_their_own_wherever_they_are(run_of):
    for names in (["random"], ["a", "random+linear"], ["random+knn", "a", "b"]):
        run = run_of(layers=1, heads=1, tokens=5, subjects=names)
        looks = {name: (look.colour, look.marker) for name, look in palette.looks_of(run)}
        trained = [looks[name] for name in names if not name.startswith("random")]
        assert [looks[n] for n in names if n.startswith("random")] == [palette.CONTROL]
        assert palette.CONTROL not in trained
        assert len(set(trained)) == len(trained)
    assert not palette.is_control("randomized")
