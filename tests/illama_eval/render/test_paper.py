from __future__ import annotations

import re
from dataclasses import replace

from msgspec import structs

from illama_eval.render.models import load_models
from illama_eval.render.paper import counterpart, read_published
from illama_eval.results import Row


def test_the_papers_numbers_belong_to_its_own_checkpoints_only(run_of, write):
    rows = read_published()
    assert all(0 < row.value <= 1 or row.unit != "fraction" for row in rows)
    assert all(re.fullmatch(r"(Table|Figure) \d+", row.table) for row in rows)
    lineup = load_models([write(run_of())])
    (model,) = lineup.models
    ours = Row(study="accuracy", metric="top1", value=0.751, images=50_000)
    assert counterpart(model, ours) is None
    named = replace(model, header={"subjects": [{"released": "illama-tiny-in1k-75.0"}]})
    assert counterpart(named, ours).shown == "75.0 %"
    assert counterpart(named, structs.replace(ours, images=30)) is None
    assert counterpart(named, structs.replace(ours, metric="top5")) is None


def test_the_papers_number_stands_beside_ours_where_it_is_the_same(table, run_of, page_of):
    run = run_of()
    rows = [structs.replace(row, images=50_000) for row in run.rows]
    header = {**run.header, "subjects": [{"released": "illama-tiny-in1k-75.0"}]}
    head, first, *_ = table(page_of(replace(run, rows=tuple(rows), header=header)), "headline")
    assert (head[-1], first[-1]) == ("the paper's", "75.0 % (Table 6)")
