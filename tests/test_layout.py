"""The tests mirror the tree: a test file per module, of its name and place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGES = ("illama", "illama_eval")

ELSEWHERE: Mapping[str, str] = {
    "illama/checkpoint/containers.py": "illama/checkpoint/test_load.py",
    "illama/checkpoint/heads.py": "illama/checkpoint/test_load.py",
    "illama/checkpoint/quantized_weight.py": "illama/checkpoint/test_quantized.py",
    "illama/checkpoint/shards.py": "illama/checkpoint/test_load.py",
    "illama/sources/contents.py": "illama/sources/test_source.py",
    "illama/sources/listing.py": "illama/sources/test_folder.py",
    "illama/sources/numbering.py": "illama/sources/test_folder.py",
    "illama/sources/summary.py": "illama/sources/test_source.py",
    "illama/figure_style.py": "illama/training/test_curves.py",
    "illama/training/recipes.py": "illama/training/test_recipe.py",
    "illama/training/task.py": "illama/training/test_classification.py",
    "illama_eval/cli/app.py": "illama_eval/cli/test_evaluate.py",
    "illama_eval/cli/series.py": "illama_eval/commands/test_series.py",
    "illama_eval/commands/directories.py": "illama_eval/commands/test_identity.py",
    "illama_eval/commands/inputs.py": "illama_eval/commands/test_resolve.py",
    "illama_eval/commands/report.py": "illama_eval/cli/test_report.py",
    "illama_eval/commands/table.py": "illama_eval/cli/test_table.py",
    "illama_eval/compare/change.py": "illama_eval/compare/test_comparison.py",
    "illama_eval/functional/layer_rules.py": "illama_eval/studies/test_collapse.py",
    "illama_eval/render/figures/causality.py": "illama_eval/render/figures/test_draw.py",
    "illama_eval/render/figures/distance.py": "illama_eval/render/figures/test_draw.py",
    "illama_eval/render/figures/depth.py": "illama_eval/render/figures/test_draw.py",
    "illama_eval/render/figures/prefix.py": "illama_eval/render/figures/test_draw.py",
    "illama_eval/render/figures/rank_by_images.py": "illama_eval/render/figures/test_draw.py",
    "illama_eval/render/figures/series.py": "illama_eval/commands/test_series.py",
    "illama_eval/run/probing.py": "illama_eval/run/test_loop.py",
    "illama_eval/subjects/timm_models.py": "illama_eval/subjects/test_timm.py",
}
"""Modules without a test file of their own -> the one whose tests go through them.

They are tables, a protocol, and parts of a module that is tested whole. A new module is not to be
added here where a test file of its own is as easy.
"""

WHOLE = frozenset(
    {
        "devices/test_command_line.py",
        "devices/test_devices.py",
        "devices/test_training.py",
        "gpu/test_gpu.py",
        "gpu/test_quantize.py",
        "illama/test_golden.py",
        "illama/training/test_loop_resume.py",
        "illama_eval/cli/test_gate.py",
        "illama_eval/cli/test_segment.py",
        "illama_eval/cli/test_shape_bias.py",
        "illama_eval/commands/test_identity.py",
        "illama_eval/compare/test_error_rates.py",
        "illama_eval/render/page/test_browser.py",
        "illama_eval/run/test_groups.py",
        "illama_eval/subjects/test_architectures.py",
        "illama_eval/subjects/test_real_models.py",
        "illama_eval/test_contract.py",
        "illama_eval/test_coverage.py",
        "illama_eval/test_demo.py",
        "illama_eval/test_readme.py",
        "illama_eval/test_regression.py",
        "test_docs.py",
        "test_imports.py",
        "test_layout.py",
    }
)
"""Test files of more than a module: contracts, simulations, commands from end to end, devices."""


def modules() -> Iterator[Path]:
    """Yield every module but `__init__`, as a path from the root."""
    for package in PACKAGES:
        for path in sorted((TESTS.parent / package).rglob("*.py")):
            if path.stem != "__init__":
                yield path.relative_to(TESTS.parent)


def own(module: Path) -> Path:
    """Return the test file of a module's name and place, from the folder of the tests."""
    return module.with_name(f"test_{module.name}")


def test_every_module_has_its_test_file_or_one_that_goes_through_it():
    lacking = [
        str(module)
        for module in modules()
        if not (TESTS / own(module)).exists() and str(module) not in ELSEWHERE
    ]
    assert not lacking, f"no test file, and not in ELSEWHERE: {', '.join(lacking)}"


def test_what_is_said_to_be_tested_elsewhere_is():
    known = {str(module) for module in modules()}
    stale = [module for module in ELSEWHERE if module not in known]
    stale += [module for module in ELSEWHERE if (TESTS / own(Path(module))).exists()]
    stale += [file for file in ELSEWHERE.values() if not (TESTS / file).exists()]
    assert not stale, f"take out of ELSEWHERE: {', '.join(stale)}"


def test_every_test_file_is_of_a_module_or_of_the_whole():
    named = {str(own(module)) for module in modules()} | WHOLE
    found = {str(path.relative_to(TESTS)) for path in TESTS.rglob("test_*.py")}
    assert not found - named, f"of no module, and not in WHOLE: {', '.join(sorted(found - named))}"
