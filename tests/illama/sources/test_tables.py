from __future__ import annotations

import pytest

from illama.sources import open_source
from illama.sources.source import SourceError


@pytest.mark.parametrize("column", ["file", "image"])
def test_a_table_labels_a_flat_folder(tmp_path, column, save):
    for number, name in enumerate(("x.png", "y.png", "sub/z.png", "unused.png")):
        save(tmp_path / "images" / name, number)
    table = tmp_path / "labels.csv"
    table.write_text(f"\ufeffid,{column},label\n1,y.png, 5\n2,./sub/z,3\n3,x.png,5\n", "utf-8")
    source = open_source(str(tmp_path / "images"), labels=table)
    assert source.ids == ("y", "sub/z", "x")
    assert source.labels.tolist() == [5, 3, 5]
    assert source.classes is None
    assert [source.read(i)[0, 0, 0] for i in range(3)] == [1, 2, 0]


def test_a_table_of_names_numbers_them_in_sorted_order(tmp_path, save):
    for name in ("x.png", "y.png"):
        save(tmp_path / name)
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nx.png,dog\ny.png,cat\n")
    source = open_source(str(tmp_path), labels=table)
    assert source.classes == ("cat", "dog")
    assert source.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,label\nx.png,1\n", "expected the columns file,label, found"),
        ("", "expected the columns file,label"),
        ("file,label\nx.png\n", "no file or no label"),
        ("file,label\n../x.png,1\n", "not among the images"),
        ("file,label\ngone.png,1\n", "not among the images"),
        ("file,label\nx.png,1\nx,2\n", "more than once"),
        ("file,label\nx.png,\udcff\n", "cannot be read"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tmp_path, text, message, save):
    save(tmp_path / "images" / "x.png")
    table = tmp_path / "labels.csv"
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=message):
        open_source(str(tmp_path / "images"), labels=table)
