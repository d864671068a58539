from __future__ import annotations

from illama_eval.render import write_report
from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of


def test_two_runs_have_paired_differences_and_say_what_intervals_cover(
    table, write_run, tmp_path, read_page
):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for name, accuracy, seed in (("a", 0.8, 0), ("b", 0.6, 1))
    ]
    out = tmp_path / "out"
    write_report(runs, out)
    page = read_page((out / "report.html").read_text("utf-8"))
    head, *lines = table(page, "headline")
    assert head[2:5] == [
        "\N{BLACK CIRCLE} a",
        "\N{BLACK DIAMOND} b",
        "\N{BLACK DIAMOND} \N{MINUS SIGN} \N{BLACK CIRCLE}, paired",
    ]
    found = {line[1]: line[-1] for line in lines}
    assert found["top-1 accuracy (%) \N{UPWARDS ARROW}"] == "\N{BLACK CIRCLE} better"
    assert found["rank per image (index)"] == "differs"
    assert "not training seeds" in page.one("section", id="headline-section").text
    assert "McNemar" in page.one("section", id="changes").text
    flips = table(page, "flips-0")
    assert sum(int(cell) for line in flips[1:] for cell in line[1:]) == 400
    assert (out / "tables" / "models.tex").read_text("utf-8").count("\\toprule") == 1


def test_best_is_marked_only_where_every_paired_interval_excludes_zero(write_run, tmp_path):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, seed=seed, subject=name)
        for name, accuracy, seed in (("a", 0.8, 0), ("b", 0.6, 1), ("c", 0.5, 2))
    ]
    lineup = load_models(runs)
    document = document_of(lineup, [], {})
    best = {
        row[1].text: [cell.text for cell in row[2:] if cell.text.endswith(" best")]
        for row in document.headline.rows
    }
    assert len(best["top-1 accuracy (%) \N{UPWARDS ARROW}"]) == 1
    assert best["rank per image (index)"] == []
    near = [
        write_run(tmp_path / name, seed=seed, subject=name)
        for seed, name in enumerate(("d", "e", "f"))
    ]
    document = document_of(load_models(near), [], {})
    assert not any(cell.text.endswith("best") for row in document.headline.rows for cell in row)


def test_runs_over_other_images_stand_side_by_side_without_differences(write_run, tmp_path):
    first = write_run(tmp_path / "a")
    second = write_run(
        tmp_path / "b",
        change=lambda header: header["identity"]["source"].update(fingerprint="0" * 64),
    )
    document = document_of(load_models([first, second]), [], {})
    assert [model.name for model in document.subjects] == ["nano (a)", "nano (b)"]
    assert any("source.fingerprint" in box for box in document.boxes)
    assert {row[-1].text for row in document.headline.rows} == {"not paired"}
    assert "cannot be compared" in document.headline_note
