"""Who may import what: the packages' layers, read from the source."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("illama", "illama_eval")

MEASURING = (
    "torch",
    "numpy",
    "illama.observation",
    "illama.segmentation_metrics",
    "illama_eval.study",
    "illama_eval.cue_conflict",
    "illama_eval.formulas.*",
)
RESULTS = ("illama_eval.results", "illama_eval.statistics", "msgspec")
COMPARED = tuple(
    f"illama_eval.{name}"
    for name in ("measured", "change", "flips", "comparison", "policy", "gate")
)
"""What compares stored runs and judges them."""
DRAWING = ("numpy", "pandas", "matplotlib", "PIL", "rich", "jinja2", "markupsafe")

RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("illama.config", ()),
    ("illama.training.schedules", ()),
    ("illama.training.recipe", ("illama.training.recipes",)),
    ("illama.training.recipes", ()),
    ("illama.masking", ("torch",)),
    ("illama.layers", ("torch", "illama.config", "illama.masking", "illama.observation")),
    ("illama.observation", ("torch", "illama.config")),
    ("illama.segmentation_metrics", ("torch",)),
    (
        "illama.model",
        ("torch", "illama.config", "illama.layers", "illama.masking", "illama.observation"),
    ),
    ("illama_eval.row", ("numpy", "msgspec")),
    ("illama_eval.results", ("numpy", "pandas", "msgspec", "illama_eval.row")),
    ("illama_eval.statistics", ("numpy",)),
    ("illama_eval.study", (*MEASURING, *RESULTS)),
    ("illama_eval.studies", ("illama_eval.study", "illama_eval.studies.*")),
    ("illama_eval.studies.*", (*MEASURING, *RESULTS)),
    ("illama_eval.formulas.*", (*MEASURING, *RESULTS)),
    ("illama_eval.render", (*DRAWING, *RESULTS, *COMPARED, "illama_eval.render.*")),
    (
        "illama_eval.render.*",
        (*DRAWING, *RESULTS, *COMPARED, "illama_eval.render", "illama_eval.render.*"),
    ),
)
"""Allowed imports beside the standard library, by pattern; the first that fits counts."""

AFTERWARDS = ("illama_eval.render*", "illama_eval.cli*", "illama_eval.studies.*")
"""What evaluating knows nothing of."""

FORBIDDEN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("illama", ("illama_eval", "illama_eval.*")),
    ("illama.*", ("illama_eval", "illama_eval.*")),
    (
        "illama_eval.run.loop",
        ("illama_eval.studies*", "illama_eval.render*", "illama_eval.run.evaluate"),
    ),
    (
        "illama_eval.subjects.subject",
        ("illama_eval.studies*", "illama_eval.render*", "illama_eval.run.evaluate"),
    ),
    (
        "illama_eval.quantize.ptq",
        ("illama_eval.studies*", "illama_eval.render*", "illama_eval.run.evaluate"),
    ),
    *(
        (
            f"illama_eval.{name}",
            ("illama_eval.studies*", "illama_eval.render*", "illama_eval.run.evaluate"),
        )
        for name in (
            "control",
            "features",
            "linear_probe",
            "logistic",
            "neighbours",
            "pairing",
            "probed",
            "task",
            "transfer",
        )
    ),
    (
        "illama_eval.run.evaluate",
        ("illama_eval.render*", "illama_eval.cli*", "illama_eval.studies.*"),
    ),
    ("illama_eval.run.job", ("illama_eval.render*", "illama_eval.cli*", "illama_eval.studies.*")),
    (
        "illama_eval.run.finalize",
        ("illama_eval.render*", "illama_eval.cli*", "illama_eval.studies.*"),
    ),
)
"""What a module that may import much must not."""

EXCEPTED = {("illama.cli", "illama_eval"), ("illama.cli", "illama_eval.*")}
"""The roadmap command measures what it trains, inside its function."""


def modules() -> dict[str, Path]:
    """Return every module of both packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(name: str, *, everywhere: bool = True) -> Iterator[str]:
    """Yield the modules that a module imports; of functions and type checks only if asked."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: import by the full name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, p) or name.startswith(f"{p.removesuffix('*')}.") for p in patterns)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_its_layer_may(name):
    allowed = next((rule for pattern, rule in RULES if fnmatch(name, pattern)), None)
    if allowed is None:
        return
    for imported in imports(name):
        standard = imported.split(".")[0] in sys.stdlib_module_names
        assert standard or fits(imported, allowed), f"{name} imports {imported}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_does_not_import_against_the_flow(name):
    patterns = [p for pattern, rule in FORBIDDEN if fnmatch(name, pattern) for p in rule]
    for imported in imports(name):
        if not any((name, p) in EXCEPTED for p in patterns):
            assert not any(fnmatch(imported, p) for p in patterns), f"{name} imports {imported}"


def test_no_study_imports_another():
    for name in MODULES:
        if fnmatch(name, "illama_eval.studies.*"):
            others = [other for other in imports(name) if other.startswith("illama_eval.studies")]
            assert not others, f"{name} imports {others[0]}"


def test_imports_form_no_circle():
    graph = {
        name: {other for other in imports(name, everywhere=False) if other in MODULES}
        for name in MODULES
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_shows_exactly_what_it_lists(package):
    module = importlib.import_module(package)
    shown = {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and name not in {"annotations", "TYPE_CHECKING"}
    }
    assert shown <= set(module.__all__)
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert sorted(module.__all__) == sorted(set(module.__all__))


def test_reading_and_rendering_a_run_does_not_load_torch():
    drawn = [name for name in MODULES if name.startswith("illama_eval.render")]
    front = [name for name in ("illama.cli", "illama_eval.cli") if name in MODULES]
    program = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} loads torch")
"""
    command = [sys.executable, "-c", program, *PACKAGES, *drawn, *front]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
