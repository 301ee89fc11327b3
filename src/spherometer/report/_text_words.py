"""What each number means where texts are encoded; what is not here is said as for images."""

from __future__ import annotations

MEASURES = {
    "alignment": (
        "Alignment",
        "lower",
        "How far apart a definition and its example land, as a mean squared distance.",
        "0 when both always land on one point; 2 for two unrelated points spread evenly.",
    ),
    "uniformity": (
        "Uniformity",
        "lower",
        "How evenly all texts spread over the sphere: the logarithm of the mean of exp(−t · squared distance)"
        " over all pairs of different texts.",
        "0 when all texts land on one point; the uniform law, a value that depends on the number of "
        "dimensions, when they spread perfectly evenly.",
    ),
}

GLOSSARY = (
    ("Encoder", "A function that turns a text into a list of numbers, its features."),
    (
        "Bag of embeddings",
        "The simplest encoder of texts: every known word has a vector; a text is the mean of the vectors of "
        "its words, in whatever order they stand, and then goes through one linear map.",
    ),
    ("GRU", "A recurrent encoder that reads the words one after the other, here in both directions."),
    (
        "Unit sphere",
        "The features are scaled to length 1, so every text is a point on a sphere. In two dimensions the "
        "sphere is a circle.",
    ),
    (
        "Positive pair",
        "The definition of one meaning of a word, and a sentence that the dictionary quotes as its example.",
    ),
    (
        "Collapse",
        "All texts land on one point: alignment is perfect, and little can be told apart. Here an encoder "
        "counts as collapsed when its normalized uniformity is at least 0.95. A linear probe may still read "
        "something, because tiny differences remain.",
    ),
    (
        "Contrastive training (InfoNCE)",
        "Pull a definition and its example together and push other texts apart, in one loss. Its temperature "
        "says how strongly close texts are pushed.",
    ),
    ("Align + uniform", "Minimise alignment and uniformity themselves, as a weighted sum of the two."),
    (
        "Linear probe",
        "A linear classifier trained on frozen features. High accuracy means that the classes are easy to "
        "tell apart.",
    ),
    (
        "Words counted (TF-IDF)",
        "No encoder: a linear classifier on how often each word occurs in a text, rare words weighing more. "
        "It learns thousands of weights from labels, where the others read a short vector.",
    ),
    (
        "Pretrained (MiniLM)",
        "all-MiniLM-L6-v2, a public sentence encoder trained by others on a billion pairs of sentences; "
        "measured here as it is.",
    ),
    (
        "Output, penultimate",
        "The output is what the loss sees, on the sphere; the penultimate features are one layer earlier: the"
        " mean of the word vectors, or the last states of the GRU.",
    ),
    ("Uniform law", "Points drawn evenly over the whole sphere: the value of uniformity to compare with."),
    (
        "Interval",
        "Numbers in brackets are 95 % intervals; for accuracies, Wilson intervals over the test texts.",
    ),
    (
        "Validation, test",
        "Choices are made on validation texts; reported numbers come from test texts that were never used to "
        "choose.",
    ),
    (
        "Rank correlation",
        "1 when two lists put the encoders in the same order, 0 when unrelated, −1 when reversed.",
    ),
    ("Regret", "The accuracy lost by using the encoder that a criterion picks instead of the best one."),
)
