"""Names and explanations for readers: of studies, metrics, attention maps and units.

Studies are in the order of reading. A study without an entry is shown after them, unexplained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from illama_eval.render.format.escape import LONGEST_NAME, sanitize
from illama_eval.results import Row

ARROWS = {"higher": "\N{UPWARDS ARROW}", "lower": "\N{DOWNWARDS ARROW}", None: ""}
"""Direction that is better -> its arrow."""

_LONGEST_UNIT = 9

_UNITS = {"squared distance": "distance\N{SUPERSCRIPT TWO}"}

_METRICS = {
    "top1": "top-1 accuracy",
    "top5": "top-5 accuracy",
    "nll": "NLL",
    "nonfinite": "non-finite logits",
    "ece": "ECE",
    "ece_left": "ECE, bins [lo, hi)",
    "ece_mass": "ECE, equal mass",
    "ece_floor": "ECE floor",
    "calibrated_p": "p of a calibrated model",
    "calibrated_p_scaled": "p of a calibrated model, scaled",
    "mce": "MCE",
    "rmsce": "RMSCE",
    "rmsce_debiased": "RMSCE, debiased",
    "classwise_ece": "class-wise ECE",
    "brier": "Brier score",
    "confidence": "mean confidence",
    "aurc": "AURC",
    "ece_scaled": "ECE, scaled",
    "nll_scaled": "NLL, scaled",
    "ece_unscaled": "ECE, unscaled",
    "nll_unscaled": "NLL, unscaled",
    "flips": "changed answers",
    "kl": "KL divergence",
    "logit_mse": "MSE of logits",
    "logit_cosine": "cosine of logits",
    "logit_sqnr": "SQNR of logits",
    "sqnr": "SQNR of tokens",
    "feature_cosine": "cosine of features",
    "feature_sqnr": "SQNR of features",
    "held_out_top1": "held-out top-1",
    "top1_over_draws": "top-1, interval over draws",
    "chosen_c": "chosen C",
    "sink_background": "sinks on background",
    "background_patches": "patches on background",
    "shape_bias_wilson": "shape bias, Wilson interval",
    "shape_bias_macro": "shape bias, mean of categories",
    "category_accuracy": "accuracy of categories",
    **{
        f"{name}_{way}": f"{label}, {way}"
        for way in ("whole", "slide", "multiscale")
        for name, label in (
            ("miou", "mIoU"),
            ("pixel_accuracy", "pixel accuracy"),
            ("class_accuracy", "class accuracy"),
        )
    },
    "miou": "mIoU",
    "iou": "IoU",
    "rank_of_mean_map": "rank of mean map",
    "rank_of_mean_map_30": "rank of mean map, 30 images",
    "rank_per_image": "rank per image",
    "kept_change": "change of earlier patches",
    "prefix_top1": "top-1 of first patches",
    "prefix_agreement": "agreement of first patches",
    "prefix_ece": "ECE of first patches",
    "head_class": "head, class token",
    "head_patches": "head, mean of patches",
    "knn_class": "neighbours, class token",
    "knn_patches": "neighbours, mean of patches",
    "rollout_first_half": "rollout, first half of the raster",
    "even_first_half": "first half, equal scores",
    "rollout_mass": "rollout by raster row",
    "class_change": "change of the class token",
    "leaking_images": "images that leak",
    "later_edges": "weights on later keys",
}

_PLACES = {"given": "patches given", "kept": "patches kept"}

_MAPS = {"used": "used map", "softmax": "softmax, all keys", "masked": "softmax, masked"}


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a study means, and how the paper measured the same."""

    title: str
    headline: tuple[str, ...]
    """Its metrics for the first screen, the most informative first."""
    meaning: str
    paper: str
    """How the paper measured the same."""
    command: str = ""
    """The command that measures it, shown where it was not measured."""


EXPLAINED: Mapping[str, Explanation] = {
    "accuracy": Explanation(
        title="Accuracy",
        headline=("top1", "top5", "nll"),
        meaning="Top-1 counts an image as right if its class has the largest logit, top-5 if it is "
        "among the five largest. NLL, the log loss, also sees how sure the model was.",
        paper="Top-1 on the 50,000 ImageNet-1K validation images, of the epoch that scored best on "
        "them (Table 6).",
        command="illama-eval accuracy",
    ),
    "calibration": Explanation(
        title="Calibration",
        headline=("ece", "ece_scaled", "brier"),
        meaning="Of the images on which a calibrated model is 70 % sure, it gets 70 % right; ECE "
        "is the mean gap between confidence and accuracy over the bins. On finitely many images "
        "even a perfectly calibrated model shows a gap, the floor; p says how often it would show "
        "one as large as this.",
        paper="ECE with 15 bins of equal width on ImageNet-1K, images resized with a bilinear "
        "filter, no temperature (Table 8, Figure 7).",
        command="illama-eval calibrate",
    ),
    "shape_bias": Explanation(
        title="Shape and texture",
        headline=("shape_bias", "category_accuracy", "error_consistency"),
        meaning="Each picture has the shape of one class and the texture of another. Shape bias is "
        "the share of shape among the decisions for either.",
        paper="On the 1,280 cue-conflict pictures, without the 80 whose shape and texture agree; "
        "the probabilities of the ImageNet classes in each of 16 categories are averaged "
        "(Table 8).",
        command="illama-eval shape-bias",
    ),
    "rank": Explanation(
        title="Attention rank",
        headline=("rank_of_mean_map", "rank_per_image"),
        meaning="The rank of an attention map is how many of its singular values make up 80 % of "
        "their sum: the more, the less a few directions can stand for the map. A causal mask "
        "raises the rank of smooth maps by itself, so a bidirectional model is compared fairly by "
        "its masked map, not by the one that it uses. The more images are averaged, the smoother "
        "the map and the lower its rank: compare ranks over as many images.",
        paper="The maps of 30 validation images that are not named are averaged, then decomposed "
        "once per layer and head; the ranks are read off a plot (Figure 4).",
        command="illama-eval rank",
    ),
    "collapse": Explanation(
        title="Attention collapse",
        headline=("entropy_share", "similar_share", "sink_share"),
        meaning="Attention can stop carrying information in several ways, and each has a detector "
        "with its own limit: a class token that sees nothing, layers that repeat each other, rows "
        "that settle on one key, keys that draw all rows. Mass that the mask takes away is normal "
        "for iLLaMA, whose mask follows the softmax.",
        paper="There, collapse means only that a class token in front of a causal mask sees no "
        "image, so that training fails at 0.1 % top-1 (Table 1). The other detectors are ours.",
        command="illama-eval collapse",
    ),
    "causality": Explanation(
        title="Causality",
        headline=("kept_change",),
        meaning="Of each image the later patches are replaced by another image's. In a causal "
        "model the earlier patches' states do not change at all. The released mask follows the "
        "softmax, whose denominator runs over later patches too: it is not causal, and what was "
        "computed for a part of the image cannot be reused exactly when the rest arrives. The same "
        "weights under the additive mask are causal.",
        paper="The mask is called causal and no such test is reported (section 3.3); the released "
        "code multiplies it after the softmax (equation 2).",
        command="illama-eval causality",
    ),
    "anytime": Explanation(
        title="Anytime accuracy",
        headline=("prefix_top1", "prefix_agreement"),
        meaning="The model is given the first part of each image alone, row by row from the top, "
        "and asked for its answer. Models that saw the same parts are compared image by image.",
        paper="Not reported.",
        command="illama-eval anytime",
    ),
    "lens": Explanation(
        title="Layer lens",
        headline=("head_class", "knn_class"),
        meaning="After every block the final norm and the head are applied as if it were the last, "
        "to the class token and to the mean of the patches; nearest neighbours read the same "
        "states without the head.",
        paper="Not reported.",
        command="illama-eval lens",
    ),
    "distance": Explanation(
        title="Attention distance and rollout",
        headline=("attention_distance", "rollout_first_half"),
        meaning="How many patches away the attended patches are, on average. A causal mask changes "
        "this by itself, so compare models by the relative distance: 1 is what equal scores would "
        "give under the same mask. The rollout multiplies the maps of all blocks, each averaged "
        "with the identity, and says how much of each patch reaches the head. Rows that do not sum "
        "to one are divided by their own sum first.",
        paper="Not reported.",
        command="illama-eval distance",
    ),
    "agreement": Explanation(
        title="Agreement with the first model",
        headline=("flips", "kl", "logit_sqnr"),
        meaning="How far a model is from the first one on the same images, right or wrong: answers "
        "that changed, the divergence of the probabilities, and the ratio of the first model's "
        "logits to what was added to them, in dB. Ten dB more is a third of the noise.",
        paper="Nothing of the kind is reported; its 8-bit figures (Table 7) come from "
        "quantization-aware training, not from quantizing a finished model.",
    ),
    "feature_agreement": Explanation(
        title="Agreement of features with the first model",
        headline=("feature_sqnr", "feature_cosine"),
        meaning="How far the features of a network without a head are from the first one's on the "
        "same images: the ratio of the first one's to what was added to them, in dB, and the "
        "cosine of both.",
        paper="Not reported.",
    ),
    "sensitivity": Explanation(
        title="Sensitivity to quantization",
        headline=(),
        meaning="Each layer's weights are quantized alone, all others staying exact; the "
        "divergence of the logits says how far that moves the answers.",
        paper="Not reported.",
    ),
    "transfer": Explanation(
        title="Transfer",
        headline=("held_out_top1",),
        meaning="What the features are worth on other images. Linear probe: logistic regression on "
        "frozen features, its penalty C chosen on a tenth of the training images that is held out. "
        "Nearest neighbours: the most similar training images vote. Fine-tuning: all weights are "
        "trained further. Accuracy and calibration on this page are those of the transferred "
        "model. A model with random weights is the control: on easy images it comes far, and only "
        "what lies above it was learned before.",
        paper="Full fine-tuning on CIFAR-10 and -100 at 224 px for 300 epochs (Tables 9 and 16): "
        "97.9 % and 85.5 % for iLLaMA-T with the soft mask; no linear probe, no neighbours.",
        command="illama-eval transfer",
    ),
    "segmentation": Explanation(
        title="Segmentation",
        headline=("miou_multiscale", "miou_slide", "miou_whole", "pixel_accuracy_slide"),
        meaning="Mean over the classes of intersection over union, from the pixels of all images "
        "together, found in three ways that must not be confused: the image squeezed into one "
        "window, windows that slide over it, and windows at several scales and flipped.",
        paper="UperNet on ADE20K, tested at several scales and flipped (Table 10); no number at a "
        "single scale.",
        command="illama-eval segment",
    ),
}

DEFINED: Mapping[str, str] = {
    "top1": "share of images whose class has the largest logit",
    "top5": "share of images whose class is among the five largest logits",
    "nll": "mean negative log of the probability of the true class, in nats",
    "nonfinite": "images whose logits hold NaN or infinity; they count as wrong",
    "ece": "expected calibration error: mean gap of confidence and accuracy over bins (lo, hi]",
    "ece_left": "the same with bins [lo, hi)",
    "ece_mass": "the same with bins that hold equally many images",
    "ece_floor": "the ECE that a perfectly calibrated model with these confidences would show",
    "calibrated_p": "how often a perfectly calibrated model would show such an ECE or a larger one",
    "calibrated_p_scaled": "the same after one temperature has scaled the logits",
    "mce": "the largest gap of any bin",
    "rmsce": "root of the mean squared gap",
    "rmsce_debiased": "the same, less what chance adds to it",
    "classwise_ece": "ECE of every class's probability, averaged over the classes",
    "brier": "squared distance of the probabilities from the truth, summed over classes: 0 to 2",
    "confidence": "mean probability of the predicted class",
    "aurc": "mean error when the least sure images are left out one after the other",
    "temperature": "the number that the logits are divided by to lower the NLL",
    "ece_scaled": "ECE after the temperature, fitted on other images",
    "nll_scaled": "NLL after the temperature, fitted on other images",
    "ece_unscaled": "ECE of the same images before the temperature",
    "nll_unscaled": "NLL of the same images before the temperature",
    "shape_bias": "decisions by shape, as a share of those by shape or texture; cues in conflict",
    "shape_bias_wilson": "the same with Wilson's interval for these counts",
    "shape_bias_macro": "the same, averaged over the categories of the shape",
    "undecided": "share of pictures decided for neither their shape nor their texture",
    "category_accuracy": "share of all pictures decided by shape, those without conflict too",
    "shape_decisions": "pictures with cues in conflict that are decided by shape",
    "texture_decisions": "pictures with cues in conflict that are decided by texture",
    "error_consistency": "kappa of being right on the same pictures as an observer",
    "rank_of_mean_map": "the paper's rank: of the map averaged over all images",
    "rank_of_mean_map_30": "the same of maps averaged over as few images as in the paper",
    "rank_per_image": "mean of the ranks of single images' maps",
    "effective_rank": "exponential of the entropy of the normalised singular values",
    "stable_rank": "sum of the squared singular values over the largest squared one",
    "energy_rank": "how many singular values make 90 % of the sum of their squares",
    "reach": "the most attention of any layer's class token that falls on image tokens",
    "feature_spread": "how much class features differ between images; 0 if the model sees none",
    "class_row_mass": "sum of the class token's row",
    "similarity": "cosine of a key's column with the layer before, centred",
    "similar_share": "share of keys whose similarity exceeds the limit",
    "raw_similarity": "the same cosine, not centred: high for any two maps near uniform",
    "raw_similar_share": "share of keys whose raw similarity exceeds the limit",
    "entropy": "entropy of the renormalised rows, in nats",
    "entropy_share": "entropy as a share of the largest possible",
    "row_mass": "sum of a row: below one where a mask follows the softmax",
    "sink_share": "share of images in which one key receives more than 0.3 on average",
    "relative_sink_share": "share of images in which one key receives more than 10 / tokens",
    "sink_position": "share of all sinks that are at this kind of token",
    "sink_background": "share of the sinks on patches that are on background, by the masks",
    "background_patches": "share of all patches that are background: what chance would give",
    "outlier_share": "share of image tokens with a norm far beyond the tail of their image",
    "outlier_images": "share of images with such a token",
    "massive_ratio": "largest activation of an image over its median one",
    "massive_images": "share of images whose largest activation exceeds 100 and 1000 medians",
    "token_residual": "how much tokens differ from their mean, relative to their size; 0: alike",
    "prefix_top1": "top-1 when only the first patches are given; mean over 25, 50 and 75 %",
    "prefix_agreement": "share of images with the answer that the whole image gets",
    "prefix_ece": "ECE of the answers to the first patches alone",
    "head_class": "accuracy of the head on the class token after a block",
    "head_patches": "accuracy of the head on the mean of the patches after a block",
    "knn_class": "accuracy of nearest neighbours by the class token after a block",
    "knn_patches": "accuracy of nearest neighbours by the mean of the patches after a block",
    "attention_distance": "mean distance of patches to the patches they attend to, in patches",
    "relative_distance": "the same over that of equal scores under the same mask",
    "rollout_distance": "mean distance by the rollout through all blocks, in patches",
    "rollout_first_half": "share of the rollout that reaches the head from the first half of the "
    "patches",
    "even_first_half": "the same if all scores were equal, under the same mask",
    "rollout_spread": "exponential of the entropy of that rollout over the number of patches",
    "rollout_mass": "share of that rollout that comes from a row of patches",
    "kept_change": "relative change of the earlier patches' states when later ones are replaced, "
    "in the block where it is largest",
    "class_change": "the same of the class token's state, which may depend on all patches",
    "leaking_images": "share of images in which an earlier patch's state changes beyond rounding",
    "later_edges": "share of pairs of a query and a later key with weight in the map",
    "flips": "share of images whose answer is another than the first model's",
    "kl": "mean divergence of the probabilities from the first model's, in nats",
    "logit_mse": "mean squared distance of the logits from the first model's",
    "logit_cosine": "mean cosine of the logits with the first model's",
    "logit_sqnr": "the first model's logits over what was added to them, in dB",
    "feature_cosine": "mean cosine of the features with the first model's",
    "feature_sqnr": "the first model's features over what was added to them, in dB",
    "miou_whole": "mean IoU over classes, each image squeezed into one window",
    "miou_slide": "mean IoU over classes, windows sliding over each image at one scale",
    "miou_multiscale": "mean IoU over classes, sliding at several scales, flipped too: the paper's",
    "iou": "pixels found in a class over pixels that have it or are given it",
    "pixels": "share of the labeled pixels that have a class",
    "sqnr": "the same for all tokens after a block",
    "top1_over_draws": "mean top-1 of classifiers of few images each; the interval says how far "
    "other training images would move it, that of top-1 how far other test images would",
    "held_out_top1": "top-1 on the held-out training images by which C was chosen",
    "chosen_c": "inverse strength of the L2 penalty of the linear probe, chosen on held-out images",
    "neighbours": "how many nearest training images vote",
    "training_images": "images that the classifier, or the whole model, learned from",
    "best_epoch": "epoch with the highest top-1 on the test images, from 1",
}
"""Metric -> what it is, in one line."""


def in_order(studies: list[str]) -> list[str]:
    """Return the studies in the order of reading, unexplained ones last."""
    known = [name for name in EXPLAINED if name in studies]
    return known + [name for name in studies if name not in EXPLAINED]


def metric_label(metric: str) -> str:
    """Return the metric's name for readers; an unlisted one with spaces for underscores."""
    return _METRICS.get(metric) or sanitize(metric.replace("_", " "), LONGEST_NAME)


def column_label(metric: str, at: Sequence[tuple[str, int | str]] = ()) -> str:
    """Return the metric's name for readers, with the map, the layer or the like that is meant."""
    words = (
        map_label(str(word)) if key == "map" else f"{place_label(key)} {sanitize(str(word))}"
        for key, word in at
    )
    return ", ".join((metric_label(metric), *words))


def place_label(key: str) -> str:
    """Return a key of `at` for readers: what rows are by."""
    return _PLACES.get(key) or sanitize(key.replace("_", " "), LONGEST_NAME)


def map_label(name: str) -> str:
    """Return the attention map's name for readers."""
    return _MAPS.get(name) or sanitize(name, LONGEST_NAME)


def study_label(study: str) -> str:
    """Return the study's name for readers."""
    return sanitize(study.replace("_", " "), LONGEST_NAME)


def study_title(study: str) -> str:
    """Return the study's name as a heading."""
    known = EXPLAINED.get(study)
    return known.title if known else study_label(study).capitalize()


def anchor(name: str) -> str:
    """Return the name as an id of the page, and as the stem of a file."""
    return re.sub(r"[^A-Za-z0-9_-]", "", name)[:LONGEST_NAME] or "table"


def unit_label(unit: str) -> str:
    """Return the unit, short enough for a column."""
    return _UNITS.get(unit) or sanitize(unit, _LONGEST_UNIT)


def heading(rows: Sequence[Row]) -> str:
    """Return whose numbers these are: `subject on source`, both cut if very long."""
    first = rows[0]
    return f"{sanitize(first.subject, LONGEST_NAME)} on {sanitize(first.source, LONGEST_NAME)}"
