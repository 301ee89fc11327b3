"""What each number means, which way is better and what to compare it with: said once, for every page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spherometer.report import _text_words

ACCURACIES = {
    "linear_output": ("Linear probe on the output", "linear, output"),
    "linear_penultimate": ("Linear probe on the penultimate features", "linear, penultimate"),
    "knn_output": ("5 nearest neighbours on the output", "5-NN, output"),
    "knn_penultimate": ("5 nearest neighbours on the penultimate features", "5-NN, penultimate"),
    "few_output": ("Linear probe with few labels on the output", "few labels, output"),
    "few_penultimate": (
        "Linear probe with few labels on the penultimate features",
        "few labels, penultimate",
    ),
}

FAMILIES = {
    "align_uniform": "align + uniform",
    "info_nce": "contrastive",
    "combination": "combination",
    "untrained": "untrained",
    "raw_pixels": "raw pixels",
    "tf_idf": "word counts",
    "minilm": "pretrained",
}

# order of the criteria of selection
CRITERIA = ("sum", "alignment", "uniformity", "info_nce", "rankme", "alpha_req", "lidar", "chance")

SETS = {
    "all": "All encoders",
    "non_collapsed": "Without collapsed encoders",
    "without_single_terms": "Without alignment alone and uniformity alone",
    "without_align_uniform": "Without the align + uniform family",
    "without_info_nce": "Without the contrastive family",
    "without_combination": "Without the combinations",
    "only_bags": "Bags of embeddings alone",
    "bags_alive": "Bags of embeddings that did not collapse",
}


def accuracy(name: str, few: object) -> tuple[str, str]:
    """Long and short name of an accuracy; ``few`` is the number of labels of the probes with few."""
    long, short = ACCURACIES.get(name, (name, name))
    return (long.replace("few labels", f"{few} labels"), short.replace("few labels", f"{few} labels"))


# key: (name, better, meaning, baseline)
MEASURES = {
    "alignment": (
        "Alignment",
        "lower",
        "How far apart two random views of the same image land, as a mean squared distance.",
        "0 when both views always land on one point; 2 for two unrelated points spread evenly.",
    ),
    "uniformity": (
        "Uniformity",
        "lower",
        "How evenly all images spread over the sphere: the logarithm of the mean of "
        "exp(−t · squared distance) over all pairs of different images.",
        "0 when all images land on one point; the uniform law, a value that depends on the "
        "number of dimensions, when they spread perfectly evenly.",
    ),
    "normalized_uniformity": (
        "Normalized uniformity",
        "lower",
        "Uniformity on a scale that does not depend on the number of dimensions.",
        "0 is the uniform law, 1 is a single point.",
    ),
    "cross_uniformity": (
        "Cross-uniformity",
        "",
        "Uniformity over all pairs made of one row of each side, positive pairs included.",
        "The uniform law when the two sides are spread evenly and independently.",
    ),
    "conditional_alignment": (
        "Conditional alignment",
        "lower",
        "How far apart samples with similar meta-data land: the mean squared distance, each pair weighted by "
        "the kernel, the own pair included.",
        "Plain alignment when only the own pair counts; the mean distance of all pairs when the meta-data "
        "say nothing about the features.",
    ),
    "conditional_uniformity": (
        "Conditional uniformity",
        "lower",
        "How evenly samples with different meta-data spread: the logarithm of the mean of "
        "exp(−t · squared distance), each pair weighted by how little alike the kernel finds it.",
        "Uniformity over all pairs: below it, different samples lie further apart than any two.",
    ),
    "effective_rank": (
        "Effective rank",
        "higher",
        "How many directions the features use, from the entropy of their singular values. RankMe is the same "
        "but for a tiny constant, so the two columns agree.",
        "At most the number of dimensions; 1 when everything lies on one line.",
    ),
    "rankme": (
        "RankMe",
        "higher",
        "A smooth count of the directions in use, from the singular values of the features.",
        "At most the number of dimensions; 1 when everything lies on one line.",
    ),
    "alpha_req": (
        "alpha-ReQ",
        "",
        "How fast the variances along the principal components fall: the exponent of a power law fitted to "
        "them.",
        "0 when every direction has the same variance; large when a few hold everything. The paper that "
        "proposes it finds encoders near 1 to be the best.",
    ),
    "lidar": (
        "LiDAR",
        "higher",
        "How many directions tell samples apart, in units of how the views of one sample differ.",
        "At most the number of dimensions; 1 when one direction holds all differences.",
    ),
    "isoscore": (
        "IsoScore",
        "higher",
        "How evenly the variance is spread over all dimensions.",
        "0 when one direction holds everything, 1 when every direction has the same variance.",
    ),
    "participation_ratio": (
        "Participation ratio",
        "higher",
        "In how many directions the variance is shared.",
        "At most the number of dimensions.",
    ),
    "wasserstein_uniformity": (
        "Wasserstein uniformity",
        "lower",
        "How far the features, taken as a Gaussian cloud, are from the evenly spread one. "
        "It sees unused directions that uniformity hardly notices.",
        "0 is perfect, √2 is a single point; few points, however evenly spread, stay a little above 0.",
    ),
    "relative_local_density": (
        "Relative local density",
        "higher",
        "Whether points that choose each other as near neighbours share a class, beyond what the numbers "
        "of points explain. The temperature says how near.",
        "About 0 for random labels; the ceiling, which depends on how the classes share the neighbours, "
        "when no neighbour is of another class.",
    ),
    "calinski_harabasz": (
        "Calinski-Harabasz index",
        "higher",
        "How much further classes lie apart than the points within them: the variance between classes over "
        "the variance within, each per degree of freedom. It grows with the number of points.",
        "1 for labels unrelated to the features.",
    ),
    "hubness": (
        "Hubness",
        "lower",
        "How unequally points are chosen as neighbours: the skewness of how many points have a point among "
        "their nearest.",
        "0 when choices are balanced; the larger, the more a few points are everybody's neighbours. "
        "It rises with the number of dimensions also for points without structure.",
    ),
    "neighbor_purity": (
        "Neighbor purity",
        "higher",
        "The share of a point's nearest neighbours that have its class.",
        "The chance that two random points share a class, up to 1.",
    ),
    "tolerance": (
        "Tolerance",
        "",
        "The mean similarity of two points of one class: how much the encoder lets a class stay together.",
        "1 when every class is one point; compare with the similarity of any two points.",
    ),
}

GLOSSARY = (
    ("Encoder", "A function that turns an image into a list of numbers, its features."),
    (
        "Unit sphere",
        "The features are scaled to length 1, so every image is a point on a sphere. "
        "In two dimensions the sphere is a circle.",
    ),
    (
        "View, positive pair",
        "A view is a randomly changed copy of an image. Two views of one image are a positive pair.",
    ),
    (
        "Collapse",
        "All images land on one point: alignment is perfect, and nothing can be told apart. "
        "Here an encoder counts as collapsed when its accuracy is within 5 points of guessing.",
    ),
    (
        "Contrastive training (InfoNCE)",
        "Pull the views of one image together and push different images apart, in one loss. "
        "Its temperature says how strongly close images are pushed.",
    ),
    (
        "Align + uniform",
        "Minimise alignment and uniformity themselves, as a weighted sum of the two.",
    ),
    (
        "Linear probe",
        "A linear classifier trained on frozen features. "
        "High accuracy means that the classes are easy to tell apart.",
    ),
    (
        "5 nearest neighbours",
        "A point gets the class that most of its five nearest training points have.",
    ),
    (
        "Output, penultimate",
        "The output is what the loss sees, on the sphere; the penultimate features are one layer earlier.",
    ),
    (
        "Uniform law",
        "Points drawn evenly over the whole sphere: the value of uniformity to compare with.",
    ),
    (
        "Interval",
        "Numbers in brackets are 95 % intervals; for accuracies, Wilson intervals over the test images.",
    ),
    (
        "Validation, test",
        "Choices are made on validation images; "
        "reported numbers come from test images that were never used to choose.",
    ),
    (
        "Rank correlation",
        "1 when two lists put the encoders in the same order, 0 when unrelated, −1 when reversed.",
    ),
    ("Regret", "The accuracy lost by using the encoder that a criterion picks instead of the best one."),
)


@dataclass(frozen=True)
class Words:
    """How the page of a study speaks.

    ``noun`` is what is encoded, ``pair`` a positive pair, ``collapse`` when an encoder counts as collapsed.
    """

    noun: str
    pair: str
    collapse: str
    template: str
    measures: Mapping[str, tuple[str, str, str, str]]
    glossary: tuple[tuple[str, str], ...]


_IMAGES = Words(
    "images", "views of one image", "within 5 points of guessing", "study.html", MEASURES, GLOSSARY
)
_TEXTS = Words(
    "texts",
    "a definition and its example",
    "all texts almost at one point",
    "study_text.html",
    MEASURES | _text_words.MEASURES,
    _text_words.GLOSSARY,
)


def words_of(study: str) -> Words:
    """The words of a study; those of images where nothing else is known."""
    return _TEXTS if study == "text" else _IMAGES
