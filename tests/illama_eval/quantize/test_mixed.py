from __future__ import annotations

import json

import pytest
from torch import nn

from illama_eval.quantize.mixed import mix, mixed_json, read_mixed, weight_bytes
from illama_eval.quantize.schemes import SCHEMES, QuantizationConfig
from illama_eval.quantize.sensitivity import find_effects
from illama_eval.subjects.subject import SubjectError

SIDE = 32


ON_CPU = [name for name in SCHEMES if name != "fp8"]


def test_a_mixed_scheme_fits_its_budget_and_spares_the_most_sensitive(subject, images):
    choices = QuantizationConfig()
    effects = [
        effect
        for name in ("w8", "w4", "w2")
        for effect in find_effects(subject, images, QuantizationConfig(scheme=name))
    ]
    shapes = [
        layer.weight.shape
        for name, layer in subject.model.named_modules()
        if isinstance(layer, nn.Linear) and name != "head"
    ]
    full = sum(4 * shape.numel() for shape in shapes)
    for share in (0.5, 0.25, 0.15):
        layers, expected = mix(subject.model, effects, choices, share * full)
        taken = sum(
            weight_bytes(subject.model.get_submodule(name).weight.shape, scheme, choices)
            for name, scheme in layers.items()
        )
        assert taken <= share * full
        assert expected == pytest.approx(
            sum(
                float(effect.divergence.mean())
                for effect in effects
                if layers[effect.group.layers[0]] == effect.scheme
            )
        )
    with pytest.raises(SubjectError, match="fewest bits"):
        mix(subject.model, effects, choices, 0.01 * full)


def test_a_file_of_schemes_by_layer_is_checked(tmp_path):
    path = tmp_path / "mixed.json"
    good = {"format": "illama-mixed-1", "group_size": 64, "layers": {"head": "w4"}}
    path.write_text(json.dumps(good), encoding="utf-8-sig")
    assert read_mixed(path) == ({"head": "w4"}, {"group_size": 64})
    for text in ("", "[]", "{}", json.dumps({**good, "layers": {"head": "w9"}})):
        path.write_text(text)
        with pytest.raises(SubjectError, match=str(path)):
            read_mixed(path)


def test_a_file_of_schemes_by_layer_keeps_every_setting(tmp_path):
    settings = {"group_size": 16, "rounding": "mse", "clipping": "minmax", "asymmetric": True}
    config = QuantizationConfig(scheme="w4", exclude=("head", "blocks.0.*"), **settings)
    path = tmp_path / "mixed.json"
    path.write_text(mixed_json({"head": "w4"}, config, {}))
    expected = {**settings, "exclude": ("head", "blocks.0.*")}
    assert read_mixed(path) == ({"head": "w4"}, expected)
