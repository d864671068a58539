from __future__ import annotations

from functools import partial

from illama_eval.render.tables.quantization import variants_of
from illama_eval.render.terminal.quantization import describe, describe_latency, show_quantization
from illama_eval.results import Row, Run


def test_several_models_are_a_table_of_80_columns(printed, quantized):
    run = Run.load(quantized)
    text = printed(partial(show_quantization, quantized), run)
    assert max(map(len, text.splitlines())) <= 80
    lines = [line.split() for line in text.splitlines()]
    assert [line[:3] for line in lines if line and line[0] in {"w8", "w4"}] == [
        ["w8", "0.911", "0.276"],
        ["w4", "0.511", "0.155"],
    ]


def test_one_model_is_shown_with_all_that_changed(printed, quantized):
    run = Run.load(quantized)
    alone = Run(
        header={**run.header, "subjects": run.header["subjects"][:2]},
        rows=tuple(row for row in run.rows if row.subject != "nano+w4"),
        files=run.files,
    )
    (quantized / "run.json").write_text(alone.to_json(), encoding="utf-8")
    text = printed(partial(show_quantization, quantized), alone)
    title, *lines, verdict = filter(None, text.splitlines())
    assert title.startswith("nano+w8 against nano on cifar10")
    assert [line.split()[0] for line in lines] == ["file", "top-1", "ECE"]
    assert max(map(len, text.splitlines())) <= 80
    assert "clearly worse" in verdict
    every = partial(show_quantization, quantized, everything=True)
    text = " ".join(printed(every, alone).split())
    for words in ("A nano", "B nano+w8", "McNemar", "quantized: 3 layers, 8 bits"):
        assert words in text


def test_a_file_is_described_byte_by_byte(quantized):
    variant, *_ = variants_of(quantized, Run.load(quantized))
    notes = list(describe(variant))
    assert notes[0] == "PTQ."
    assert "left in float: head (excluded)" in notes
    assert "not smoothed: blocks.0.attention.projection (nothing before it takes the factors)" in (
        notes
    )
    assert notes[-1] == (
        "file: 911,000 bytes, 0.276 of fp32 (values 800,000, scale 10,000, zero 0, float 100,000, "
        "header 1,000)"
    )


def test_latency_is_in_milliseconds_with_its_factor_or_its_reason():
    assert list(describe_latency([])) == []
    at = {"batch": 64, "mode": "eager"}
    row = {"study": "speed", "images": 64, "at": at}
    rows = (
        Row(subject="w8", metric="latency", value=0.032, reason="4 CPU threads", **row),
        Row(subject="w8", metric="speedup", value=1.5, **row),
        Row(subject="w8", metric="latency", value=None, reason="not timed", **row),
        Row(subject="w4", metric="latency", value=None, reason="simulated", images=0),
    )
    assert list(describe_latency(rows)) == [
        "w8, batch 64, eager: 32.00 ms, 2,000 images/s, 1.50 x (4 CPU threads)",
        "w8, batch 64, eager: not timed",
        "w4: simulated",
    ]
