"""Agreement of features: how far a network without classes is from the first one.

feature_cosine = mean cosine(f, f0) over the images, feature_sqnr = 10 log10(sum |f0|^2 /
sum |f - f0|^2) in dB over all images; f0 is the first subject's feature of the same image. The
first subject itself gets no rows. Equal networks have no finite SQNR.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from illama.observation import OutputSeen, Piece, batch_of, present, to_float64
from illama_eval.functional.noise import NO_NOISE, decibels, signal_and_noise
from illama_eval.study import Metric, StudyResult, Sums, row, weigh

LEAST_IMAGES = 200
"""Images below which a few very different features decide a distance, and no interval covers."""


@dataclass(frozen=True, kw_only=True)
class FeatureAgreement:
    """Cosine and signal to noise of the features against those of the first subject."""

    name: ClassVar[str] = "feature_agreement"
    wants: ClassVar[frozenset[str]] = frozenset({"features"})
    requires: ClassVar[frozenset[str]] = frozenset()
    metrics: ClassVar[Mapping[str, Metric]] = {
        "feature_cosine": Metric(
            unit="cosine", better="higher", tolerance=1e-3, least_images=LEAST_IMAGES
        ),
        "feature_sqnr": Metric(
            unit="dB",
            better="higher",
            tolerance=1.0,
            interval="decibels",
            least_images=LEAST_IMAGES,
        ),
    }

    def measure(self, piece: Piece) -> Sums:
        """Return weighted distances from the piece of the first subject, if there is one.

        Raises:
            ValueError: the two have features of other widths.
        """
        if not isinstance(piece, OutputSeen):
            return {}
        batch = batch_of(piece)
        if piece.reference is None:
            return {"alone": torch.tensor(batch.size)}
        features = to_float64(present(piece.features, "features"))
        first = to_float64(present(piece.reference.features, "features"))
        if features.shape != first.shape:
            raise ValueError(
                f"feature_agreement: features of {features.shape[1]} channels against "
                f"{first.shape[1]}; compare models of the same features"
            )
        signal, noise = signal_and_noise(batch, first, features)
        return {
            "images": batch.weights.sum(1),
            "cosine": weigh(batch, functional.cosine_similarity(features, first)),
            "signal": signal,
            "noise": noise,
        }

    def summarize(self, total: Sums) -> StudyResult:
        """Return the rows with intervals; none for the first subject.

        Raises:
            ValueError: no image was seen.
        """
        if not total:
            raise ValueError("feature_agreement: no image was seen")
        if "images" not in total:
            return StudyResult(rows=())
        images = int(total["images"][0])
        ratio = decibels(total["signal"], total["noise"])
        equal = NO_NOISE if ratio[0] == torch.inf else ""
        values = {"feature_cosine": total["cosine"] / total["images"], "feature_sqnr": ratio}
        rows = [
            row(name, value, images, declared=self.metrics[name], reason=equal * (value is ratio))
            for name, value in values.items()
        ]
        return StudyResult(rows=tuple(rows))
