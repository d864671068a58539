from __future__ import annotations

from dataclasses import replace

from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of
from illama_eval.render.page.headline import COVERED, headline_note, headline_table
from illama_eval.results import Run


def test_the_headline_holds_the_most_telling_numbers_with_their_intervals(table, run_of, page_of):
    page = page_of(run_of())
    head, *lines = table(page, "headline")
    assert head == ["study", "metric", "value", "95 % interval", "images"]
    assert len(lines) <= 9
    assert lines[0][:4] == [
        "Accuracy",
        "top-1 accuracy (%) \N{UPWARDS ARROW}",
        "77.34",
        "76.53 to 78.15",
    ]
    assert {line[0] for line in lines} == {"Accuracy", "Calibration", "Attention rank"}
    assert "top-1 accuracy 77.34 % (76.53 to 78.15)" in page.one("p", role="status").text.lower()


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


def test_models_on_different_images_say_so_in_every_column(write_run, tmp_path):
    runs = [
        write_run(tmp_path / name, subject=name, seed=seed) for seed, name in enumerate(("a", "b"))
    ]
    same = document_of(load_models(runs), [], {})
    assert [column.label[2:] for column in same.headline.columns[2:4]] == ["a", "b"]
    for number, run in enumerate(runs):
        stored = Run.load(run)
        source = {"name": f"set{number}", "split": "test", "fingerprint": f"{number}"}
        header = {**stored.header, "source": source, "images_seen": 100 + number}
        (run / "run.json").write_text(replace(stored, header=header).to_json(), encoding="utf-8")
    models = load_models(runs)
    document = document_of(models, [], {})
    assert document.title == "a and b on 2 sets of images"
    heads = ["a on set0/test, 100 images", "b on set1/test, 101 images"]
    tables = [document.headline, *(table for each in document.sections for table in each.tables)]
    for shown in tables:
        if shown.key == "headline" or shown.key.endswith("-numbers"):
            labels = [column.label[2:] for column in shown.columns]
            assert set(heads) <= set(labels), shown.key
    assert [each.facts[0] for each in document.subjects] == [
        f"measured on {head.partition(' on ')[2]}" for head in heads
    ]


def test_more_than_five_models_are_rows_and_what_is_of_single_ones_is_folded(
    run_of, save, tmp_path
):
    names = ("a", "b", "c", "d", "e", "f")
    models = load_models([save(run_of(subjects=names), tmp_path / "run")])
    document = document_of(models, [], {})
    assert document.headline.long
    assert [row[0].text[2:] for row in document.headline.rows] == list(names)
    assert document.headline.columns[1].label == "top-1 accuracy (%) \N{UPWARDS ARROW}"
    assert {len(row) for row in document.headline.rows} == {len(document.headline.columns)}
    assert all(section.folded for section in document.sections)
    few = load_models([save(run_of(subjects=names[:5]), tmp_path / "few")])
    assert not any(section.folded for section in document_of(few, [], {}).sections)


def test_a_series_of_many_is_a_row_for_each_value_and_says_nothing_of_pairs(run_of, save, tmp_path):
    names = [f"epoch {number}" for number in range(1, 8)]
    run = run_of(subjects=names, layers=1, heads=1, tokens=5)
    values = {name: float(number) for number, name in enumerate(names, start=1)}
    series = replace(run, header={**run.header, "variable": {"name": "epoch", "values": values}})
    models = load_models([save(series, tmp_path / "run")])
    table = headline_table(models)
    assert table.columns[0].label == "epoch"
    assert [row[0].text for row in table.rows] == [str(number) for number in range(1, 8)]
    assert headline_note(replace(models, compared={}, apart=())) == COVERED
