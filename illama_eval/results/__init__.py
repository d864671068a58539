"""What a run found, and its form on disk: rows, curves, verdicts under a header."""

from illama_eval.results.arrays import files_of, load_arrays, read_arrays, replicate_table
from illama_eval.results.rows import (
    CURVE_POINTS,
    TOO_FEW,
    At,
    Curve,
    ResultError,
    Row,
    Verdict,
    name_of,
)
from illama_eval.results.run import Run, nested_get

__all__ = [
    "CURVE_POINTS",
    "TOO_FEW",
    "At",
    "Curve",
    "ResultError",
    "Row",
    "Run",
    "Verdict",
    "files_of",
    "load_arrays",
    "name_of",
    "nested_get",
    "read_arrays",
    "replicate_table",
]
