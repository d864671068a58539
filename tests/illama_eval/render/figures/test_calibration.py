from illama_eval.render.figures.calibration import draw_reliability, reliability_of
from illama_eval.render.style import palette
from illama_eval.results import Row, Run


def rows(number, images, confidence, accuracy):
    at = {"bin": number}
    values = {"bin_images": images, "bin_confidence": confidence, "bin_accuracy": accuracy}
    return [
        Row(study="calibration", metric=metric, value=value, images=9, at=at)
        for metric, value in values.items()
    ]


def test_a_run_of_too_few_images_for_a_temperature_is_drawn():
    run = Run(header={}, rows=tuple(rows(15, 1.0, 0.97, 1.0)))
    (drawing,) = draw_reliability(run)
    assert drawing.name == "calibration_reliability"


def test_empty_bins_are_not_drawn():
    run = Run(header={}, rows=(*rows(1, 0.0, None, None), *rows(15, 9.0, 0.97, 1.0)))
    ((name, look),) = palette.looks_of(run)
    found = reliability_of(run, name, look)
    assert [(one.number, one.images, one.confidence) for one in found.all] == [(15, 9, 97)]
    assert found.means == {"accuracy": 100}
