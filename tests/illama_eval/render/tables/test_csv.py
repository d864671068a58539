import csv
import io

from illama_eval.render.format.escape import sanitize
from illama_eval.render.tables.csv import to_csv, write_tables
from illama_eval.results import Row, Run


def test_csv_holds_fractions_with_all_digits_and_a_column_per_place(run_of):
    run = run_of()
    read = list(csv.DictReader(io.StringIO(to_csv(run.rows))))
    assert len(read) == len(run.rows)
    for row, cells in zip(run.rows, read, strict=True):
        assert float(cells["value"]) == row.value
        assert {key: cells[key] for key in row.at} == {k: str(v) for k, v in row.at.items()}


def test_hostile_names_stay_cells_in_csv(hostile_run, hostile_names):
    rows = [
        row
        for row in hostile_run(hostile_names).rows
        if row.images == 1 and row.study == "accuracy"
    ]
    text = to_csv(rows)
    text.encode("utf-8")
    read = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    assert len(read) == 3 * len(hostile_names)
    for cells, name in zip(read[::3], hostile_names, strict=True):
        assert cells["subject"].removeprefix("'") == sanitize(name)
        assert cells["subject"][0] not in "=+-@"
        assert float(cells["value"]) == -0.5


def test_every_study_has_a_table_in_both_forms(run_of, tmp_path):
    paths = write_tables(run_of(), tmp_path / "tables")
    stems = {"headline", "accuracy", "calibration", "rank", "collapse"}
    assert {path.name for path in paths} == {s + e for s in stems for e in (".csv", ".md", ".tex")}
    assert "| layer | head 1 | head 2 | head 3 |" in (tmp_path / "tables/rank.md").read_text()


def test_study_names_cannot_leave_the_directory(tmp_path):
    rows = [
        Row(subject="s", study=study, metric="m", value=1.0, images=1)
        for study in ("../../x", "x", "headline", "", "CON/\x00")
    ]
    paths = write_tables(Run(header={}, rows=tuple(rows)), tmp_path / "tables")
    assert len(set(paths)) == len(paths) == 18
    assert {path.parent for path in paths} == {tmp_path / "tables"}
