from __future__ import annotations

import csv
import io

import pytest

from illama_eval.render.tables.quantization import (
    COLUMNS,
    caption,
    exact_line,
    quantized_line,
    to_csv,
    variants_of,
    write_quantization,
)
from illama_eval.results import Run


def test_every_quantized_model_is_compared_with_the_exact_one(quantized):
    run = Run.load(quantized)
    variants = variants_of(quantized, run)
    assert [each.name for each in variants] == ["nano+w8", "nano+w4"]
    assert {each.compared.subjects for each in variants} == {
        ("nano", "nano+w8"),
        ("nano", "nano+w4"),
    }
    for each in variants:
        (change,) = (c for c in each.compared.changes if (c.metric, c.at) == ("top1", {}))
        assert change.candidate == run.value("accuracy", "top1", each.name).value
        assert each.p_of("top1") == change.p
        assert each.p_of("ece_scaled") is None


def test_lines_have_megabytes_shares_and_changes_in_percent_points(quantized):
    run = Run.load(quantized)
    variants = variants_of(quantized, run)
    first, *lines = [exact_line(run, variants), *map(quantized_line, variants)]
    shown = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
    assert first[:3] == ["nano", "3.300", "1"]
    assert [(line["MB"], line["of fp32"]) for line in shown] == [
        ("0.911", "0.276"),
        ("0.511", "0.155"),
    ]
    assert [line["arithmetic"] for line in shown] == ["integer or float8", "simulated"]
    drop = 100 * (
        run.value("accuracy", "top1", "nano+w4").value - run.value("accuracy", "top1", "nano").value
    )
    change = shown[1]["change pp (paired 95 %)"].split(" (")[0].replace("\N{MINUS SIGN}", "-")
    assert float(change) == pytest.approx(drop, abs=0.05)
    assert {line["flips %"] for line in shown} == {"\N{EM DASH}"}


def test_the_csv_holds_every_byte_and_fractions_with_all_digits(quantized):
    run = Run.load(quantized)
    lines = list(csv.DictReader(io.StringIO(to_csv(variants_of(quantized, run)))))
    assert [line["bytes_total"] for line in lines] == ["911000", "511000"]
    for line in lines:
        before, after = (run.value("accuracy", "top1", n).value for n in ("nano", line["subject"]))
        assert (float(line["top1_before"]), float(line["top1_after"])) == (before, after)
        assert float(line["top1_low"]) <= after - before <= float(line["top1_high"])


def test_a_run_without_quantized_models_has_no_such_table(quantized, write, run_of):
    plain = write(run_of())
    assert write_quantization(plain, Run.load(plain), plain) == []
    written = write_quantization(quantized, Run.load(quantized), quantized)
    assert [path.name for path in written] == [f"quantization{e}" for e in (".csv", ".md", ".tex")]
    text = written[1].read_text("utf-8")
    assert caption(variants_of(quantized, Run.load(quantized))) in text
