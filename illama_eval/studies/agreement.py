"""Agreement: how far a second model is from the first one on the same images.

flips = mean[argmax z != argmax z0], kl = mean KL(softmax z0 || softmax z) in nats, logit_mse,
logit_cosine = mean cosine(z, z0), logit_sqnr = 10 log10(sum |z0|^2 / sum |z - z0|^2) in dB over
all images, and sqnr, the same for the tokens after each block; z0 is the first subject's. The
first subject itself, which has nothing to agree with, gets no rows. Equal models have kl 0 and no
finite SQNR.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from illama.observation import LayerSeen, OutputSeen, Piece, batch_of, present, to_float64
from illama_eval.functional.noise import NO_NOISE, decibels, signal_and_noise
from illama_eval.functional.predictions import kl_divergence
from illama_eval.results import Row
from illama_eval.study import Metric, StudyResult, Sums, layers_of, row, weigh

MEANS = ("flips", "kl", "logit_mse", "logit_cosine")
"""Metrics that are means over the images."""

LEAST_IMAGES = 100
"""Images below which a few very different answers decide a distance, and no interval covers."""

LEAST_OF_ANSWERS = 200
"""The same of `kl` and `logit_cosine`, which differ even more from image to image."""

SQNR = Metric(
    unit="dB", better="higher", tolerance=1.0, interval="decibels", least_images=LEAST_IMAGES
)
"""A signal to noise ratio, of logits or of a layer's tokens."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Changed answers, distance of distributions, and signal to noise by layer."""

    name: ClassVar[str] = "agreement"
    wants: ClassVar[frozenset[str]] = frozenset({"logits", "tokens"})
    optional: ClassVar[frozenset[str]] = frozenset({"tokens"})
    """Models without blocks agree or disagree by their logits alone."""
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "flips": Metric(better="lower", tolerance=1e-2, interval="wilson"),
        "kl": Metric(unit="nats", better="lower", tolerance=1e-2, least_images=LEAST_OF_ANSWERS),
        "logit_mse": Metric(
            unit="squared logit", better="lower", tolerance=1e-2, least_images=LEAST_IMAGES
        ),
        "logit_cosine": Metric(
            unit="cosine", better="higher", tolerance=1e-3, least_images=LEAST_OF_ANSWERS
        ),
        "logit_sqnr": SQNR,
        "sqnr": SQNR,
    }

    def measure(self, piece: Piece) -> Sums:
        """Return weighted distances from the piece of the first subject, if there is one.

        Raises:
            ValueError: the two models do not have the same outputs.
        """
        if isinstance(piece, LayerSeen):
            return self._measure_tokens(piece)
        if not isinstance(piece, OutputSeen):
            return {}
        batch = batch_of(piece)
        if piece.reference is None:
            return {"alone": torch.tensor(batch.size)}
        logits = to_float64(present(piece.logits, "logits"))
        first = to_float64(present(piece.reference.logits, "logits"))
        if logits.shape != first.shape:
            raise ValueError(
                f"agreement: {logits.shape[1]} classes against {first.shape[1]}; compare models "
                "of the same classes"
            )
        signal, noise = signal_and_noise(batch, first, logits)
        return {
            "images": batch.weights.sum(1),
            "flips": weigh(batch, logits.argmax(-1) != first.argmax(-1)),
            "kl": weigh(batch, kl_divergence(first, logits)),
            "logit_mse": noise / logits.shape[1],
            "logit_cosine": weigh(batch, functional.cosine_similarity(logits, first)),
            "signal": signal,
            "noise": noise,
        }

    def _measure_tokens(self, piece: LayerSeen) -> Sums:
        """Return signal and noise of the tokens after a block; nothing for other shapes."""
        if piece.reference is None:
            return {}
        tokens = present(piece.tokens, "tokens")
        first = present(piece.reference.tokens, "tokens")
        if tokens.shape != first.shape:
            return {}
        signal, noise = signal_and_noise(batch_of(piece), to_float64(first), to_float64(tokens))
        return {f"signal/{piece.index}": signal, f"noise/{piece.index}": noise}

    def summarize(self, total: Sums) -> StudyResult:
        """Return the rows with intervals; none for the first subject.

        Raises:
            ValueError: no image was seen.
        """
        if not total:
            raise ValueError("agreement: no image was seen")
        return StudyResult(rows=tuple(self._rows(total)) if "images" in total else ())

    def _rows(self, total: Sums) -> Iterator[Row]:
        images = int(total["images"][0])
        for metric in MEANS:
            yield row(
                metric, total[metric] / total["images"], images, declared=self.metrics[metric]
            )
        layers = layers_of(total, "signal")
        for metric, at in (("logit_sqnr", ""), *(("sqnr", f"/{layer}") for layer in layers)):
            ratio = decibels(total[f"signal{at}"], total[f"noise{at}"])
            yield row(
                metric,
                ratio,
                images,
                declared=self.metrics[metric],
                at={"layer": int(at[1:])} if at else {},
                reason=NO_NOISE if ratio[0] == torch.inf else "",
            )
