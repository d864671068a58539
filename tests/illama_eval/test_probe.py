"""Probes: which images, which patches, and that batches change nothing of it."""

from __future__ import annotations

import pytest
import torch

from illama.observation import Changed, LayerSeen, OutputSeen
from illama_eval.probe import Probe, is_for, replace_patches, union_of
from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.causality import Causality


def test_only_the_patches_after_those_that_stay_are_replaced():
    images, others = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    changed = replace_patches(images, others, torch.tensor([1, 3]), grid=2)
    quarters = changed.unfold(2, 4, 4).unfold(3, 4, 4)[:, 0].flatten(1, 2).mean((2, 3))
    assert quarters.tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]


def test_images_and_shares_follow_from_ids_not_from_batches(make_batch):
    probe, labels = Probe(rest="replaced", kept=(0.25, 0.5, 0.75), images=7), torch.zeros(40)
    whole = make_batch(labels)
    chosen = probe.choose(whole.order, 40)
    assert int(chosen.sum()) == 7
    kept = probe.kept_patches(whole.keys, 16)
    assert set(kept.tolist()) == {4, 8, 12}
    for position in range(40):
        alone = make_batch(labels, [position])
        assert probe.kept_patches(alone.keys, 16).tolist() == [int(kept[position])]
        assert probe.choose(alone.order, 40).tolist() == [bool(chosen[position])]


def test_some_patches_stay_and_some_do_not_however_few_there_are():
    assert Probe(rest="closed", kept=(0.01, 0.99)).counts(4) == (1, 3)


@pytest.mark.parametrize("kept", [(), (0.0,), (0.5, 1.0)])
def test_shares_outside_zero_to_one_are_refused(kept):
    with pytest.raises(ValueError, match="shares"):
        Probe(rest="closed", kept=kept)


def test_no_image_is_refused():
    with pytest.raises(ValueError, match="positive number"):
        Causality(probed=0)


def test_a_changed_piece_is_for_the_study_whose_probe_it_is_of(make_batch):
    (probe,) = Causality().probes
    plain = OutputSeen(batch=make_batch(torch.zeros(2)))
    changed = Changed(probe=probe.name, kept=torch.ones(2), original=plain)
    seen = OutputSeen(batch=plain.batch, changed=changed)
    assert is_for(plain, Accuracy())
    assert is_for(plain, Causality())
    assert is_for(seen, Causality())
    assert not is_for(seen, Accuracy())
    assert not is_for(seen, Causality(probed=9))


def test_what_several_studies_want_of_a_probe_is_joined():
    (probe,) = Causality().probes
    assert union_of([Accuracy(), Causality()]) == {probe: Causality.wants}
    assert union_of([Accuracy()]) == {}
    assert LayerSeen.__dataclass_fields__["changed"].default is None
