from __future__ import annotations

import json

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from illama.training.curves import COLOURS, LogError, draw_curves, read_log


@pytest.fixture
def log(tmp_path):
    """Return a function that writes a log with the names of the released logs."""

    def write(name, epochs=4, **extra):
        path = tmp_path / name / "log.jsonl"
        path.parent.mkdir()
        records = [
            {"epoch": k, "train_loss": 3.0 - k / 2, "test_loss": 2.5 - k / 2, "test_acc1": 20.0 * k}
            | {"train_soft_mask_rate": float(k < 2), "n_parameters": 5_701_096, **extra}
            for k in range(epochs)
        ]
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def drawn(monkeypatch):
    """Return the figures that are written."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_, **__: figures.append(self))
    return figures


def words(legend):
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def test_a_log_is_read_by_field_and_epoch(log):
    series = read_log(log("run"))
    assert series["train_loss"] == {0: 3.0, 1: 2.5, 2: 2.0, 3: 1.5}
    assert read_log(log("other").parent)["test_acc1"][3] == 60


def test_an_epoch_written_twice_counts_once_and_a_torn_line_is_passed_over(log):
    path = log("run", epochs=2)
    path.write_text(path.read_text() + '{"epoch": 1, "train_loss": 9, "test_acc1": NaN}\n{"epo')
    series = read_log(path)
    assert series["train_loss"] == {0: 3.0, 1: 9.0}
    assert series["test_acc1"] == {0: 0.0, 1: 20.0}


def test_the_panels_show_loss_accuracy_and_soft_mask(log, drawn):
    draw_curves([log("run")], log("out").with_suffix(".png"))
    titles = [axes.get_title(loc="left") for axes in drawn[0].axes]
    assert titles == ["loss in nats", "test accuracy in %", "soft mask"]
    keys = [words(axes.get_legend()) for axes in drawn[0].axes]
    assert keys == [["train", "test"], [], []]
    assert not drawn[0].legends
    (soft,) = drawn[0].axes[2].get_lines()
    assert list(soft.get_xydata()[:, 1]) == [1, 1, 0, 0, 0]
    assert soft.get_drawstyle() == "steps-post"  # an epoch's mask holds until the next begins


def test_several_runs_are_told_apart_in_one_picture(log, drawn):
    draw_curves([log("one"), log("$two$", test_acc1_at_0=5.0)], log("out"))
    assert words(drawn[0].legends[0]) == ["one", "$two$"]
    accuracy = drawn[0].axes[1]
    assert words(accuracy.get_legend()) == ["current mask", "soft mask 0"]
    assert [line.get_linestyle() for line in accuracy.get_lines()] == ["-", "-", ":"]
    colours = [line.get_color() for line in drawn[0].axes[2].get_lines()]
    assert colours == list(COLOURS[:2])


@pytest.mark.parametrize("equal", [False, True])
def test_runs_of_equal_names_are_both_named_and_equal_ones_drawn_once(log, drawn, tmp_path, equal):
    one = log("run")
    other = tmp_path / "above" / "run" / "log.jsonl"
    other.parent.mkdir(parents=True)
    other.write_text(one.read_text() if equal else one.read_text().replace("3.0", "3.5"))
    draw_curves([one, other], tmp_path / "figure.png")
    names = [f"{tmp_path.name}/run", "above/run"]
    assert words(drawn[0].legends[0]) == ([f"{', '.join(names)} (identical)"] if equal else names)
    assert len(drawn[0].axes[2].get_lines()) == 2 - equal


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_figures_are_written_without_a_display(log, tmp_path, suffix):
    open_before = plt.get_fignums()
    draw_curves([log("run", epochs=1)], tmp_path / f"figure{suffix}")
    assert (tmp_path / f"figure{suffix}").stat().st_size > 1000
    assert plt.get_fignums() == open_before


def test_what_is_no_log_is_refused_in_one_line(log, tmp_path):
    (tmp_path / "poem").write_text("a rose\nis a rose\n")
    (tmp_path / "empty").write_text("")
    for path, words in (
        (tmp_path / "none", "cannot be read"),
        (tmp_path / "poem", "'a rose' is not the record of an epoch"),
        (tmp_path / "empty", "has no epochs"),
    ):
        with pytest.raises(LogError, match=words) as refused:
            draw_curves([path], tmp_path / "figure.png")
        assert "\n" not in str(refused.value)
    with pytest.raises(LogError, match="cannot be written"):
        draw_curves([log("run")], tmp_path / "figure.docx")


@pytest.mark.data
def test_the_log_of_the_shared_checkpoint_is_drawn(shared, tmp_path):
    path = shared / "checkpoints" / "illama_cifar10_nano.log.jsonl"
    draw_curves([path], tmp_path / "figure.png")
    assert len(read_log(path)["test_acc1"]) == 18
