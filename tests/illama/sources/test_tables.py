from __future__ import annotations

import pytest

from illama.sources import open_source
from illama.sources.head import for_head
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


def labeled(tmp_path, save, labels):
    for number in range(len(labels)):
        save(tmp_path / "images" / f"{number}.png")
    rows = "".join(f"{number}.png,{label}\n" for number, label in enumerate(labels))
    (tmp_path / "labels.csv").write_text(f"file,label\n{rows}")
    return open_source(str(tmp_path / "images"), labels=tmp_path / "labels.csv")


def test_numbers_in_a_table_are_numbers_however_they_are_written(tmp_path, save):
    source = labeled(tmp_path, save, [f"{number}.0" for number in range(12)])
    assert source.labels.tolist() == list(range(12))
    assert source.classes is None


@pytest.mark.parametrize("odd", ["0.5", "cat", "nan", "1e1"])
def test_labels_that_are_partly_numbers_are_refused(tmp_path, save, odd):
    with pytest.raises(SourceError, match=f"label '{odd}' is not a whole number, and"):
        labeled(tmp_path, save, ["3", odd])


def test_a_range_is_checked_before_a_limit_can_hide_it(tmp_path, save):
    source = labeled(tmp_path, save, range(1, 11))
    with pytest.raises(SourceError, match="they count from 1 to 10, so subtract 1 from each"):
        for_head(source, 10)


def test_a_label_beyond_any_index_is_refused(tmp_path, save):
    with pytest.raises(SourceError, match="is no index of a class"):
        labeled(tmp_path, save, [0, 10**20])


def test_the_development_kits_labels_are_refused_with_what_to_do(tmp_path, save):
    save(tmp_path / "images" / "ILSVRC2012_val_00000001.JPEG")
    table = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    table.write_text("490\n")
    with pytest.raises(SourceError, match="ILSVRC2012_IDs, from 1 and in another order"):
        open_source(str(tmp_path / "images"), labels=table)


def test_images_that_a_table_does_not_list_are_counted(tmp_path, save):
    save(tmp_path / "images" / "unlisted.png")
    source = labeled(tmp_path, save, [0, 1])
    assert [each[:2] for each in source.left_out] == [("not in labels.csv", 1)]
