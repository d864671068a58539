"""Any `nn.Module` as a subject: `illama_eval.wrap(module, transform, classes)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from illama.checkpoint.checksums import sha256_of_weights
from illama.observation import OutputSeen
from illama.transforms import Transform
from illama_eval.subjects.layers import first_tensor
from illama_eval.subjects.network import NetworkSubject, open_network, pool
from illama_eval.subjects.subject import SubjectError


@dataclass(frozen=True)
class ReadModule:
    """Runs a module: its output is the logits of so many classes or, without any, features."""

    classes: int
    head: str | None
    """Name of the linear layer whose inputs are the features."""
    pooled: bool = True
    """Whether a `pooler_output` counts; without, features are the first token's, the class token's
    in all models that are stored without a pooler."""

    def __call__(self, module: nn.Module, images: Tensor) -> OutputSeen:
        """Return logits [image, class] where there are classes, and features [image, channel]."""
        if not self.classes:
            return OutputSeen(features=self._features_of(module(images)))
        if self.head is None:
            return OutputSeen(logits=first_tensor(module(images)))
        inputs: list[Tensor] = []
        layer = module.get_submodule(self.head)
        hook = layer.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
        try:
            logits = first_tensor(module(images))
        finally:
            hook.remove()
        return OutputSeen(logits=logits, features=inputs[-1] if inputs[-1].ndim == 2 else None)  # noqa: PLR2004 - [image, channel]

    def _features_of(self, output: Any) -> Tensor:
        """Return features [image, channel]: pooled, or the first token's."""
        if not self.pooled:
            return first_tensor(output)[:, 0]
        pooled = output.get("pooler_output") if isinstance(output, Mapping) else None
        return pool(first_tensor(output) if pooled is None else pooled)


def wrap(
    module: nn.Module,
    transform: Transform,
    classes: Sequence[str] | int | None = None,
    *,
    name: str | None = None,
) -> NetworkSubject:
    """Return a module of your own as a subject, for `illama_eval.evaluate`.

    It is put into evaluation mode. Attention is found by what the module computes, and shown only
    where that is proven; `describe()["notes"]` says what was found.

    Args:
        module: takes images [image, 3, row, column] and returns a tensor, or several of which the
            first counts; of a dictionary `logits`, where it has them.
        transform: what prepares an image; its `image_size` is what the module is tried on.
        classes: names or number of the module's outputs; None if these are features.
        name: what the subject is called; by default the module's class.

    Raises:
        SubjectError: the module does not run on such images, or has another number of outputs.

    Example:
        >>> import torch, illama_eval
        >>> from illama.transforms import Transform
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
        >>> subject = illama_eval.wrap(network, Transform(image_size=8, resize="warp"), classes=10)
        >>> sorted(subject.shows)
        ['features', 'logits']
    """
    number = classes if isinstance(classes, int) else len(classes or ())
    device = next((each.device for each in module.parameters()), torch.device("cpu"))
    called = name or type(module).__name__
    subject = open_network(
        module.eval(),
        ReadModule(number, find_head(module, number)),
        name=called,
        transform=transform,
        device=device,
    )
    provenance = {  # after the trial run, which initializes lazy weights
        "model": f"{type(module).__module__}.{type(module).__qualname__}",
        "weights_sha256": sha256_of_weights(module.state_dict()),
        "class_names": None if isinstance(classes, int) or not classes else list(classes),
    }
    subject = replace(subject, provenance=provenance)
    if subject.classes != number:
        raise SubjectError(f"{called}: has {subject.classes} outputs and {number} classes")
    return subject


def find_head(module: nn.Module, classes: int) -> str | None:
    """Return the name of the last linear layer with so many outputs, if there is one."""
    found = [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and layer.out_features == classes
    ]
    return found[-1] if found and classes else None
