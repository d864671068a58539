from __future__ import annotations

import pytest
from msgspec.structs import replace

from illama_eval.render.figures.transfer import draw_transfer
from illama_eval.render.style.figure import drawing_style
from illama_eval.results import Curve, Row, Run


def row(metric, value, **at):
    return Row(subject="nano", study="transfer", metric=metric, value=value, images=1797, at=at)


def curve(over, x, y):
    return Curve(
        subject="nano", study="transfer", name="top1", at={"over": over}, x=tuple(x), y=tuple(y)
    )


def drawn(rows, curves=()):
    with drawing_style():
        return {
            one.name: one
            for one in draw_transfer(Run(header={}, rows=tuple(rows), curves=tuple(curves)))
        }


def test_all_training_images_stand_at_their_mean_number_per_class():
    rows = [row("top1", 0.9, shots="all"), row("top1", 0.4, shots=1), row("top1", 0.6, shots=5)]
    rows.append(replace(row("top1_over_draws", 0.4, shots=1), low=0.3, high=0.5))
    found = drawn(rows, [curve("shots", (1.0, 5.0, 143.8), (0.4, 0.6, 0.9))])
    assert list(found) == ["transfer_few_shot"]
    axes = found["transfer_few_shot"].figure.axes[0]
    assert list(axes.lines[0].get_xdata()) == [1, 5, 143.8]
    assert list(axes.lines[0].get_ydata()) == [40, 60, 90]
    ends = axes.collections[0].get_paths()[0].vertices
    assert {y for x, y in ends if x == 1} == {30, 50}
    caption = found["transfer_few_shot"].caption
    assert "40.00\N{NO-BREAK SPACE}% with 1 image per class" in caption
    assert "90.00\N{NO-BREAK SPACE}% with 144 images." in caption


def test_the_chosen_penalty_is_ringed():
    rows = [row("held_out_top1", value, C=c) for c, value in (("0.01", 0.7), ("1", 0.8))]
    rows += [row("chosen_c", 1.0), row("held_out_top1", 0.8)]
    axes = drawn(rows)["transfer_by_c"].figure.axes[0]
    (ring,) = (line for line in axes.lines if line.get_markerfacecolor() == "none")
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (1.0, pytest.approx(80))


def test_neighbours_are_shown_at_the_k_that_was_given():
    rows = [row("top1", value, k=k) for k, value in ((1, 0.9), (20, 0.8))]
    caption = drawn([*rows, row("neighbours", 20.0)])["transfer_by_k"].caption
    assert "80.00\N{NO-BREAK SPACE}% with k = 20." in caption


def test_epochs_are_a_line_and_one_epoch_is_none():
    found = drawn([row("top1", 0.5)], [curve("epoch", (1.0, 2.0), (0.6, 0.5))])
    assert "50.00\N{NO-BREAK SPACE}% after the last of 2 epochs, at most 60.00" in (
        found["transfer_by_epoch"].caption
    )
    assert drawn([row("top1", 0.5)], [curve("epoch", (1.0,), (0.6,))]) == {}
