"""Shape bias: hand-made decisions with known answers, and the published ones."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from illama.observation import OutputSeen
from illama_eval.cue_conflict import Observer, read_observers
from illama_eval.statistics import wilson_interval
from illama_eval.studies.shape_bias import ShapeBias, decide, error_consistency
from illama_eval.study import accumulate

THREE = tuple((name, (index,)) for index, name in enumerate("abc"))


@pytest.fixture
def measure(make_batch):
    """Return a function from decisions (None: no response) and cues to rows by metric and place."""

    def rows(decisions, cues, observers=(), categories=THREE):
        batch = replace(
            make_batch(torch.zeros(len(cues), dtype=torch.int64)), cues=torch.tensor(cues)
        )
        logits = torch.full((len(cues), 3), -torch.inf)
        for image, chosen in enumerate(decisions):
            if chosen is not None:
                logits[image, chosen] = 0.0
        study = ShapeBias(categories=categories, observers=observers)
        total = {}
        accumulate(total, study.measure(OutputSeen(logits=logits, batch=batch)))
        found = study.summarize(total)
        return {(row.metric, tuple(row.at.items())): row for row in found.rows} | {
            "verdict": found.verdicts[0]
        }

    return rows


def test_only_decisions_for_either_cue_of_a_conflict_count(measure):
    cues = [[0, 1], [0, 1], [1, 2], [2, 0], [2, 2], [1, 0]]
    rows = measure([0, 1, 1, 1, 2, None], cues)  # shape, texture, shape, neither, no conflict, -
    assert rows["shape_bias", ()].value == pytest.approx(2 / 3)
    assert rows["shape_bias", ()].images == 5
    assert rows["undecided", ()].value == pytest.approx(2 / 5)
    assert rows["category_accuracy", ()].value == pytest.approx(3 / 6)
    assert rows["shape_decisions", ()].value == 2
    assert rows["texture_decisions", ()].value == 1
    assert rows["nonfinite", ()].value == 0
    assert rows["shape_bias", (("category", "a"),)].value == 0.5
    assert rows["shape_bias_macro", ()].value == pytest.approx((0.5 + 1) / 2)  # c has no decision
    assert rows["shape_bias", (("category", "c"),)].value is None
    wilson = rows["shape_bias_wilson", ()]
    assert (wilson.low, wilson.high) == wilson_interval(2, 3)


def test_pictures_whose_cues_agree_leave_the_bias_alone(measure):
    cues, decisions = [[0, 1], [1, 2], [2, 0]] * 4, [0, 2, 0] * 4
    alone = measure(decisions, cues)["shape_bias", ()].value
    assert measure([*decisions, 0, 1, 2], [*cues, [0, 0], [1, 1], [2, 2]])[
        "shape_bias", ()
    ].value == pytest.approx(alone)


def test_without_a_decision_there_is_no_bias_but_a_reason(measure):
    rows = measure([2, 2], [[0, 1], [1, 0]])
    assert rows["shape_bias", ()].value is None
    assert "decided for either" in rows["shape_bias", ()].reason
    assert rows["undecided", ()].value == 1
    assert rows["verdict"].verdict == "undecided"


@pytest.mark.parametrize(
    ("decision", "words"), [(0, "decides by shape"), (1, "decides by texture")]
)
def test_the_verdict_follows_the_interval(measure, decision, words):
    assert measure([decision] * 40, [[0, 1]] * 40)["verdict"].verdict == words


def test_broken_logits_decide_nothing_and_are_counted(make_batch):
    batch = replace(make_batch(torch.zeros(2, dtype=torch.int64)), cues=torch.tensor([[0, 1]] * 2))
    logits = torch.tensor([[torch.nan, 0, 0], [3.0, 0, 0]])
    study = ShapeBias(categories=THREE)
    total = {}
    accumulate(total, study.measure(OutputSeen(logits=logits, batch=batch)))
    rows = {row.metric: row.value for row in study.summarize(total).rows if not row.at}
    assert (rows["nonfinite"], rows["undecided"], rows["shape_bias"]) == (1, 0.5, 1)


def test_a_category_has_the_mean_probability_of_its_classes_not_their_sum():
    probabilities = torch.tensor([[0.3, 0.25, 0.25, 0.2]])
    assert decide(probabilities, ((0,), (1, 2, 3))).tolist() == [0]
    assert decide(probabilities, ((3,), (1, 2))).tolist() == [1]
    assert decide(torch.full((1, 4), 0.25), ((2, 3), (0, 1))).tolist() == [0]  # equal: the first


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=30))
def test_the_consistency_is_cohens_kappa(pairs):
    first, second = np.array(pairs).T
    counts = [len(pairs), first.sum(), second.sum(), (first == second).sum()]
    found = float(error_consistency(*torch.tensor(counts, dtype=torch.float64)))
    expected = first.mean() * second.mean() + (1 - first.mean()) * (1 - second.mean())
    if expected == 1:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(cohen_kappa_score(first, second), abs=1e-12)


def test_observers_are_measured_on_the_pictures_that_they_saw(measure):
    decisions = {"00000": 0, "00001": 1, "00002": None}
    seen = Observer(name="o", kind="human", sha256="", decisions=decisions)
    rows = measure([0, 0, 0, 0], [[0, 1], [0, 1], [0, 1], [0, 1]], (seen,))
    at = (("observer", "o"),)
    assert rows["shape_bias", at].value == 0.5
    assert rows["shape_bias", at].images == 3
    assert rows["undecided", at].value == pytest.approx(1 / 3)
    assert rows["error_consistency", at].images == 3
    assert rows["error_consistency", ()].value == rows["error_consistency", at].value


@pytest.fixture
def people(shared):
    """Return everyone's right answers by shape, [observer, picture], with their decisions."""
    read = read_observers([shared / "data" / "cue_conflict" / "human_decisions.csv"])
    by_name = {
        name: sorted(
            (line for line in read.lines if line.observer == name), key=lambda line: line.image
        )
        for name in read.names
    }
    right = [[line.decision == line.shape for line in lines] for lines in by_name.values()]
    return np.array(right), list(by_name.values())


def kappa_of(first, second):
    counts = [len(first), first.sum(), second.sum(), (first == second).sum()]
    return float(error_consistency(*torch.tensor(counts, dtype=torch.float64)))


@pytest.mark.data
def test_people_agree_in_their_errors_as_published(people):
    right, _ = people
    assert (right[0] == right[1]).mean() == pytest.approx(0.743750, abs=5e-7)
    assert kappa_of(right[0], right[1]) == pytest.approx(0.356786, abs=5e-7)
    pairs = [kappa_of(*pair) for pair in combinations(right, 2)]
    assert len(pairs) == 45
    assert np.mean(pairs) == pytest.approx(0.331052, abs=5e-7)


@pytest.mark.data
def test_people_decide_by_shape_as_published(people):
    def count(lines, cue):
        return sum(
            line.decision == getattr(line, cue) for line in lines if line.shape != line.texture
        )

    counts = np.array([[count(lines, cue) for cue in ("shape", "texture")] for lines in people[1]])
    assert counts.sum(0).tolist() == [9236, 398]
    bias = counts[:, 0] / counts.sum(1)
    assert bias.mean() == pytest.approx(0.957587, abs=5e-7)
    assert (bias.min(), bias.max()) == (
        pytest.approx(0.919090, abs=5e-7),
        pytest.approx(0.986603, abs=5e-7),
    )
    assert sum(line.decision is None for lines in people[1] for line in lines) == 131
