"""What the studies on digits with meta-data and on diabetes are about, and what they claim."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch

from spherometer.data import DigitViews, ImageSet
from spherometer.study._conditional_digits import proxy_sample
from spherometer.study._conditional_grid import ANGLE, CONDITIONED, NAMES, PROXY, ConditionalProtocol
from spherometer.study._conditional_story import Claim, Score, Story, Unreached
from spherometer.study._diabetes_data import METADATA, RowEncoder

_DIRECT, _BOTH = ("conditional",), ("y_aware", "conditional", "instance_conditional")
_NOTHING = ("raw", "pca", "untrained")
_MEASURES = {
    "alignment": "Alignment",
    "uniformity": "Uniformity",
    "conditional_alignment": "Conditional alignment",
    "conditional_uniformity": "Conditional uniformity",
}
_ARMS_IN_WORDS = (
    "y-Aware InfoNCE and conditional alignment pull samples with similar meta-data together, not only "
    "the two "
    "views of one sample; conditional uniformity pushes apart samples whose meta-data differ, the more the "
    "more they differ. How similar counts as similar is the bandwidth. It was chosen in every seed by the "
    "validation part; the whole curve is shown below, also what was not chosen."
)
_FEW_CAVEAT = (
    "The intervals are over seeds: another start of the network, other views, other labelled samples, and "
    "other meta-data or another split. They say nothing about other data sets."
)


def proxy_story(shared: ConditionalProtocol, images: ImageSet) -> Story:
    """Digits with a noisy number that goes with the class."""
    alone = _proxy_alone(shared, images)
    few = f"{shared.few_labels} labels"
    return Story(
        study=PROXY,
        title="Does a noisy number that goes with the class help to learn the class?",
        lead=(
            "Every digit comes with a number, the proxy: its class plus Gaussian noise of standard deviation "
            f"{shared.amount:g}. Encoders were trained with and without it. Then a linear probe read "
            "the class "
            f"from their output with {few}, on test images whose proxy nobody sees.",
            _ARMS_IN_WORDS,
        ),
        bandwidth="Bandwidth (classes)",
        names=_names(raw="Raw pixels", pca="PCA of the pixels", regression="Direct regression of the proxy"),
        conditioned=CONDITIONED,
        scores=(
            Score("class_few_output", f"Class, {few}", "accuracy"),
            Score("class_all_output", "Class, all labels", "accuracy"),
            Score("proxy_all_output", "Proxy, R²", "r2"),
            Score("class_few_penultimate", f"Class, {few}, layer before", "accuracy"),
            Score("class_all_penultimate", "Class, all labels, layer before", "accuracy"),
        ),
        chosen_by="class_few_output",
        claims=(
            _claim(
                "Conditional alignment + conditional uniformity is better than align + uniform, which "
                "sees no "
                "meta-data.",
                _DIRECT, ("align_uniform",), "class_few_output",
            ),
            _claim("y-Aware InfoNCE is better than NT-Xent, which sees no meta-data.",
                   ("y_aware",), ("nt_xent",), "class_few_output"),
            _claim("Conditional alignment + conditional uniformity is better than y-Aware InfoNCE.",
                   _DIRECT, ("y_aware",), "class_few_output"),
            _claim("The best arm that compares meta-data is better than a network that regresses the proxy.",
                   _BOTH, ("regression",), "class_few_output"),
            _claim("The best arm that compares meta-data is better than no training.",
                   _BOTH, _NOTHING, "class_few_output"),
        ),
        data=_data(images)
        | {
            "proxy": f"class + Gaussian noise of standard deviation {shared.amount:g}, drawn anew in "
            f"every seed",
            "proxy_alone": f"rounding it to the nearest class is right for {alone:.1%} of the test images",
        },
        protocol=_protocol(shared, DigitViews.rotation),
        measures=_MEASURES,
        caveats=(
            "The proxy is made from the label, so the arms that see it have a share of the labels of all "
            "training images; those that do not see it have none. The comparison with direct regression, "
            "which sees the same, is the fair one.",
            "The digits in their order are not a natural scale: 3 is no more like 4 than like 8.",
            _FEW_CAVEAT,
        ),
    )  # fmt: skip


def angle_story(shared: ConditionalProtocol, images: ImageSet) -> Story:
    """Turned digits: what is learned of the angle, and what is forgotten of the class."""
    trade = ("class_all_output", "angle_all_output")
    few = f"{shared.few_labels} labels"
    return Story(
        study=ANGLE,
        title="What does an encoder forget when it learns meta-data?",
        lead=(
            f"Every digit was turned by an angle of its own, between -{shared.amount:g} and "
            f"{shared.amount:g} degrees. The angle is the meta-data; the class plays no part in training. "
            "A good encoder for later use would know both: the angle it was told about, and the class that "
            "nobody told it about.",
            _ARMS_IN_WORDS,
            "Here the validation part chose the bandwidth by the R² of the angle: at the time of "
            "training the "
            "later task is not known.",
        ),
        bandwidth="Bandwidth (degrees)",
        names=_names(raw="Raw pixels", pca="PCA of the pixels", regression="Direct regression of the angle"),
        conditioned=CONDITIONED,
        scores=(
            Score("class_all_output", "Class, all labels", "accuracy"),
            Score("angle_all_output", "Angle, R²", "r2"),
            Score("class_few_output", f"Class, {few}", "accuracy"),
            Score("class_all_penultimate", "Class, all labels, layer before", "accuracy"),
            Score("angle_all_penultimate", "Angle, R², layer before", "r2"),
            Score("class_few_penultimate", f"Class, {few}, layer before", "accuracy"),
        ),
        chosen_by="angle_all_output",
        claims=(
            _claim("y-Aware InfoNCE knows the angle better than NT-Xent.",
                   ("y_aware",), ("nt_xent",), "angle_all_output"),
            Claim("y-Aware InfoNCE forgets the class: its accuracy is below that of NT-Xent.",
                  ("y_aware",), ("nt_xent",), "class_all_output", lower=True),
            Claim("The layer before the output forgets the class as well: there, too, y-Aware InfoNCE is "
                  "below NT-Xent.",
                  ("y_aware",), ("nt_xent",), "class_all_penultimate", lower=True),
            _claim("Instance align + conditional uniform knows the angle better than align + uniform.",
                   ("instance_conditional",), ("align_uniform",), "angle_all_output"),
            Claim("Instance align + conditional uniform keeps the class: at most 2 points below align + "
                  "uniform.",
                  ("instance_conditional",), ("align_uniform",), "class_all_output", margin=0.02),
            Unreached("Whatever its bandwidth, y-Aware InfoNCE does not reach instance align + conditional "
                      "uniform in class and angle together.",
                      "instance_conditional", "y_aware", trade),
            Claim("Direct regression of the angle forgets the class: its accuracy is below that of NT-Xent.",
                  ("regression",), ("nt_xent",), "class_all_output", lower=True),
            _claim("The best arm that compares meta-data knows the angle better than direct regression.",
                   _BOTH, ("regression",), "angle_all_output"),
        ),
        data=_data(images)
        | {"angle": f"uniform in [-{shared.amount:g}, {shared.amount:g}] degrees, drawn anew in every seed"},
        protocol=_protocol(shared, 0.0),
        measures=_MEASURES,
        caveats=(
            "Views are not turned any further: an encoder that is told to ignore small turns could not know "
            "the angle. So the views themselves do not ask any arm to forget it.",
            "Images of 8 x 8 pixels lose detail when they are turned.",
            _FEW_CAVEAT,
        ),
        trade=trade,
    )  # fmt: skip


def diabetes_story(shared: ConditionalProtocol) -> Story:
    """Patients: do age, body mass index and blood pressure help to learn features for the progression?"""
    few, score = f"{shared.few_labels} labels", "progression_all_output"
    return Story(
        study="diabetes",
        title="Do age, body mass index and blood pressure train better features of 442 patients?",
        lead=(
            "A small network sees sex and six blood values of a patient. Age, body mass index and blood "
            "pressure are the meta-data of the training, and are not shown to the network. A ridge "
            "regression "
            "then reads from its output how far the disease progressed within a year.",
            _ARMS_IN_WORDS
            + " Bandwidths are multiples of the median rule's, one for each of the three columns; a pair "
            "counts as similar as far as it is in all three (the product of three Gaussian kernels).",
            "The data are few, and seven numbers hold little that a network could find and a ridge "
            "regression "
            "could not. The raw columns are the rival to beat.",
        ),
        bandwidth="Bandwidth (times the median rule's)",
        names={
            **_names(raw="Raw columns + ridge", pca="PCA + ridge"),
            "raw_and_metadata": "Raw columns and meta-data + ridge",
        },
        conditioned=CONDITIONED,
        scores=(
            Score(score, "Progression, R²", "r2"),
            Score("progression_few_output", f"Progression, R², {few}", "r2"),
            Score("metadata_all_output", "Meta-data, R²", "r2"),
            Score("progression_all_penultimate", "Progression, R², layer before", "r2"),
            Score("progression_few_penultimate", f"Progression, R², {few}, layer before", "r2"),
        ),
        chosen_by=score,
        claims=(
            _claim("Meta-data help: the best arm that compares them is better than the best that does not.",
                   _BOTH, ("align_uniform", "nt_xent"), score),
            _claim("The best arm that compares meta-data is better than a ridge regression on the raw "
                   "columns.",
                   _BOTH, ("raw", "pca"), score),
            _claim("The best arm that compares meta-data is better than direct regression of the meta-data.",
                   _BOTH, ("regression",), score),
            _claim("The best arm that compares meta-data is better than an untrained encoder.",
                   _BOTH, ("untrained",), score),
            _claim("Who has the meta-data at hand does better to give them to the ridge regression as "
                   "columns "
                   "than to train an encoder with them.",
                   ("raw_and_metadata",), _BOTH, score),
        ),
        data={
            "name": "diabetes",
            "source": "442 patients of Efron, Hastie, Johnstone & Tibshirani 2004, as bundled with "
            "scikit-learn",
            "num_train": 221,
            "num_validation": 88,
            "num_test": 133,
            "metadata": ", ".join(METADATA),
            "split": "drawn anew in every seed, stratified by progression",
        },
        protocol=_settings(shared)
        | {
            "views": f"each column is replaced, with probability {shared.amount:g}, by that of another "
            "training patient",
            "encoder": f"two hidden layers of {RowEncoder(2, columns=1).config['hidden']} with batch "
            "normalisation",
        },
        measures=_MEASURES,
        caveats=(
            "Seven columns and 221 training patients are little for a network of any kind.",
            "The splits of different seeds share patients, so the intervals say how much start and split "
            "matter, and are too short for what other patients would give.",
            "Replacing columns at random is a guess at what leaves a patient the same; images have better "
            "grounded views.",
            _FEW_CAVEAT,
        ),
    )  # fmt: skip


def _claim(text: str, first: tuple[str, ...], second: tuple[str, ...], score: str) -> Claim:
    return Claim(text, first, second, score)


def _names(**other: str) -> Mapping[str, str]:
    """All arms but the one that only the diabetes study has, some under another name."""
    found = {**NAMES, **other}
    del found["raw_and_metadata"]
    return found


def _proxy_alone(shared: ConditionalProtocol, images: ImageSet) -> float:
    """Accuracy of rounding the proxy to the nearest class, on the test part of seed 0."""
    sample = proxy_sample(images, shared, 0, "cpu")
    rows = sample.rows["test"]
    guess = sample.metadata["proxy"][rows].round().clamp(0, images.num_classes - 1)
    return float((guess == images.labels[rows]).to(torch.float64).mean())


def _data(images: ImageSet) -> dict[str, Any]:
    return {
        "name": images.name,
        "source": images.source,
        "num_train": len(images.split.train),
        "num_validation": len(images.split.validation),
        "num_test": len(images.split.test),
        "num_classes": images.num_classes,
        "chance": images.chance,
    }


def _protocol(shared: ConditionalProtocol, rotation: float) -> dict[str, Any]:
    views = DigitViews(torch.zeros(1, 1, 8, 8), 0)
    turn = "no rotation" if rotation == 0 else f"rotation up to {rotation:g} degrees"
    return _settings(shared) | {
        "views": f"{turn}, shifts up to {views.translation:.1%} of the side, size changed by up to "
        f"{views.scale:.0%}, contrast by up to {views.contrast:.0%}, brightness by up to "
        f"{views.brightness:g}, "
        f"noise of standard deviation {views.noise:g} (pixels in [0, 1])",
        "encoder": "the convolutional network of the digits study",
    }


def _settings(shared: ConditionalProtocol) -> dict[str, Any]:
    recipe = asdict(shared.recipe)
    recipe.pop("seed")
    return recipe | {
        "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
        "dim": shared.dim,
        "temperature": f"{shared.temperature:g}, of y-Aware InfoNCE and of NT-Xent",
        "weights": "1 for every term; alpha 2, t 2; conditional uniformity in its normalised form",
        "kernel": "Gaussian",
        "bandwidths": list(shared.bandwidths),
        "measured_on": "validation part: alignment of two views of each sample, uniformity of the samples "
        f"themselves; the conditional ones with bandwidth {shared.measured_bandwidth:g}",
        "probes": "classes: logistic regression; numbers: ridge regression, strength by cross-validation on "
        "the training part. Outputs are read as unit vectors (times sqrt(D)), the layer before and raw "
        f"features are standardised. PCA: the number of components ({_listed(shared.components)}) by the "
        "validation part, for each score",
        "few_labels": shared.few_labels,
        "few_label_draws": shared.few_label_draws,
        "direct_regression": "the same encoder and views, a linear map from its output to the standardised "
        "meta-data, mean squared error",
        "version": shared.version,
    }


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(str(number) for number in numbers)
