"""What sharding does without other processes; with them: test_distributed.py."""

from __future__ import annotations

import torch

from illama.training.fsdp import gather, shard_like


def test_whole_values_are_gathered_as_they_are():
    state = {"step": 3, "moments": [torch.ones(2), {"lr": 0.1}]}
    found = gather(state)
    assert found["step"] == 3
    assert found["moments"][0] is state["moments"][0]
    assert found["moments"][1] == {"lr": 0.1}


def test_a_tensor_like_a_whole_one_stays_whole():
    whole = torch.arange(6.0).view(2, 3)
    assert shard_like(whole, torch.zeros(2, 3)) is whole
