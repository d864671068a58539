from __future__ import annotations

from dataclasses import replace

import pytest
from msgspec import structs

from illama_eval.render.format.glossary import EXPLAINED
from illama_eval.render.models import load_models
from illama_eval.render.page.provenance import (
    boxes_of,
    commands_of,
    identity_of,
    provenance_of,
    remarks_of,
    source_of,
)


@pytest.mark.parametrize("study", ["accuracy", "calibration", "rank", "collapse"])
def test_a_study_alone_makes_a_page_that_names_the_others(run_of, page_of, study):
    run = run_of()
    rows = tuple(row for row in run.rows if row.study == study)
    page = page_of(replace(run, rows=rows, curves=(), verdicts=()))
    assert page.one("section", id=study)
    missing = page.one("section", id="not-measured").text
    measurable = [known for known in EXPLAINED.values() if known.command]
    assert missing.count("illama-eval") == len(measurable) - 1
    assert f"illama-eval {study.replace('calibration', 'calibrate')}" not in missing


def test_the_command_that_made_the_run_repeats_it(run_of, write):
    run = run_of(layers=1, heads=1, tokens=5)
    words = ["illama-eval", "rank", "a b.pth", "--data", "../x\nrm", "--threshold", "0.9"]
    models = load_models([write(replace(run, header={"command": words}))])
    assert commands_of(models) == ["illama-eval rank 'a b.pth' --data '../x rm' --threshold 0.9"]


def test_a_run_without_a_command_line_has_no_command(run_of, page_of):
    run = run_of(layers=1, heads=1, tokens=5)
    assert "To repeat" not in page_of(replace(run, header={})).text


def test_limits_of_the_numbers_are_said(run_of, write):
    run = run_of(layers=1, heads=1, tokens=5)
    rows = tuple(
        structs.replace(row, value=3.0) if row.metric == "nonfinite" else row for row in run.rows
    )
    header = {"unreadable": {"count": 2}, "source": {"images": 60}}
    models = load_models([write(replace(run, header=header, rows=rows))])
    assert boxes_of(models) == [
        "nano: 2 of 60 images could not be read and are left out.",
        "nano: logits were not finite on 3 of 10,000 images, counted as wrong.",
    ]


def test_facts_that_differ_between_runs_are_marked(write_run, tmp_path):
    runs = [
        write_run(
            tmp_path / device, change=lambda header, device=device: header.update(device=device)
        )
        for device in ("cpu", "cuda")
    ]
    (table,) = provenance_of(load_models(runs))
    lines = {line[0].text: [cell.text for cell in line[1:]] for line in table.rows}
    assert lines["\N{NOT EQUAL TO} device"] == ["cpu", "cuda"]
    assert "source.name" in lines


def test_a_model_is_identified_by_digest_shape_and_mask(run_of, write):
    described = {
        "name": "nano",
        "weights_sha256": "0123456789abcdef",
        "config": {"depth": 4, "heads": 3, "width": 96, "masking": "multiplicative"},
        "soft_mask": 0.0,
        "dtype": "fp32",
    }
    header = {"subjects": [described], "images_seen": 1500, "device": "cpu"}
    models = load_models([write(replace(run_of(), header=header))])
    (model,) = models.models
    assert identity_of(models, model).facts == [
        "sha256 01234567",
        "4 layers, 3 heads, width 96",
        "mask multiplicative, soft mask 0.0",
        "fp32",
    ]
    assert source_of(models)[:3] == ["source unknown, 1,500 images", "fingerprint unknown", "cpu"]


def test_files_left_out_and_notes_on_the_images_are_boxes(run_of, write):
    header = {
        "source": {
            "left_out": [{"kind": ".heic", "files": 12, "first": "cat/a.heic"}],
            "notes": ["classes of set are numbered alphabetically: cat = 0"],
        }
    }
    run = run_of(layers=1, heads=1, tokens=5)
    boxes = boxes_of(load_models([write(replace(run, header=header))]))
    assert "Files beside the images that are left out: 12 .heic." in boxes
    assert "classes of set are numbered alphabetically: cat = 0." in boxes


def test_what_was_assumed_is_said_once_and_for_whom(run_of, save, tmp_path):
    run = run_of(subjects=("nano", "micro"))
    both, one = {"text": "the mask"}, {"text": "the crop"}
    subjects = [
        {"name": "nano", "assumptions": [both]},
        {"name": "micro", "assumptions": [both, one]},
    ]
    changed = replace(run, header={**run.header, "subjects": subjects})
    models = load_models([save(changed, tmp_path / "run")])
    assert remarks_of(models) == [
        "assumed: the mask",
        "assumed for \N{BLACK DIAMOND} micro: the crop",
    ]
    assert not [box for box in boxes_of(models) if "assumed" in box]
