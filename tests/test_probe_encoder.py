"""What labels can be read from an encoder: the fast probes against scikit-learn, and the whole report."""

import json

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from spherometer.errors import InputError
from spherometer.probes import wilson_interval
from spherometer.probes._softmax import fit_softmax
from spherometer.probes._votes import vote
from spherometer.training import ConvEncoder, encode, probe_encoder


class Shapes:
    """Images 8 x 8 with a bright row: the class is the row. Read as probe_encoder reads them."""

    def __init__(self, num: int, seed: int, num_classes: int = 3) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(num) % num_classes
        self.array = 0.3 * torch.rand(num, 1, 8, 8, generator=generator)
        self.array[torch.arange(num), 0, 2 * self.labels] += 0.5

    def __len__(self) -> int:
        return len(self.array)

    def images(self, index: torch.Tensor) -> torch.Tensor:
        return self.array[index]


def encoder() -> ConvEncoder:
    return ConvEncoder(4, width=4, hidden=8)


def clouds(num: int = 300, num_classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes in columns whose spreads differ by 10^4, one of them constant."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(num) % num_classes
    x = torch.randn(num, 9, generator=generator) * torch.logspace(-2, 2, 9)
    x[:, :num_classes] += 0.02 * torch.nn.functional.one_hot(labels, num_classes)
    return torch.cat([x, torch.full((num, 1), 3.0)], dim=1), labels


class TestSoftmax:
    @pytest.mark.parametrize(
        ("dtype", "strength", "near"),
        [(torch.float64, 1.0, 1e-4), (torch.float64, 0.01, 1e-4), (torch.float32, 1.0, 5e-3)],
    )
    def test_reaches_the_minimum_that_scikit_learn_reaches(self, dtype, strength, near):
        x, labels = clouds()
        scaled = StandardScaler().fit_transform(x.double().numpy())
        theirs = LogisticRegression(C=strength, tol=1e-12, max_iter=10_000).fit(scaled, labels.numpy())
        ours = fit_softmax(x.to(dtype), labels, num_classes=4, strength=strength)
        assert ours.converged
        assert ours.iterations < 60
        weights = ours.weights.T.double() - ours.weights.T.double().mean(dim=0)
        torch.testing.assert_close(weights, torch.from_numpy(theirs.coef_), atol=near, rtol=0)
        predicted = torch.from_numpy(theirs.predict(scaled))
        assert float((ours.predict(x.to(dtype)) != predicted).double().mean()) <= (0.01 if near > 1e-3 else 0)

    @pytest.mark.parametrize("num_features", [41, 300])
    def test_more_features_than_rows(self, num_features):
        """The same minimum, without numbers for every pair of features."""
        generator = torch.Generator().manual_seed(1)
        x, labels = torch.randn(40, num_features, generator=generator).double(), torch.arange(40) % 3
        scaled = StandardScaler().fit_transform(x.numpy())
        theirs = LogisticRegression(tol=1e-12, max_iter=10_000).fit(scaled, labels.numpy())
        ours = fit_softmax(x, labels, num_classes=3)
        assert ours.converged
        weights = ours.weights.T - ours.weights.T.mean(dim=0)
        torch.testing.assert_close(weights, torch.from_numpy(theirs.coef_), atol=1e-4, rtol=0)
        constant = fit_softmax(torch.full((9, 20), 0.3), torch.arange(9) % 3, num_classes=3)
        assert float(constant.weights.abs().max()) == 0

    def test_says_when_it_stopped_early(self):
        x, labels = clouds()
        assert not fit_softmax(x.double(), labels, num_classes=4, max_iterations=2).converged

    def test_constant_features_are_chance(self):
        fit = fit_softmax(torch.full((9, 2), 0.3), torch.arange(9) % 3, num_classes=3)
        assert torch.isfinite(fit.weights).all()
        assert len(fit.predict(torch.full((9, 2), 0.3)).unique()) == 1

    def test_a_class_without_training_rows_is_never_answered(self):
        x, labels = clouds(40, 2)
        assert int(fit_softmax(x, labels, num_classes=5).predict(x).max()) <= 1


class TestVotes:
    @pytest.mark.parametrize("metric", ["cosine", "euclidean"])
    @pytest.mark.parametrize("k", [1, 5])
    def test_agrees_with_scikit_learn(self, metric, k, monkeypatch):
        monkeypatch.setattr("spherometer.probes._votes._ENTRIES", 200 * 7)  # several blocks, the last smaller
        x, labels = clouds()
        train, asked = x[:200] + 1, x[200:] + 1
        theirs = KNeighborsClassifier(k, metric=metric, algorithm="brute").fit(train.double(), labels[:200])
        ours = vote(train, labels[:200], asked, k=k, num_classes=4, metric=metric)
        assert ours.tolist() == theirs.predict(asked.double()).tolist()

    def test_ties_go_to_the_lower_class(self):
        train = torch.tensor([[0.0], [2.0]])
        assert vote(
            train, torch.tensor([1, 0]), torch.ones(1, 1), k=2, num_classes=3, metric="euclidean"
        ).tolist() == [0]


class TestProbeEncoder:
    def test_reads_what_is_there(self):
        report = probe_encoder(encoder(), Shapes(90, 0), Shapes(60, 1))
        assert json.loads(json.dumps(report)) == report
        assert (report["num_train"], report["num_test"], report["num_classes"]) == (90, 60, 3)
        assert report["chance"] == pytest.approx(1 / 3)
        assert report["encoder"]["kind"] == "conv"
        assert list(report["features"]) == ["output", "penultimate"]
        assert [report["features"][name]["dim"] for name in ("output", "penultimate")] == [4, 8]
        linear = report["features"]["penultimate"]["linear"]
        assert linear["accuracy"] > 0.9
        assert linear["converged"]
        for feature in report["features"].values():
            for probe in ("linear", "knn"):
                accuracy = feature[probe]["accuracy"]
                assert feature[probe]["interval"] == list(wilson_interval(accuracy, 60))
        assert report["features"]["output"]["knn"]["metric"] == "cosine"

    def test_probes_the_features_that_encode_gives(self):
        made, train, test = encoder(), Shapes(30, 0), Shapes(30, 1)
        found = probe_encoder(made, train, test, neighbors=3)["features"]["output"]["knn"]
        known, asked = encode(made, train.array).output, encode(made, test.array).output
        right = vote(known, train.labels, asked, k=3, num_classes=3) == test.labels
        assert found["accuracy"] == float(right.double().mean())
        assert found["neighbors"] == 3

    def test_raw_pixels(self):
        report = probe_encoder(None, Shapes(60, 0), Shapes(30, 1))
        assert report["encoder"] is None
        pixels = report["features"]["pixels"]
        assert (pixels["dim"], pixels["knn"]["metric"]) == (64, "euclidean")
        assert pixels["linear"]["accuracy"] == pixels["knn"]["accuracy"] == 1.0

    def test_parts_of_the_encoder_and_maps(self):
        features = probe_encoder(encoder(), Shapes(30, 0), Shapes(9, 1), features=("dense", "body.9"))[
            "features"
        ]
        assert [features[name]["dim"] for name in features] == [8, 8]

    def test_fewer_training_images_chosen_by_the_seed(self):
        def report(seed):
            return probe_encoder(encoder(), Shapes(90, 0), Shapes(30, 1), max_train=12, seed=seed)

        assert report(0)["num_train"] == 12
        assert report(0) == report(0)

    def test_mode_weights_and_global_generator_stay(self):
        made = encoder().train()
        before, state = torch.get_rng_state(), {k: v.clone() for k, v in made.state_dict().items()}
        probe_encoder(made, Shapes(30, 0), Shapes(9, 1))
        assert made.training
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(value, state[name]) for name, value in made.state_dict().items())

    @pytest.mark.parametrize(
        ("change", "got"),
        [
            ("labels", "no labels"),
            ("class", "30 images of one class"),
            ("empty", "no images"),
        ],
    )
    def test_parts_that_cannot_be_probed(self, change, got):
        train = Shapes(0 if change == "empty" else 30, 0, num_classes=1 if change == "class" else 3)
        if change == "labels":
            train.labels = None
        with pytest.raises(InputError) as error:
            probe_encoder(encoder(), train, Shapes(9, 1))
        assert str(error.value) == (
            "probe_encoder: train must hold images of at least 2 classes with labels, because a probe learns "
            f"to tell classes apart. Got {got}. Pass a labelled part of the data."
        )

    def test_too_many_neighbors(self):
        with pytest.raises(InputError) as error:
            probe_encoder(None, Shapes(9, 0), Shapes(9, 1), neighbors=10)
        assert str(error.value) == (
            "probe_encoder: neighbors must lie between 1 and the 9 training rows, because every prediction "
            "asks that many rows. Got 10. Pass at most 9."
        )

    def test_features_that_are_not_finite(self):
        made = encoder()
        with torch.no_grad():
            made.head.bias[0] = float("nan")
        with pytest.raises(InputError, match=r"^probe_encoder: output must be finite, because NaN"):
            probe_encoder(made, Shapes(9, 0), Shapes(9, 1))
        assert made.training
