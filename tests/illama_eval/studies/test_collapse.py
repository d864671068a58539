"""Collapse: the known answers of every kind, and parity with plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from illama.config import Config
from illama.model import Model
from illama.observation import LayerSeen, OutputSeen
from illama_eval.functional.map_pass import STRIP_BYTES
from illama_eval.studies.collapse import Collapse
from illama_eval.study import accumulate

TOKENS = 40
LOWER = torch.ones(TOKENS, TOKENS).tril()


@pytest.fixture(name="measure")
def fixture_measure(make_batch):
    """A function that runs the study over `used` maps of layers, each [image, head, query, key]."""

    def measure(
        layers, factor=None, open_=None, features=None, tokens=None, sizes=None, background=None
    ):
        images, _, length, _ = layers[0].shape
        generator = torch.Generator().manual_seed(9)
        features = torch.randn(images, 4, generator=generator) if features is None else features
        tokens = torch.randn(images, length, 4, generator=generator) if tokens is None else tokens
        study, total, first = Collapse(), {}, 0
        for size in sizes or (images,):
            chosen = range(first, first + size)
            batch = make_batch(torch.zeros(images), chosen)
            for index, used in enumerate(layers, start=1):
                seen = LayerSeen(
                    index=index,
                    open=torch.ones(length, length).bool() if open_ is None else open_,
                    class_index=length - 1,
                    image_tokens=slice(0, length - 1),
                    factor=factor,
                    used=used[chosen],
                    previous=layers[index - 2][chosen] if index > 1 else None,
                    tokens=tokens[chosen],
                    background=None if background is None else background[chosen],
                    batch=batch,
                )
                accumulate(total, study.measure(seen))
            accumulate(total, study.measure(OutputSeen(features=features[chosen], batch=batch)))
            first += size
        return study.summarize(total)

    return measure


def verdict(findings, name):
    (found,) = [v for v in findings.verdicts if v.name == name]
    return found


def value(findings, metric, **at):
    (only,) = [r.value for r in findings.rows if r.metric == metric and dict(r.at) == at]
    return only


def random_maps(temperature, images=3, heads=2, seed=0, mask="none"):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, heads, TOKENS, TOKENS, generator=generator) / temperature
    if mask == "additive":
        return scores.masked_fill(LOWER == 0, -math.inf).softmax(-1)
    return scores.softmax(-1) * FACTORS[mask]


FACTORS = {"none": torch.ones(TOKENS, TOKENS), "causal": LOWER, "soft": 0.5 + 0.5 * LOWER}
FACTORS["additive"] = None
OPEN = {"none": None, "soft": None, "causal": LOWER.bool(), "additive": LOWER.bool()}


def images_of(size=32, count=12):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def untrained(step, scale=1.0, **changes):
    """A nano model of the road; `scale` sharpens its attention as training would."""
    torch.manual_seed(0)
    model = Model(Config.at(step, "nano", **changes)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    return model


# class_token_isolation


@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_a_class_token_in_front_of_an_additive_mask_is_isolated(measure_model, scale):
    findings = measure_model(Collapse(), untrained("class-first-causal", scale), images_of())
    assert verdict(findings, "class_token_isolation").verdict == "isolated"
    assert value(findings, "reach") == 0
    assert value(findings, "feature_spread") <= 1e-6


def test_a_class_token_in_front_of_the_released_mask_leaks_through_the_denominator(measure_model):
    findings = measure_model(Collapse(), untrained("class-first-multiplicative", 4.0), images_of())
    told = verdict(findings, "class_token_isolation")
    assert told.verdict == "leaks through the denominator"
    assert value(findings, "reach") == 0
    assert value(findings, "feature_spread") > 1e-6
    masses = [value(findings, "class_row_mass", layer=layer) for layer in range(1, 7)]
    assert max(masses) < 0.1
    assert f"{masses[3]:.3g}" in told.reason


@pytest.mark.parametrize("scale", [1.0, 4.0])
@pytest.mark.parametrize(
    "step", ["post-sequence-class", "modified-mask", "soft-mask", "rope-only", "vit"]
)
def test_every_other_step_of_the_road_attends(measure_model, step, scale):
    findings = measure_model(Collapse(), untrained(step, scale, depth=2), images_of())
    assert verdict(findings, "class_token_isolation").verdict == "attends"


def test_reach_is_the_class_rows_mass_on_image_tokens_and_its_maximum_over_layers(measure):
    layers = [random_maps(0.5, mask="causal", seed=seed) for seed in (1, 2)]
    findings = measure(layers, factor=LOWER, open_=LOWER.bool())
    by_layer = [float(m[:, :, -1, :-1].double().sum(-1).mean()) for m in layers]
    for layer, reach in enumerate(by_layer, start=1):
        assert value(findings, "reach", layer=layer) == pytest.approx(reach)
    assert value(findings, "reach") == pytest.approx(max(by_layer))


def test_feature_spread_is_without_bias_one_minus_the_squared_mean_over_the_mean_square(measure):
    features = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    findings = measure([random_maps(1.0, images=2)], features=features)
    assert value(findings, "feature_spread") == pytest.approx(2 * (1 - 6.25 / 12.5))


def test_one_image_leaves_the_isolation_of_an_unreached_token_undecided(measure_model):
    model = untrained("class-first-multiplicative", 4.0, depth=2)
    findings = measure_model(Collapse(), model, images_of(count=1))
    assert verdict(findings, "class_token_isolation").verdict == "undecided"
    assert value(findings, "feature_spread") is None


# layer_similarity


@pytest.mark.parametrize("temperature", [1e3, 10.0, 1.0, 0.25, 0.1])
@pytest.mark.parametrize("mask", ["none", "causal", "soft", "additive"])
def test_independent_maps_are_not_similar_at_any_temperature(measure, mask, temperature):
    layers = [random_maps(temperature, mask=mask, seed=seed) for seed in (1, 2)]
    findings = measure(layers, factor=FACTORS[mask], open_=OPEN[mask])
    assert verdict(findings, "layer_similarity").verdict == "not similar"
    assert value(findings, "similar_share") < 0.1


@pytest.mark.parametrize("mask", ["none", "causal", "soft", "additive"])
def test_near_uniform_maps_are_all_alike_without_centring(measure, mask):
    layers = [random_maps(1e3, mask=mask, seed=seed) for seed in (1, 2)]
    findings = measure(layers, factor=FACTORS[mask], open_=OPEN[mask])
    assert value(findings, "raw_similar_share") == 1


@pytest.mark.parametrize("mask", ["none", "causal", "soft", "additive"])
def test_equal_maps_are_wholly_similar(measure, mask):
    maps = random_maps(1.0, mask=mask)
    findings = measure([maps, maps.clone()], factor=FACTORS[mask], open_=OPEN[mask])
    assert value(findings, "similar_share") == 1
    assert value(findings, "similarity", layer=2, head=1) == pytest.approx(1)
    told = verdict(findings, "layer_similarity")
    assert told.verdict == "similar"
    assert "1 of 1 layers" in told.reason
    assert "2 of 2 heads" in told.reason


def test_one_head_alone_is_named_as_such(measure):
    first, second = random_maps(1.0, seed=1), random_maps(1.0, seed=2)
    second[:, 0] = first[:, 0]
    findings = measure([first, second])
    assert verdict(findings, "layer_similarity").verdict == "similar in some heads"


def test_the_last_column_of_a_causal_map_is_always_alike_and_is_left_out(measure):
    layers = [random_maps(0.5, mask="causal", seed=seed) for seed in (1, 2)]
    findings = measure(layers, factor=LOWER, open_=LOWER.bool())
    left, right = (m.double() for m in layers)
    raw = torch.nn.functional.cosine_similarity(left, right, dim=-2, eps=0)
    assert torch.allclose(raw[..., -1], torch.ones(1, dtype=torch.float64))
    assert value(findings, "raw_similarity") == pytest.approx(float(raw.mean()))
    centred = []
    for key in range(TOKENS - 7):  # the columns that at least eight rows may attend to
        a, b = left[..., key:, key], right[..., key:, key]
        a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
        centred.append(torch.nn.functional.cosine_similarity(a, b, dim=-1, eps=0))
    cosine = torch.stack(centred, -1)
    assert value(findings, "similarity") == pytest.approx(float(cosine.mean()))
    share = float((cosine > 0.9).double().mean())
    assert value(findings, "similar_share") == pytest.approx(share)


def test_uniform_maps_have_no_similarity_and_say_why(measure):
    uniform = torch.full((2, 1, TOKENS, TOKENS), 1 / TOKENS)
    findings = measure([uniform, uniform])
    told = verdict(findings, "layer_similarity")
    assert told.verdict == "undecided"
    assert "varies" in told.reason
    assert value(findings, "similarity") is None
    assert value(findings, "raw_similarity") == pytest.approx(1)


def test_a_single_layer_has_no_neighbour(measure):
    findings = measure([random_maps(1.0)])
    assert value(findings, "similarity") is None
    assert verdict(findings, "layer_similarity").verdict == "undecided"


# entropy_collapse


def test_uniform_rows_have_the_largest_entropy(measure):
    findings = measure([torch.full((2, 1, TOKENS, TOKENS), 1 / TOKENS)])
    assert value(findings, "entropy") == pytest.approx(math.log(TOKENS))
    assert value(findings, "entropy_share") == pytest.approx(1)
    assert verdict(findings, "entropy_collapse").verdict == "not collapsed"


def test_causal_rows_are_renormalised_and_judged_by_their_open_keys(measure):
    uniform = LOWER[None, None] / TOKENS
    findings = measure([uniform], factor=LOWER, open_=LOWER.bool())
    expected = sum(math.log(row + 1) for row in range(1, TOKENS)) / (TOKENS - 1)
    assert value(findings, "entropy") == pytest.approx(expected)
    assert value(findings, "entropy_share") == pytest.approx(1)


def test_rows_on_one_key_have_collapsed(measure):
    identity = torch.eye(TOKENS).expand(2, 2, -1, -1).clone()
    findings = measure([identity])
    assert value(findings, "entropy") == 0
    assert verdict(findings, "entropy_collapse").verdict == "collapsed"
    findings = measure([torch.cat((identity[:, :1], random_maps(1.0, images=2)), 1)])
    assert verdict(findings, "entropy_collapse").verdict == "collapsed in some heads"


def test_rows_whose_attention_all_fell_to_the_mask_are_left_out(measure):
    maps = random_maps(0.5, mask="causal", images=2, heads=1)
    maps[:, :, 5] = 0
    findings = measure([maps], factor=LOWER, open_=LOWER.bool())
    entropies = []
    for image in maps[:, 0].double():
        for row, weights in enumerate(image):
            if row not in {0, 5}:
                share = weights[: row + 1] / weights.sum()
                entropies.append(-float((share * share.log()).sum()))
    assert value(findings, "entropy") == pytest.approx(sum(entropies) / len(entropies))


# row_mass


def test_row_mass_tells_what_the_mask_takes(measure):
    findings = measure([LOWER[None, None] / TOKENS], factor=LOWER, open_=LOWER.bool())
    assert value(findings, "row_mass") == pytest.approx((TOKENS + 1) / 2 / TOKENS)
    assert value(findings, "class_row_mass", layer=1) == pytest.approx(1)
    told = verdict(findings, "row_mass")
    assert told.verdict == "below one by design"
    assert "no alarm" in told.reason
    findings = measure([random_maps(1.0)])
    assert value(findings, "row_mass") == pytest.approx(1)
    assert verdict(findings, "row_mass").verdict == "rows sum to one"


# attention_sinks


def test_a_key_that_everyone_attends_to_is_a_sink(measure):
    maps = torch.full((4, 2, TOKENS, TOKENS), 0.6 / TOKENS)
    maps[:, 0, :, 3] += 0.4  # above 0.3
    maps[:, 1, :, 3] += 0.28  # above 10 / 40 alone
    findings = measure([maps])
    assert value(findings, "sink_share", layer=1, head=1) == 1
    assert value(findings, "sink_share", layer=1, head=2) == 0
    assert value(findings, "relative_sink_share") == 1
    assert verdict(findings, "attention_sinks").verdict == "sinks in some heads"


def test_received_attention_is_a_mean_over_the_rows_that_may_attend(measure):
    maps = torch.zeros(1, 1, TOKENS, TOKENS)
    maps[..., 20:, 20] = 0.35
    findings = measure([maps], factor=LOWER, open_=LOWER.bool())
    assert value(findings, "sink_share") == 1


def test_the_last_keys_of_a_causal_map_are_no_sinks(measure):
    identity = torch.eye(TOKENS)[None, None]
    findings = measure([identity], factor=LOWER, open_=LOWER.bool())
    assert value(findings, "sink_share") == 0
    assert verdict(findings, "attention_sinks").verdict == "no sinks"


def test_uniform_maps_have_no_sinks(measure):
    findings = measure([torch.full((2, 1, TOKENS, TOKENS), 1 / TOKENS)])
    assert value(findings, "sink_share") == value(findings, "relative_sink_share") == 0


# token_norm_outliers


def test_tokens_far_above_the_median_norm_are_outliers(measure):
    tokens = torch.zeros(3, TOKENS, 2)
    tokens[..., 0] = torch.linspace(1, 2, TOKENS)
    tokens[0, 4] = tokens[0, 7] = tokens[1, 9] = torch.tensor([0.0, 30.0])
    findings = measure([random_maps(1.0)], tokens=tokens)
    assert value(findings, "outlier_share") == pytest.approx(3 / 3 / (TOKENS - 1))
    assert verdict(findings, "token_norm_outliers").verdict == "outliers"


def test_the_class_tokens_own_norm_is_no_outlier(measure):
    tokens = torch.rand(3, TOKENS, 2, generator=torch.Generator().manual_seed(0)) + 1
    tokens[:, -1] = 100
    findings = measure([random_maps(1.0)], tokens=tokens)
    assert value(findings, "outlier_share") == 0
    assert verdict(findings, "token_norm_outliers").verdict == "no outliers"


def test_equal_norms_up_to_rounding_hold_no_outlier(measure):
    tokens = torch.ones(3, TOKENS, 2)
    tokens[:, 0] = 1 + 1e-7
    assert value(measure([random_maps(1.0)], tokens=tokens), "outlier_share") == 0


def planted(width=32, share=0.01, times=10.0, images=200):
    """Gaussian tokens, one of which is ten times as long in some images."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(images, TOKENS, width, generator=generator)
    tokens[: round(share * images), 7] *= times
    return tokens


@pytest.mark.parametrize("width", [1, 2, 4, 16, 192])
def test_gaussian_tokens_of_any_width_have_no_outlier(measure, width):
    findings = measure([random_maps(1.0, images=200)], tokens=planted(width, times=1.0))
    assert verdict(findings, "token_norm_outliers").verdict == "no outliers"
    assert value(findings, "outlier_images") == 0


def test_one_long_token_in_a_hundredth_of_the_images_is_found(measure):
    findings = measure([random_maps(1.0, images=200)], tokens=planted())
    assert verdict(findings, "token_norm_outliers").verdict == "outliers"
    assert value(findings, "outlier_images") == pytest.approx(0.01)


@pytest.mark.parametrize("step", ["vit", "soft-mask"])
def test_random_weights_have_no_outliers_no_massive_activations_and_no_entropy_collapse(
    measure_model, step
):
    findings = measure_model(Collapse(), untrained(step), images_of())
    assert verdict(findings, "token_norm_outliers").verdict == "no outliers"
    assert verdict(findings, "massive_activations").verdict == "none"
    assert verdict(findings, "entropy_collapse").verdict == "not collapsed"


# massive_activations and token_rank


def test_massive_activations_are_named_by_token_and_channel(measure):
    tokens = planted(times=1.0)
    tokens[:, 4, 11] = 5000.0
    told = verdict(measure([random_maps(1.0, images=200)], tokens=tokens), "massive_activations")
    assert told.verdict == "massive"
    assert "patch 5, and in channel 12" in told.reason


def test_tokens_that_are_alike_have_no_residual(measure):
    tokens = torch.ones(3, TOKENS, 4) + 1e-3 * torch.randn(3, TOKENS, 4)
    findings = measure([random_maps(1.0)], tokens=tokens)
    assert verdict(findings, "token_rank").verdict == "tokens alike"
    assert value(findings, "token_residual") < 0.01
    tokens = torch.eye(TOKENS).expand(3, -1, -1)
    findings = measure([random_maps(1.0)], tokens=tokens)
    assert value(findings, "token_residual") == pytest.approx(math.sqrt(1 - 1 / (TOKENS - 1)))


def test_one_head_of_many_is_no_entropy_collapse(measure):
    maps = random_maps(1.0, heads=12)
    maps[:, 3] = torch.eye(TOKENS)
    told = verdict(measure([maps]), "entropy_collapse")
    assert told.verdict == "not collapsed"
    assert "more than 10% of the heads" in told.reason


def test_sinks_are_told_by_position_and_map(measure):
    maps = torch.full((4, 2, 37, 37), 0.6 / 37)
    maps[:, 1, :, 0] += 0.4
    findings = measure([maps])
    assert value(findings, "sink_position", position="corner") == 1
    assert value(findings, "sink_position", position="class token") == 0
    told = verdict(findings, "attention_sinks").reason
    assert "token 1 (corner), in layer 1, head 2" in told
    assert told.endswith("; background needs masks (collapse --background)")


# 36 patches of 2 x 2 pixels and the class token; the left half of the image is background

LEFT, RIGHT = 0, 5
"""Columns of patches on background, and on the object."""
HALVES = torch.zeros(40, 12, 12, dtype=torch.bool)
HALVES[:, :, :6] = True


def planted_sinks(columns):
    """Maps of two layers with a sink in head 2 of the second, a patch of row 1 in each image."""
    plain = torch.full((len(columns), 2, 37, 37), 0.6 / 37)
    with_sink = plain.clone()
    for image, column in enumerate(columns):
        with_sink[image, 1, :, 6 + column] += 0.4
    return [plain, with_sink]


@pytest.mark.parametrize(("on_background", "share"), [(40, 1), (0, 0), (30, 0.75)])
def test_sinks_planted_on_background_are_found_there_and_others_not(measure, on_background, share):
    columns = [LEFT] * on_background + [RIGHT] * (40 - on_background)
    findings = measure(planted_sinks(columns), background=HALVES)
    (found,) = [row for row in findings.rows if row.metric == "sink_background"]
    assert (found.value, found.images) == (share, 40)
    assert found.low <= share <= found.high
    assert found.high - found.low > 0.05
    assert value(findings, "background_patches") == 0.5
    told = verdict(findings, "attention_sinks").reason
    assert told.endswith(f"; background: {share:.1%} of sinks on patches, 50.0% of patches")


def test_a_sink_on_the_class_token_is_on_no_background(measure):
    maps = torch.full((4, 2, 37, 37), 0.6 / 37)
    maps[..., 36] += 0.4
    findings = measure([maps], background=HALVES[:4])
    assert value(findings, "sink_position", position="class token") == 1
    assert value(findings, "sink_background") is None
    told = verdict(findings, "attention_sinks").reason
    assert told.endswith("; background: 50.0% of patches, and no sink is on a patch")


def test_random_weights_say_nothing_of_background(measure):
    model = untrained("soft-mask", depth=2)
    seen = list(model.observe(images_of(count=4), {"used"}))
    maps = [layer.used.detach() for layer in seen if isinstance(layer, LayerSeen)]
    findings = measure(maps, factor=seen[0].factor, open_=seen[0].open, background=HALVES[:4])
    assert value(findings, "sink_background") is None
    assert value(findings, "background_patches") == 0.5
    assert "background" not in verdict(findings, "attention_sinks").reason


def test_splitting_the_images_does_not_change_what_is_on_background(measure):
    layers = planted_sinks([LEFT, RIGHT, LEFT, LEFT])
    whole = measure(layers, background=HALVES[:4])
    split = measure(layers, background=HALVES[:4], sizes=(1, 3))
    for metric in ("sink_background", "background_patches"):
        assert value(whole, metric) == value(split, metric)


# all kinds


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_null_with_a_reason_and_no_verdict(measure, bad):
    layers = [random_maps(1.0, seed=seed) for seed in (1, 2)]
    for maps in layers:
        maps[0] = bad
    features, tokens = torch.full((3, 4), bad), torch.full((3, TOKENS, 4), bad)
    findings = measure(layers, features=features, tokens=tokens)
    for row in findings.rows:
        assert row.value is None, row
        assert "not finite" in row.reason
    assert {v.verdict for v in findings.verdicts} == {"undecided"}


def test_there_is_one_verdict_of_each_kind_and_a_row_for_every_metric(measure_model):
    findings = measure_model(Collapse(), untrained("soft-mask", depth=2), images_of(count=2))
    assert [v.name for v in findings.verdicts] == [
        "class_token_isolation",
        "layer_similarity",
        "entropy_collapse",
        "row_mass",
        "attention_sinks",
        "token_norm_outliers",
        "massive_activations",
        "token_rank",
    ]
    whole = {r.metric for r in findings.rows if not r.at}
    masked = {"sink_background", "background_patches"}
    assert whole == set(Collapse.metrics) - {"sink_position"} - masked
    by_layer = {(r.metric, r.at["layer"]) for r in findings.rows if list(r.at) == ["layer"]}
    for metric in ("reach", "entropy_share", "row_mass", "outlier_share"):
        assert {(metric, 1), (metric, 2)} <= by_layer
    assert ("similar_share", 2) in by_layer
    assert all(v.reason for v in findings.verdicts)


def test_splitting_the_images_does_not_change_the_rows(measure):
    layers = [random_maps(0.5, images=7, mask="causal", seed=seed) for seed in (1, 2)]
    whole = measure(layers, factor=LOWER, open_=LOWER.bool())
    split = measure(layers, factor=LOWER, open_=LOWER.bool(), sizes=(1, 4, 2))
    assert [v.verdict for v in whole.verdicts] == [v.verdict for v in split.verdicts]
    for one, other in zip(whole.rows, split.rows, strict=True):
        assert (one.metric, one.at, one.images) == (other.metric, other.at, other.images)
        near = pytest.approx(other.value, rel=1e-9, abs=1e-15) if other.value else other.value
        assert one.value == near
        assert (one.low is None) == (other.low is None)


def test_strips_of_maps_do_not_change_the_rows(measure, monkeypatch):
    layers = [random_maps(0.5, mask="causal", seed=seed) for seed in (1, 2)]
    whole = measure(layers, factor=LOWER, open_=LOWER.bool())
    monkeypatch.setitem(STRIP_BYTES, "cpu", 1)
    single = measure(layers, factor=LOWER, open_=LOWER.bool())
    for one, other in zip(whole.rows, single.rows, strict=True):
        near = pytest.approx(other.value, rel=1e-12) if other.value else other.value
        assert one.value == near


def test_zero_images_are_refused():
    with pytest.raises(ValueError, match="no image"):
        Collapse().summarize({})


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "soft_mask"), [("illama_cifar10_nano", 0), ("bidirectional_cifar10_nano", 1)]
)
def test_trained_models_attend(measure_model, shared, name, soft_mask):
    from illama import load

    findings = measure_model(
        Collapse(), load(shared / "checkpoints" / f"{name}.pth", soft_mask=soft_mask), images_of()
    )
    assert verdict(findings, "class_token_isolation").verdict == "attends"
