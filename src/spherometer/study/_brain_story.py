"""What the brain study says about itself: its scores, arms, claims and words."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from spherometer.data import BrainRecipe
from spherometer.data._brain import NOTICE
from spherometer.study._brain_grid import CONDITIONED, NAMES, UNCONDITIONED, BrainProtocol
from spherometer.study._conditional_story import Claim, Score, Story

HEADLINE = "age_few_output"
_SEX = "sex_few_output"


def _scores(shared: BrainProtocol) -> tuple[Score, ...]:
    few, whole = f"{shared.few_labels} labels", f"all {shared.num_train} labels"
    return (
        Score(HEADLINE, f"age R\N{SUPERSCRIPT TWO}, {few}", "r2"),
        Score(_SEX, f"sex accuracy, {few}", "accuracy"),
        Score("age_all_output", f"age R\N{SUPERSCRIPT TWO}, {whole}", "r2"),
        Score("sex_all_output", f"sex accuracy, {whole}", "accuracy"),
        Score("age_few_penultimate", f"age R\N{SUPERSCRIPT TWO}, {few}, penultimate features", "r2"),
    )


_CLAIMS = (
    Claim(
        "Comparing volumes by age (y-Aware) leaves more of age to be read with few labels than comparing "
        "instances (SimCLR).",
        ("y_aware",), ("nt_xent",), HEADLINE,
    ),
    Claim(
        "Optimising conditional alignment and conditional uniformity leaves more of age to be read with few "
        "labels than comparing instances (SimCLR).",
        ("conditional",), ("nt_xent",), HEADLINE,
    ),
    Claim(
        "With few labels, the better of both ways to compare by age beats ridge regression without a network "
        "(on voxels or principal components).",
        CONDITIONED, ("pca", "raw"), HEADLINE,
    ),
    Claim(
        "With few labels, the better of both ways beats a network that was trained to predict age directly.",
        CONDITIONED, ("regression",), HEADLINE,
    ),
    Claim(
        "With all training subjects labelled, too, the better of both ways beats ridge regression without a "
        "network.",
        CONDITIONED, ("pca", "raw"), "age_all_output",
    ),
    Claim(
        "What was compared by age still tells sex as well as SimCLR does (at most 2 points worse).",
        CONDITIONED, ("nt_xent",), _SEX, margin=0.02,
    ),
)  # fmt: skip


def brain_story(shared: BrainProtocol, data: dict[str, Any]) -> Story:
    """The story of one run; ``data`` names the volumes."""
    recipe = asdict(shared.recipe)
    recipe.pop("seed")
    return Story(
        study="brain",
        title="Does age as meta-data help an encoder of brain volumes?",
        lead=(
            NOTICE,
            f"{shared.num_train} made brains (volumes of 8 mm voxels) train each encoder. Two arms are told "
            "every training subject's age and compare volumes by it; one regresses it; SimCLR sees no age. "
            f"Then a ridge regression reads age, and a linear classifier sex, from {shared.few_labels} "
            f"labelled training subjects, and both are judged on {shared.num_test} other subjects.",
        ),
        bandwidth="bandwidth of age (years)",
        names={arm: NAMES[arm] for arm in (*CONDITIONED, *UNCONDITIONED)},
        conditioned=CONDITIONED,
        scores=_scores(shared),
        chosen_by=HEADLINE,
        claims=_CLAIMS,
        data={
            **data,
            "num_train": shared.num_train,
            "num_validation": shared.num_validation,
            "num_test": shared.num_test,
        },
        protocol=recipe
        | {
            "schedule": f"linear warm-up over {recipe['warmup']:.0%} of the steps, then a cosine to 0",
            "preprocessing": "mean 0 and variance 1 over the voxels of each brain, 0 outside; the box that "
            "holds all brains",
            "views": "flip, blur, noise, cutout, crop and resize, each with chance 1/2",
            "encoder": f"conv3d, {shared.width} channels in its first layer, {shared.dim} outputs",
            "temperature": shared.temperature,
            "kernel": "Gaussian of the difference of age; sex is told to no arm",
            "losses": "y-Aware InfoNCE (both views); conditional align 1 + conditional uniform 1 "
            "(normalized, t 2); NT-Xent; mean squared error of standardised age",
            "bandwidth": f"chosen in every seed by age R\N{SUPERSCRIPT TWO} on {shared.num_validation} "
            "validation subjects; so is the number of principal components, out of "
            + ", ".join(map(str, shared.components)),
            "probes": "ridge (strength by cross-validation) and logistic regression on outputs, read as unit "
            "vectors times sqrt(D) and not standardised; penultimate features, principal components and "
            f"voxels are standardised; the mean over {shared.few_label_draws} choices of "
            f"{shared.few_labels} labelled subjects, the same for all arms",
            "measured_on": f"validation subjects; conditional metrics at {shared.measured_bandwidth:g} years",
            "seeds": f"of the split of the {shared.num_subjects} brains into parts, of weights, views and "
            "labelled subjects; the brains are the same",
            "recipe_of_brains": ", ".join(f"{name} {value}" for name, value in asdict(BrainRecipe()).items()),
            "version": shared.version,
        },
        measures={
            "alignment": "Alignment",
            "uniformity": "Uniformity",
            "conditional_alignment": f"Conditional alignment ({shared.measured_bandwidth:g} years)",
            "conditional_uniformity": f"Conditional uniformity ({shared.measured_bandwidth:g} years)",
        },
        trade=(_SEX, HEADLINE),
        caveats=(
            "These are not patient data, and how strongly age and sex show is our choice: what is found here "
            "says how methods differ on such data, not how well they would do on people.",
            "The conditioned arms and the regression know the age of every training subject, the other arms "
            f"only that of the {shared.few_labels} labelled ones.",
        ),
    )
