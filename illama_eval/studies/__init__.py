"""The studies, by name: a new one is one file here and one line in the table."""

from __future__ import annotations

from collections.abc import Mapping

from illama_eval.studies.accuracy import Accuracy
from illama_eval.studies.agreement import Agreement
from illama_eval.studies.anytime import Anytime
from illama_eval.studies.calibration import Calibration
from illama_eval.studies.causality import Causality
from illama_eval.studies.collapse import Collapse
from illama_eval.studies.distance import Distance
from illama_eval.studies.feature_agreement import FeatureAgreement
from illama_eval.studies.lens import Lens
from illama_eval.studies.rank import Rank
from illama_eval.studies.segmentation import Segmentation
from illama_eval.studies.shape_bias import ShapeBias
from illama_eval.study import Study

__all__ = ["STUDIES"]

STUDIES: Mapping[str, type[Study]] = {
    "accuracy": Accuracy,
    "calibration": Calibration,
    "shape_bias": ShapeBias,
    "rank": Rank,
    "collapse": Collapse,
    "causality": Causality,
    "anytime": Anytime,
    "lens": Lens,
    "distance": Distance,
    "agreement": Agreement,
    "feature_agreement": FeatureAgreement,
    "segmentation": Segmentation,
}
