"""Who may import what: one rule per folder of design, read from the source."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("illama", "illama_eval")

FLOORS: tuple[tuple[str, ...], ...] = (
    ("illama",),
    ("results", "digests", "statistics", "units"),
    ("cue_conflict",),
    ("study", "probe", "bootstrap", "functional"),
    ("subjects", "compare"),
    ("run", "render"),
    ("quantize", "transfer", "speed", "studies"),
    ("commands",),
    ("cli",),
)
"""Folders and files of illama_eval from the ground up; nothing imports from a floor above."""

DRAWING = (
    *("numpy", "pandas", "matplotlib", "PIL", "rich", "jinja2", "markupsafe", "scipy"),
    "illama.figure_style",
)
STORED = (
    "illama_eval.results",
    "illama_eval.digests",
    "illama_eval.statistics",
    "illama_eval.units",
    "msgspec",
    "numpy",
    "scipy",
)
MEASURED = (
    *STORED,
    "torch",
    "illama.observation",
    "illama.rollout",
    "illama.segmentation_metrics",
    "illama_eval.study",
    "illama_eval.probe",
    "illama_eval.bootstrap",
    "illama_eval.functional",
    "illama_eval.cue_conflict",
)

ALLOWED: dict[str, tuple[str, ...]] = {
    "illama.config": (),
    "illama.figure_style": (),
    "illama.split_attention": ("torch",),
    "illama.masking": ("torch", "illama.observation", "illama.split_attention"),
    "illama.observation": ("torch", "illama.config"),
    "illama.layers": ("torch", "illama.config", "illama.masking", "illama.observation"),
    "illama.rollout": ("torch",),
    "illama.segmentation_metrics": ("torch",),
    "illama.training.recipes": (),
    "illama.training.schedules": (),
    "illama_eval.statistics": ("numpy", "scipy"),
    "illama_eval.results": ("numpy", "pandas", "matplotlib", "msgspec", "illama_eval.results"),
    "illama_eval.digests": ("illama.files", "illama_eval.results"),
    "illama_eval.bootstrap": ("numpy", "torch", "illama_eval.statistics"),
    "illama_eval.study": MEASURED,
    "illama_eval.probe": ("torch", "illama.observation"),
    "illama_eval.functional": (*MEASURED, "threadpoolctl", "illama.arithmetic", "illama.launch"),
    "illama_eval.studies": (*MEASURED, "illama_eval.studies"),
    "illama_eval.compare": (*STORED, "illama.files", "illama.suggestions", "illama_eval.compare"),
    "illama_eval.render": (*STORED, *DRAWING, "illama_eval.compare", "illama_eval.render"),
}
"""All that a folder or a file may import beside the standard library; the longest name counts."""

FORBIDDEN: dict[str, tuple[str, ...]] = {
    "illama": ("illama_eval",),
    "illama_eval.run": ("illama_eval.studies", "illama_eval.render"),
    "illama_eval.quantize": ("illama_eval.render",),
    "illama_eval.transfer": ("illama_eval.render",),
}
"""What a folder that may import much must not."""


def modules() -> dict[str, Path]:
    """Return every module of both packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@cache
def nodes(name: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Return the import statements of a module, those inside functions and for types included."""
    tree = ast.parse(MODULES[name].read_text(encoding="utf-8"))
    return tuple(each for each in ast.walk(tree) if isinstance(each, ast.Import | ast.ImportFrom))


def imports(name: str) -> Iterator[str]:
    """Yield the modules that a module imports."""
    for node in nodes(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: import by the full name"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def lies_in(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}.")


def rule_for(name: str, rules: dict[str, tuple[str, ...]]) -> tuple[str, ...] | None:
    fitting = [folder for folder in rules if lies_in(name, folder)]
    return rules[max(fitting, key=len)] if fitting else None


def floor_of(name: str) -> int | None:
    """Return the floor of a module; None for the front door `illama_eval/__init__.py`."""
    if lies_in(name, "illama"):
        return 0
    room = name.removeprefix("illama_eval").removeprefix(".").split(".")[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found or not room, f"{name}: a new folder needs a floor in FLOORS"
    return found[0] if found else None


def faults(name: str) -> Iterator[str]:
    """Yield what a module imports and must not."""
    allowed, floor = rule_for(name, ALLOWED), floor_of(name)
    for imported in imports(name):
        standard = imported.split(".")[0] in sys.stdlib_module_names
        outside = not any(lies_in(imported, each) for each in allowed or ())
        if allowed is not None and not standard and outside:
            yield f"{name} imports {imported}, which is not in its rule"
        if any(lies_in(imported, each) for each in rule_for(name, FORBIDDEN) or ()):
            yield f"{name} imports {imported}, which it must not know"
        if imported.split(".")[0] in PACKAGES and floor is not None:
            above = floor_of(imported)
            if above is not None and above > floor:
                yield f"{name} imports {imported} from a floor above"


def test_every_module_imports_only_what_its_folder_may():
    found = [fault for name in MODULES for fault in faults(name)]
    assert not found, "\n".join(found)


def test_studies_and_pure_functions_do_not_import_each_other():
    found = [
        f"{name} imports {other}"
        for folder in ("illama_eval.studies", "illama_eval.functional")
        for name in MODULES
        if lies_in(name, folder) and name != folder
        for other in imports(name)
        if lies_in(other, folder)
    ]
    assert not [each for each in found if "functional" not in each], "\n".join(found)


def test_the_evaluation_knows_no_study_by_its_name():
    folder = "illama_eval.studies."
    studies = {name.removeprefix(folder) for name in MODULES if name.startswith(folder)}
    found = [
        f"{name} names the study {node.value}"
        for name in MODULES
        if lies_in(name, "illama_eval.run")
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in studies
    ]
    assert not found, "\n".join(found)


def test_imports_form_no_circle_those_inside_functions_included():
    graph = {name: {other for other in imports(name) if other in MODULES} for name in MODULES}
    TopologicalSorter(graph).prepare()


def test_no_module_takes_a_private_name_from_another():
    found = [
        f"{name} takes {alias.name} from {node.module}"
        for name in MODULES
        for node in nodes(name)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not found, "\n".join(found)


def test_the_top_of_a_package_has_few_files():
    assert len(list((ROOT / "illama_eval").glob("*.py"))) <= 12


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
    free = ("illama_eval.render", "illama_eval.compare", "illama_eval.cli", "illama.cli")
    single = ("illama_eval.commands.options", "illama_eval.commands.report")
    names = [name for name in MODULES if any(lies_in(name, each) for each in free)]
    program = """
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
    if "torch" in sys.modules:
        sys.exit(f"importing {name} loads torch")
"""
    command = [sys.executable, "-c", program, *PACKAGES, *names, *single]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
