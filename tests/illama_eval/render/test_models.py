from __future__ import annotations

from illama_eval.render.models import load_models
from illama_eval.render.page.build import document_of


def test_runs_over_other_images_stand_side_by_side_without_differences(write_run, tmp_path):
    first = write_run(tmp_path / "a")
    second = write_run(
        tmp_path / "b",
        change=lambda header: header["identity"]["source"].update(fingerprint="0" * 64),
    )
    document = document_of(load_models([first, second]), [], {})
    assert [model.name for model in document.subjects] == ["nano (a)", "nano (b)"]
    assert any("source.fingerprint" in box for box in document.boxes)
    labels = [column.label[2:] for column in document.headline.columns[2:]]
    assert labels == ["nano (a)", "nano (b)"]
    assert document.changes is None
    assert "cannot be compared" in document.headline_note


def test_no_two_models_have_one_name(run_of, save, tmp_path):
    run = run_of(layers=1, heads=1, tokens=5)
    folders = [save(run, tmp_path / name / "run") for name in ("a", "b")]
    models = load_models(folders)
    assert [model.name for model in models] == ["nano (run)", "nano (run)\N{PRIME}"]
    assert {row.subject for row in models.run.rows} == {model.name for model in models}
    assert [model.symbol for model in models] == ["\N{BLACK CIRCLE}", "\N{BLACK DIAMOND}"]


def test_a_change_is_paired_and_has_its_interval(write_run, tmp_path):
    runs = [
        write_run(tmp_path / name, accuracy=accuracy, subject=name)
        for name, accuracy in (("a", 0.8), ("b", 0.6))
    ]
    models = load_models(runs)
    change = models.change("a", "b", "accuracy", "top1")
    rows = models.headline["accuracy", "top1"]
    assert change.difference == rows["b"].value - rows["a"].value
    assert change.low <= change.difference <= change.high < 0
    assert models.change("b", "a", "accuracy", "top1") is None
    assert models.change("a", "b", "accuracy", "nonfinite") is None


def test_one_model_needs_no_identity_and_several_without_are_not_compared(run_of, save, tmp_path):
    run = run_of(layers=1, heads=1, tokens=5)
    folders = [save(run, tmp_path / name) for name in ("a", "b")]
    assert not load_models(folders[:1]).apart
    models = load_models(folders)
    assert models.compared == {}
    assert models.apart == ["a: its header lacks identity.source.fingerprint; measure again"]


def test_every_metric_keeps_what_its_header_declares(write_run, tmp_path):
    first = write_run(tmp_path / "a", change=lambda header: header["metrics"].pop("rank"))
    second = write_run(tmp_path / "b", subject="other")
    models = load_models([first, second])
    assert models.run.header["metrics"].keys() == {"accuracy", "calibration", "rank"}
