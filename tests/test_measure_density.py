"""local_density() and measure(labels=): definitions, the reading, names, JSON, what is left out."""

import json
import math

import numpy as np
import pytest
import torch

import oracles
import spherometer as sm
from spherometer import metrics
from spherometer._density import RULE, LocalDensity
from spherometer._local_density import _percent, local_density
from spherometer.errors import InputError, NotOnSphereError, ShapeError, UndefinedError


def sample(num=24, dim=3, classes=3, apart=1.5, seed=0):
    """Rows around one centre for each class, and their classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % classes
    return apart * rng.normal(size=(classes, dim))[labels] + rng.normal(size=(num, dim)), labels


# --- values -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_values_are_the_definitions(dtype):
    z, labels = sample()
    z = z.astype(dtype)
    bound = 1e-9 if dtype is np.float64 else 2e-5
    found = local_density(z, labels, temperatures=(2.0, 0.3), k=(1, 5))
    assert [point.temperature for point in found.points] == [2.0, 0.3]
    for point in found.points:
        wanted = oracles.relative_local_density(z, labels.tolist(), point.temperature)
        assert point.value == pytest.approx(wanted, abs=bound)
        weights = np.array(oracles.neighbour_weights(oracles.unit(z), point.temperature))
        shares = [weights[labels == c].sum() / weights.sum() for c in range(3)]
        assert list(point.shares.values()) == pytest.approx(shares, abs=bound)
        assert point.ceiling == pytest.approx(1 - sum(share**2 for share in shares), abs=bound)
        own = [weights[np.ix_(labels == c, labels == c)].sum() / weights.sum() for c in range(3)]
        gives = [a - b**2 for a, b in zip(own, shares, strict=True)]
        assert list(point.contributions.values()) == pytest.approx(gives, abs=bound)
        assert math.fsum(point.contributions.values()) == pytest.approx(point.value, abs=1e-12)
        way = (point.value - point.random) / (point.ceiling - point.random)
        assert point.local_share == pytest.approx(way, abs=1e-12)
    for point in found.purity:
        wanted = oracles.neighbor_purity(z, labels.tolist(), k=point.k)
        assert point.value == pytest.approx(wanted, abs=1e-12)
        assert point.baseline == pytest.approx(7 / 23)
    index = oracles.calinski_harabasz(z, labels.tolist())
    assert found.calinski_harabasz == pytest.approx(index, rel=bound)
    share = found.between_share
    assert share / (1 - share) * 21 / 2 == pytest.approx(index, rel=100 * bound)
    assert found.between_random == pytest.approx(2 / 23)
    assert found.balanced_ceiling == pytest.approx(2 / 3)
    assert found.num == 24
    assert found.classes == {"0": 8, "1": 8, "2": 8}


def test_the_reading_does_not_depend_on_what_is_shown():
    z, labels = sample()
    usual = local_density(z, labels)
    assert [point.temperature for point in usual.points] == [1.0, 0.5, 0.2, 0.1, 0.05]
    assert usual.local_share == usual.points[3].local_share
    for temperatures in (1, [2.0], np.array([3.0, 0.01]), torch.tensor(4.0)):
        found = local_density(z, labels, temperatures=temperatures)
        assert found.local_share == pytest.approx(usual.local_share, abs=1e-12)
        assert (found.reading, found.sentence) == (usual.reading, usual.sentence)
        assert len(found.points) == (2 if isinstance(temperatures, np.ndarray) else 1)
    assert local_density(z, labels, temperatures=[1.0, 0.2]).reading_point.temperature == 0.2


@pytest.mark.parametrize("seed", range(3))
def test_what_does_not_matter(seed):
    rng = np.random.default_rng(seed)
    z, labels = sample(seed=seed)
    plain = local_density(z, labels, normalize=False)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(24)
    for other, names in (
        (2.0**seed * z @ turned + 1, labels),
        (z[order], labels[order]),
        (z, [f"class {label}" for label in labels]),
        (torch.from_numpy(z), torch.from_numpy(labels)),
    ):
        found = local_density(other, names, normalize=False)
        for a, b in zip(found.points, plain.points, strict=True):
            assert a.value == pytest.approx(b.value, abs=1e-9)
            assert a.random == pytest.approx(b.random, abs=1e-9)
        assert [a.value for a in found.purity] == pytest.approx([b.value for b in plain.purity])
        assert found.between_share == pytest.approx(plain.between_share, abs=1e-9)
        assert found.reading == plain.reading


# --- the reading --------------------------------------------------------------------------------------


def blobs():
    """Two tight classes far apart."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    return np.stack([np.where(labels == 0, -1.0, 1.0), np.zeros(40)], axis=1) + 0.02 * rng.normal(
        size=(40, 2)
    ), labels


def arcs():
    """A circle of six arcs, in two classes by turns."""
    angle = np.arange(60) * 2 * np.pi / 60
    return np.stack([np.cos(angle), np.sin(angle)], axis=1), np.arange(60) // 10 % 2


def pure_crowds_and_mixed_couples():
    """Most rows in two pure crowds; but a crowd weighs no more than a couple, and couples are mixed."""
    crowd = np.zeros((100, 12))
    labels = np.arange(100) % 2
    crowd[:, 0] = np.where(labels == 0, -1.0, 1.0)
    couples = np.repeat(0.9 * np.eye(12)[2:], 2, axis=0)
    return np.concatenate([crowd, couples]), np.concatenate([labels, np.arange(20) % 2])


def noise():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 5)), rng.integers(0, 2, 60)


@pytest.mark.parametrize(
    ("make", "reading", "start"),
    [
        (
            blobs,
            "both",
            "Locally and globally dense: the nearest neighbours of a row are mostly of its own class, and "
            "classes differ more than rows of one class do. Relative local density at temperature 0.1 goes "
            "100 % of the way from random labels to its ceiling; 100 % of the variance lies between classes.",
        ),
        (
            arcs,
            "locally dense",
            "Locally dense, not globally: the nearest neighbours of a row are mostly of its own class, and "
            "rows of one class differ more than classes do.",
        ),
        (
            pure_crowds_and_mixed_couples,
            "globally dense",
            "Globally dense, not locally: the nearest neighbours of a row are often of other classes, and "
            "classes differ more than rows of one class do.",
        ),
        (
            noise,
            "neither",
            "Neither locally nor globally dense: the nearest neighbours of a row are often of other classes, "
            "and rows of one class differ more than classes do.",
        ),
    ],
)
def test_reading(make, reading, start):
    found = local_density(*make(), normalize=False)
    assert found.reading == reading
    assert found.sentence.startswith(start)
    assert (found.local_share >= 0.5) == (reading in ("both", "locally dense"))
    assert (found.between_share >= 0.5) == (reading in ("both", "globally dense"))
    assert LocalDensity.from_json(found.to_json()) == found


def test_one_class_has_nothing_to_set_apart():
    z, _ = noise()
    found = local_density(z, ["a"] * 60, interval=True)
    assert [point.value for point in found.points] == [0.0] * 5
    assert found.local_share is None
    assert found.reading == "neither"
    assert found.sentence == ("Neither locally nor globally dense: one class has all rows, or all weight.")
    assert found.calinski_harabasz is None
    assert (found.between_share, found.between_random, found.balanced_ceiling) == (0, 0, 0)
    assert "-0.0000" not in str(found)
    assert LocalDensity.from_json(found.to_json()) == found


def test_few_rows_in_a_class_are_said():
    z, _ = noise()
    found = local_density(z, np.arange(60) // 2)
    assert found.notes == (
        "Neighbor purity at k = 100 left out: a row has only 59 others.",
        "Classes have few rows (60 rows, 30 classes): labels unrelated to the features would put 49 % of the "
        "variance between classes.",
    )
    each = local_density(z, np.arange(60))
    assert each.calinski_harabasz is None
    assert each.between_share == 1.0
    assert each.points[3].value == pytest.approx(each.points[3].random, abs=1e-12)


def test_a_share_below_half_never_reads_as_half():
    assert [_percent(share) for share in (0.4999, 0.4951, 0.5, 0.494, 0.999, -0.001, -0.12)] == [
        "49.9 %",
        "49.5 %",
        "50 %",
        "49 %",
        "100 %",
        "0 %",
        "-12 %",
    ]


# --- names, missing labels ------------------------------------------------------------------------------


def test_names_of_classes():
    z, _ = noise()
    mixed = [1, "1", "x" * 100, "x" * 101] * 15
    found = local_density(z, mixed)
    longest = "x" * 59 + "…"
    assert found.classes == {"1": 15, "1 (2)": 15, longest: 15, f"{longest} (2)": 15}
    assert list(found.points[0].contributions) == list(found.classes)
    for labels in (torch.arange(60) % 2, np.arange(60) % 2, [0, 1] * 30):
        assert local_density(z, labels).classes == {"0": 30, "1": 30}
    assert local_density(z, np.array(["b", "a"] * 30)).classes == {"a": 30, "b": 30}
    assert local_density(z, [True, False] * 30).classes == {"False": 30, "True": 30}


def test_rows_that_are_dropped():
    z, labels = sample(30)
    names = [None if row == 5 else ("abc"[label]) for row, label in enumerate(labels)]
    names[7] = "lonely"
    z[7, 0] = math.nan  # the only row of its class
    found = local_density(z, names, nan="drop")
    kept = [row for row in range(30) if row not in (5, 7)]
    clean = local_density(z[kept], [names[row] for row in kept])
    assert found.notes[:2] == (
        "1 rows with NaN or infinity dropped, 29 kept.",
        "1 rows without a label left out.",
    )
    assert found.notes[2:] == clean.notes
    assert found.to_dict() | {"notes": []} == clean.to_dict() | {"notes": []}
    e = sm.measure(z, labels=names, nan="drop")
    assert e.local_density.classes == {"a": 10, "b": 9, "c": 9}
    assert e["relative_local_density"].num == 28


# --- intervals ----------------------------------------------------------------------------------------


def test_intervals():
    z, labels = sample(50)
    found = local_density(z, labels, temperatures=(1.0, 0.2), interval=True)
    assert found.settings["interval"] == "jackknife over 20 groups of rows"
    groups = [[row for row in range(50) if row % 20 != g or row >= 40] for g in range(20)]
    for point in found.points:
        values = [
            float(metrics.relative_local_density(z[rows], labels[rows], temperature=point.temperature))
            for rows in groups
        ]
        spread = sum((each - np.mean(values)) ** 2 for each in values)
        half = 2.093 * math.sqrt(48 / 40 * spread)
        assert point.interval == pytest.approx((point.value - half, point.value + half), rel=1e-4)
    for less in (local_density(z, labels), local_density(z[:39], labels[:39], interval=True)):
        assert {point.interval for point in less.points} == {None}
        assert less.settings["interval"] is None
    assert found.rows()[1] == {
        "temperature": 0.2,
        "relative_local_density": found.points[1].value,
        "relative_local_density_low": found.points[1].interval[0],
        "relative_local_density_high": found.points[1].interval[1],
        "ceiling": found.points[1].ceiling,
        "random": found.points[1].random,
    }


def test_interval_of_calinski_harabasz_is_that_of_the_share_of_variance():
    z, labels = sample(60)
    m = sm.measure(z, labels=labels)["calinski_harabasz"]

    def share(rows):
        index = float(metrics.calinski_harabasz(z[rows], labels[rows]))
        ratio = index * 2 / (len(rows) - 3)
        return ratio / (1 + ratio)

    values = [share([row for row in range(60) if row % 20 != group]) for group in range(20)]
    half = 2.093 * math.sqrt(57 / 60 * sum((each - np.mean(values)) ** 2 for each in values))
    middle = share(range(60))
    ends = [one / (1 - one) * 57 / 2 for one in (middle - half, middle + half)]
    assert m.interval == pytest.approx(ends, rel=1e-3)


# --- measure ------------------------------------------------------------------------------------------


def test_measure_carries_the_result():
    z, labels = sample(60)
    e = sm.measure(z, labels=labels, k=3)
    density = e.local_density
    assert density.points == local_density(z, labels, interval=True).points
    assert [point.k for point in density.purity] == [1, 3, 10]
    assert density.notes == ("Neighbor purity at k = 100 left out: a row has only 59 others.",)
    point = density.points[3]
    m = e["relative_local_density"]
    assert (m.value, m.interval) == (point.value, point.interval)
    assert m.baseline == {
        "random labels": point.random,
        "ceiling": point.ceiling,
        "balanced ceiling": 1 - 1 / 3,
    }
    assert m.settings["temperature"] == 0.1
    assert m.label == "Relative local density (temperature = 0.1)"
    assert e["neighbor_purity"].value == density.purity[1].value
    assert e["calinski_harabasz"].baseline == {"unrelated labels": 1.0}
    assert e["hubness"].value == pytest.approx(oracles.hubness(z, k=3))
    assert e["hubness"].settings["k"] == 3
    assert sm.Evaluation.from_json(e.to_json()) == e
    assert str(density) in str(e)
    assert str(density).splitlines()[0] in e._repr_html_()
    assert sm.measure(z).local_density is None
    assert "local_density" not in sm.measure(z).to_dict()


def test_intervals_of_many_rows_are_made_on_request():
    z, labels = sample(2049, dim=2)
    e = sm.measure(z.astype(np.float32), labels=labels)
    assert e["relative_local_density"].interval is None
    assert e["relative_local_density"].settings["interval"] is None
    assert e["calinski_harabasz"].interval is not None
    assert e.local_density.notes == (
        "No interval of relative local density: with more than 2048 rows it is made on request, by "
        "local_density(x, labels, interval=True).",
    )


def test_what_is_undefined_is_left_out_with_a_note():
    z, _ = noise()
    one = sm.measure(z, labels=["a"] * 60)
    assert one.notes == ("calinski_harabasz left out: there is one class.",)
    assert one["relative_local_density"].value == 0
    corners = np.repeat(np.eye(3), 4, axis=0)
    collapsed = sm.measure(corners, labels=np.arange(12) // 4, k=3)
    assert collapsed.notes == ("calinski_harabasz left out: no class has any variance.",)
    assert collapsed.local_density.reading == "both"
    labels = [None] * 59 + ["a"]
    alone = sm.measure(z, labels=labels, nan="drop")
    assert alone.notes == (
        "59 rows without a label left out of the label metrics.",
        "relative_local_density and calinski_harabasz left out: they need at least 2 rows with a label.",
        "neighbor_purity and hubness left out: k = 10 neighbours need more than 1 labelled rows.",
        "tolerance left out: no class has two rows.",
    )
    assert alone.local_density is None
    none = sm.measure(z, labels=[None] * 60, nan="drop")
    assert none.local_density is None
    assert "tolerance" not in none


# --- the table, the JSON --------------------------------------------------------------------------------


def test_table():
    z, labels = sample(60)
    found = local_density(z, labels, k=(1, 10, 100))
    text = str(found)
    assert " ".join(text.split()).startswith(f"{found.sentence} {RULE}")
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert "temperature  relative local density  random labels  ceiling" in lines
    assert any(" ".join(line.split()) == "neighbours neighbor purity unrelated labels" for line in lines)
    assert "class  rows  contribution at 0.1  at most" in lines
    assert lines[-1] == f"Note: {found.notes[0]}"
    many = local_density(z, np.arange(60) // 2)
    assert any(line.startswith("11 more classes    22 ") for line in str(many).splitlines())
    exactly = local_density(z, np.arange(60) % 20)
    assert "more classes" not in str(exactly)


def broken(document, path, value):
    found = json.loads(json.dumps(document))
    part = found
    for key in path[:-1]:
        part = part[key]
    if value is KeyError:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return found


@pytest.mark.parametrize(
    ("path", "value", "must"),
    [
        (("schema",), "other", "be an object whose schema is 'spherometer.local_density/1'. Got"),
        (("reading",), KeyError, "hold in the result an object with the keys schema, spherometer, reading"),
        (("more",), 1, "hold in the result an object with the keys"),
        (("reading",), "dense", "hold as 'reading' one of locally dense, globally dense, both, neither"),
        (("points",), [], "hold a list 'points' that is not empty"),
        (("points",), {}, "hold a list 'points'"),
        (("points", 0, "value"), None, "hold a number 'value'"),
        (("points", 0, "value"), True, "hold a number 'value'"),
        (("points", 0, "temperature"), 0, "hold a number 'temperature' greater than 0"),
        (("points", 0, "interval"), [1], "hold two numbers or null as 'interval'"),
        (("points", 0, "shares"), [1.0], "hold one number for each class as 'shares' in every point"),
        (("points", 0), 3, "hold in every point an object with the keys temperature, value"),
        (("purity", 0, "k"), 1.5, "hold a whole number 'k' of at least 1"),
        (("purity", 0), {}, "hold in 'purity' an object with the keys k, value, interval, baseline"),
        (("classes",), [], "hold a list 'classes' that is not empty"),
        (("classes", 0, "name"), "1", "hold 'classes' with a name of their own each"),
        (("classes", 0, "num"), 0, "hold a whole number 'num' of at least 1"),
        (("between_share",), None, "hold a number 'between_share'"),
        (("local_share",), "x", "hold a number 'local_share'"),
        (("calinski_harabasz",), 10**400, "hold a number 'calinski_harabasz'"),
        (("num",), -1, "hold a whole number 'num' of at least 2"),
        (("sentence",), 3, "hold a string 'sentence'"),
        (("settings",), [], "hold an object 'settings'"),
        (("notes",), [1], "hold a list of strings 'notes'"),
    ],
)
def test_other_documents_are_refused(path, value, must):
    z, labels = sample()
    document = broken(local_density(z, labels, interval=True).to_dict(), path, value)
    for read in (
        LocalDensity.from_dict,
        lambda d: sm.Evaluation.from_dict({**sm.measure(z).to_dict(), "local_density": d}),
    ):
        with pytest.raises(InputError) as caught:
            read(document)
        text = str(caught.value)
        assert text.startswith(f"LocalDensity: document must {must.split('. Got')[0]}"), text
        assert text.endswith(". Write it with to_json(), or measure again.")


def test_text_that_is_not_json():
    for text in ("", "{", "NaN", b"\xff", "[" * 100_000):
        with pytest.raises(InputError, match=r"^LocalDensity: document must be"):
            LocalDensity.from_json(text)


def test_json_goes_to_a_file(tmp_path):
    found = local_density(*sample())
    text = found.to_json(tmp_path / "d.json")
    assert (tmp_path / "d.json").read_text(encoding="utf-8") == text + "\n"
    assert LocalDensity.from_json(text) == found


# --- bad input ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: local_density(np.ones((5, 2)), [0, 0, 1, 1, 1]),
            UndefinedError,
            "local_density: z must hold at least two different rows, because distances are measured against "
            "their mean, which is 0 here. Got 5 equal rows. Look for a collapsed encoder.",
        ),
        (
            lambda: local_density(np.eye(3), [0, 1]),
            ShapeError,
            "local_density: labels must have one entry for each row, because entry i is the class of row i. "
            "Got shape (2,) for 3 rows. Pass a list, an array or a tensor of N labels.",
        ),
        (
            lambda: local_density(np.eye(3), [0, math.nan, 1]),
            InputError,
            "local_density: labels must be there for every row, because a missing label is not a class of "
            "its own. Got 1 of 3 labels None, NaN or empty, the first is label 1. Remove those rows, or pass "
            'nan="drop" to leave them out.',
        ),
        (
            lambda: local_density(np.eye(3), [0, None, None], nan="drop"),
            UndefinedError,
            "local_density: z must have at least 2 rows with a label, because the quantity is a mean over "
            "pairs of rows. Got 1 of 3 rows. Pass the whole set at once.",
        ),
        (
            lambda: local_density(np.eye(3), [0, 1, 1], temperatures=(1.0, 0.0)),
            InputError,
            "local_density: temperatures must be a finite number greater than 0, because the formula is "
            "defined only there. Got 0. Pass for instance temperatures=2.",
        ),
        (
            lambda: local_density(np.eye(3), [0, 1, 1], temperatures=()),
            InputError,
            "local_density: temperatures must hold at least one number, because the curve has a point for "
            "each. Got an empty sequence. Pass for instance temperatures=(1.0, 0.1).",
        ),
        (
            lambda: local_density(np.eye(3), [0, 1, 1], k=0),
            InputError,
            "local_density: k must be a whole number of at least 1, because it counts something. Got 0. Pass "
            "for instance k=1.",
        ),
        (
            lambda: local_density(np.diag([1.0, 0.0]), [0, 1]),
            NotOnSphereError,
            "local_density: z must have no rows of zeros, because a zero vector has no direction on the "
            "sphere. Got 1 of 2 rows of zeros, the first is row 1. Remove them, or look for dead units in "
            "the encoder.",
        ),
    ],
)
def test_messages(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == text


def test_nothing_is_touched():
    z, labels = (torch.from_numpy(part) for part in sample(50))
    z.requires_grad_()
    before, state = z.detach().clone(), torch.get_rng_state()
    local_density(z, labels, interval=True)
    assert torch.equal(z, before)
    assert torch.equal(torch.get_rng_state(), state)
