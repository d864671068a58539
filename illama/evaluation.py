"""Loss and accuracy over the test images, each counted once over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

from illama.batches import Batch
from illama.distributed import World

Record = dict[str, float | int]
"""One line of the log, with the names and units of the released logs: `test_acc1` and `test_acc5`
in percent, `train_class_acc` a fraction (absent where images are mixed); `train_...` are means over
the epoch's steps, `test_...` holds at `test_soft_mask_rate`, the mask of the last step.
`test_..._at_0` is our own: the same at soft mask 0, as the model will run."""

Runs = Mapping[str, Callable[[Tensor], Tensor]]
"""What is evaluated, from images to logits, by the ending that its names get in the log."""


@torch.no_grad()
def evaluate(runs: Runs, batches: Iterable[Batch], world: World) -> Record:
    """Return `test_loss` (nats) and `test_acc1`, `test_acc5` (percent) of each run, in fp32.

    An image counts as a hit among k where fewer than k classes have a larger logit.
    """
    sums = torch.zeros(len(runs), 3, dtype=torch.float64)
    images = torch.zeros(1, dtype=torch.float64)
    for batch in batches:
        if not len(batch.images):
            continue
        pixels, labels = batch.images.to(world.device), batch.labels.to(world.device)
        images += len(labels)
        for index, run in enumerate(runs.values()):
            logits = run(pixels)
            loss = functional.cross_entropy(logits, labels, reduction="none")
            rank = (logits > logits.gather(1, labels[:, None])).sum(-1)
            parts = (loss.double().sum(), (rank < 1).sum(), (rank < 5).sum())  # noqa: PLR2004 - top-5
            sums[index] += torch.stack([part.double().cpu() for part in parts])
    total = world.add(torch.cat((images, sums.flatten())))
    count = total[0].item()
    rows = total[1:].view(-1, 3).tolist()
    return {
        f"{name}{ending}": scale * value / count
        for ending, row in zip(runs, rows, strict=True)
        for (name, scale), value in zip(_NAMES.items(), row, strict=True)
    }


_NAMES = {"test_loss": 1, "test_acc1": 100, "test_acc5": 100}
