"""The control of a transfer: the same architecture with weights that were never trained."""

from __future__ import annotations

from dataclasses import replace

import torch

from illama.checkpoint.weights import sha256_of_weights
from illama.model import Model
from illama_eval.subjects import DTYPES, ModelSubject

NAME = "random"
"""What the control is called."""


def random_twin(subject: ModelSubject, seed: int = 0) -> ModelSubject:
    """Return the subject with freshly drawn weights, run in the same way."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model(subject.model.config)
    digest = sha256_of_weights(model.state_dict())
    return replace(
        subject,
        name=NAME,
        model=model.to(subject.device, DTYPES[subject.dtype]).eval(),
        provenance={"weights_sha256": digest, "weights": f"random, seed {seed}"},
    )
