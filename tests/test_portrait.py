"""The portrait of a set of features: each number against its definition, strict JSON, odd inputs."""

from __future__ import annotations

import copy
import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import spherometer as sm
from spherometer import _uniform_law, sphere
from spherometer._portrait import Portrait, portrait_of
from spherometer.errors import InputError


def rows(num: int, dim: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, dim, generator=generator, dtype=torch.float64)


def portrait(num: int = 60, dim: int = 5, **arguments: Any) -> Portrait:
    raw = 3 * rows(num, dim)
    return portrait_of(sphere.normalize(raw), raw, **arguments)


def everything() -> Portrait:
    unit = sphere.normalize(rows(60, 5))
    return portrait(
        ids=[f"doc {i}" for i in range(60)],
        labels=[f"kind {i % 3}" for i in range(60)],
        metadata={"age": np.linspace(20, 80, 60), "site": ["a", "b", None] * 20},
        other=sphere.normalize(unit + 0.2 * rows(60, 5, 1)),
    )


# --- the uniform law ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 16, 384, 4096])
def test_distances_of_the_uniform_law(dim: int) -> None:
    edges = np.linspace(0, 2, 101)
    found = _uniform_law.distance_shares(dim, edges)
    if dim == 1:
        wanted = np.array([0.5, *[0.0] * 98, 0.5])
    else:  # (1 - cos) / 2 has a Beta law
        wanted = np.diff(stats.beta.cdf(edges**2 / 4, (dim - 1) / 2, (dim - 1) / 2))
    np.testing.assert_allclose(found, wanted, atol=1e-10)


@pytest.mark.parametrize(("num", "dim"), [(4000, 40), (300, 100), (101, 100), (60, 300), (2, 5)])
def test_directions_of_the_uniform_law(num: int, dim: int) -> None:
    shares = _uniform_law.variance_shares(num, dim)
    assert len(shares) == min(num - 1, dim)
    assert shares.sum() == pytest.approx(1)
    assert (np.diff(shares) <= 0).all()
    drawn = sphere.sample_uniform(num, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance = torch.linalg.svdvals(drawn - drawn.mean(dim=0))[: len(shares)].square()
    np.testing.assert_allclose(shares, variance / variance.sum(), atol=0.1 * shares[0])


@pytest.mark.parametrize(("num", "dim"), [(40, 2), (40, 3), (100, 16), (10, 1)])
def test_bands_hold_95_percent_of_uniform_sets(num: int, dim: int) -> None:
    generator = torch.Generator().manual_seed(1)
    inside, aligned = 0, 0
    low, high = _uniform_law.uniformity_band(num, dim, 2.0)
    near, far = _uniform_law.alignment_band(num, dim, 2.0)
    for _ in range(200):
        x, y = (sphere.sample_uniform(num, dim, generator=generator, dtype=torch.float64) for _ in "xy")
        inside += low <= float(sm.uniformity(x)) <= high
        aligned += near <= float(sm.alignment(x, y)) <= far
    assert 0.90 <= inside / 200 <= 1
    assert 0.90 <= aligned / 200 <= 1
    assert 0.5 * (near + far) == pytest.approx(2.0, abs=1e-6)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 3.5])
def test_unrelated_pairs_lie_in_the_middle_of_their_band(alpha: float) -> None:
    for dim in (1, 2, 7, 200):
        unit = sphere.sample_uniform(40, dim, generator=torch.Generator().manual_seed(0))
        baseline = sm.measure(unit, unit, alpha=alpha)["alignment"].baseline["unrelated pairs"]
        low, high = _uniform_law.alignment_band(10**6, dim, alpha)
        assert 0.5 * (low + high) == pytest.approx(baseline, rel=1e-6)


def test_radius_of_the_uniform_law_seen_flat() -> None:
    for dim in (3, 10, 300):
        drawn = sphere.sample_uniform(40_000, dim, generator=torch.Generator().manual_seed(0))
        radius = _uniform_law.projected_radius(dim)
        assert radius is not None
        inside = (torch.linalg.vector_norm(drawn[:, :2], dim=1) <= radius).double().mean()
        assert float(inside) == pytest.approx(0.95, abs=0.005)
    assert _uniform_law.projected_radius(2) is None


# --- the parts ----------------------------------------------------------------------------------------


def test_every_distance_of_a_small_set_is_counted() -> None:
    p, unit = portrait(other=sphere.normalize(rows(60, 5, 3))), sphere.normalize(rows(60, 5))
    edges = p.distances["edges"]
    wanted = [float((a - b).norm()) for a, b in itertools.combinations(unit, 2)]
    assert p.distances["every"]
    assert p.distances["num_random"] == 60 * 59 // 2
    assert p.distances["random"] == np.histogram(wanted, edges)[0].tolist()
    to_other = (unit - sphere.normalize(rows(60, 5, 3))).norm(dim=1)
    assert p.distances["positive"] == np.histogram(to_other, edges)[0].tolist()
    assert p.num_pairs == 60
    beats = np.greater.outer(np.array(wanted), to_other.numpy()).mean()
    assert p.distances["closer"] == pytest.approx(beats)
    assert portrait().distances["positive"] is None


def test_a_large_set_is_sampled_by_its_seed() -> None:
    one, same, another = (portrait(600, 8, seed=seed) for seed in (0, 0, 1))
    assert (one.distances["every"], sum(one.distances["random"])) == (False, 100_000)
    assert one.to_json() == same.to_json()
    assert one.distances["random"] != another.distances["random"]
    drawn, law = np.array(one.distances["random"]) / 1e5, np.array(one.distances["uniform"])
    assert np.abs(drawn - law).max() < 0.01


def test_the_spectrum_is_that_of_centred_unit_rows() -> None:
    p = portrait(300, 12)
    unit = sphere.normalize(rows(300, 12))
    variance = torch.linalg.eigvalsh(torch.cov(unit.T)).flip(0)
    np.testing.assert_allclose(p.spectrum["shares"], variance / variance.sum(), rtol=1e-9)
    assert p.spectrum["ranks"] == list(range(1, 13))
    assert p.spectrum["half"] == int((variance.cumsum(0) / variance.sum() < 0.5).sum()) + 1
    assert p.spectrum["most"] == int((variance.cumsum(0) / variance.sum() < 0.9).sum()) + 1
    many = portrait(700, 500)
    assert (len(many.spectrum["ranks"]) <= 200, many.spectrum["ranks"][-1]) == (True, 500)


def test_lengths_and_the_mean() -> None:
    p, raw = portrait(), 3 * rows(60, 5)
    lengths = raw.norm(dim=1)
    assert p.lengths["least"] == pytest.approx(float(lengths.min()))
    assert p.lengths["most"] == pytest.approx(float(lengths.max()))
    assert p.mean_length == pytest.approx(float(sphere.normalize(raw).mean(dim=0).norm()))


@pytest.mark.parametrize(
    ("dim", "kind"), [(1, "projection"), (2, "circle"), (3, "sphere"), (9, "projection")]
)
def test_every_row_lies_somewhere_on_the_map(dim: int, kind: str) -> None:
    p = portrait(500, dim)
    assert p.density["kind"] == kind
    assert sum(map(sum, p.density["counts"])) == 500
    assert Portrait.from_json(p.to_json()) == p


def test_the_map_shows_the_leading_directions() -> None:
    raw = rows(400, 6) * torch.tensor([9.0, 5, 1, 1, 1, 1])
    p = portrait_of(sphere.normalize(raw), raw, labels=["left" if x < 0 else "right" for x in raw[:, 0]])
    assert p.density["shares"] == p.spectrum["shares"][:2]
    left, right = p.density["marks"]
    assert (left["name"], right["name"]) == ("left", "right")
    assert abs(left["at"][0] - right["at"][0]) > 1 > 10 * abs(left["at"][1] - right["at"][1])


def test_groups_are_measured_as_sets_of_their_own() -> None:
    p = everything()
    labels, age, site = p.groups
    unit = sphere.normalize(rows(60, 5))
    other = sphere.normalize(unit + 0.2 * rows(60, 5, 1))
    assert (labels["name"], labels["labels"], labels["num_groups"]) == ("class", True, 3)
    first = labels["rows"][0]
    mine = unit[::3]
    assert (first["name"], first["num"]) == ("kind 0", 20)
    assert first["uniformity"] == pytest.approx(float(sm.uniformity(mine)), abs=1e-5)
    assert first["alignment"] == pytest.approx(float(sm.alignment(mine, other[::3])))
    assert first["shift"] == pytest.approx(float((mine.mean(dim=0) - unit.mean(dim=0)).norm()))
    assert [row["num"] for row in age["rows"]] == [15] * 4
    assert age["rows"][0]["name"] == "20 to 34.24"
    assert (site["num_missing"], [row["name"] for row in site["rows"]]) == (20, ["a", "b"])


def test_neighbours_are_named() -> None:
    raw = rows(60, 5)
    raw[7], raw[30] = raw[50], raw[31] + 1e-3
    raw[:, 0] += 4
    raw[11] = torch.tensor([-9.0, 0, 0, 0, 0])
    p = portrait_of(sphere.normalize(raw), raw, ids=[f"doc {i}" for i in range(60)])
    assert p.neighbors is not None
    first, second = p.neighbors["duplicates"][:2]
    assert (first["ids"], first["distance"], first["cosine"]) == (["doc 7", "doc 50"], 0.0, 1.0)
    assert second["ids"] == ["doc 30", "doc 31"]
    assert p.neighbors["num_equal"] == 2
    assert p.neighbors["outliers"][0]["id"] == "doc 11"
    distance = torch.cdist(sphere.normalize(raw), sphere.normalize(raw)).sort(dim=1).values[:, 10]
    assert p.neighbors["outliers"][0]["distance"] == pytest.approx(float(distance[11]))
    assert p.neighbors["median"] == pytest.approx(float(distance.median()))
    unnamed = portrait_of(sphere.normalize(raw), raw, positions=range(100, 160), num_total=1000)
    assert unnamed.neighbors is not None
    assert unnamed.neighbors["duplicates"][0]["ids"] == ["row 107", "row 150"]
    assert (unnamed.num, unnamed.num_total) == (60, 1000)


def test_little_or_nothing_differs() -> None:
    same = torch.ones(30, 4, dtype=torch.float64) / 2
    p = portrait_of(same, same, labels=torch.zeros(30, dtype=torch.int64))
    assert (p.spectrum["half"], p.mean_length) == (0, 1.0)
    assert p.neighbors is not None
    assert p.neighbors["num_equal"] == 30
    two = portrait(2, 3)
    assert two.neighbors is None
    for one in (p, two):
        assert Portrait.from_json(one.to_json()) == one


def test_columns_of_every_kind() -> None:
    names = [f"c{i}" for i in range(10)]
    table = dict.fromkeys(names, torch.arange(60) % 2)
    p = portrait(metadata=table)
    assert len(p.groups) == 8
    assert p.notes == ("Tables of the first 8 of 10 columns of meta-data.",)
    assert [g["name"] for g in portrait(metadata=rows(60, 2)).groups] == ["meta-data 1", "meta-data 2"]
    (alone,) = portrait(metadata=np.arange(60.0)).groups
    assert (alone["name"], len(alone["rows"])) == ("meta-data", 4)
    (odd,) = portrait(labels=[None, math.nan, True, "\ud800", 10, 9] * 10).groups
    assert [row["name"] for row in odd["rows"]] == ["9", "10", "?", "True"]
    (many,) = portrait(labels=[f"{i // 2:02d}" for i in range(60)]).groups
    assert (len(many["rows"]), many["num_groups"]) == (20, 30)


# --- JSON ---------------------------------------------------------------------------------------------


def test_what_was_written_is_read_again() -> None:
    p = everything()
    assert Portrait.from_json(p.to_json()) == p
    assert Portrait.from_dict(json.loads(p.to_json())).to_json() == p.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema="x"), "be an object whose schema is 'spherometer.portrait/1'"),
        (lambda d: d.update(num=1.5), "hold a whole number of at least 0 at the top.num"),
        (lambda d: d.pop("dim"), "hold an object with the keys schema, spherometer, num,"),
        (lambda d: d["lengths"].update(least=math.inf), "hold a number at the top.lengths.least"),
        (lambda d: d["distances"]["random"].append(1), "hold 100 numbers at distances.random"),
        (lambda d: d["distances"].update(every=1), "hold true or false at the top.distances.every"),
        (lambda d: d["spectrum"]["shares"].pop(), "hold 5 numbers at spectrum.shares"),
        (lambda d: d["density"].update(kind="map"), "hold one of circle, sphere, projection at density.kind"),
        (lambda d: d["density"]["counts"].pop(), "numbers at density.counts"),
        (lambda d: d["groups"][0]["rows"][0].update(name=3), "hold a text at the top.groups[0].rows[0].name"),
        (lambda d: d["bands"].update(uniformity=[1]), "hold a list of 2 at the top.bands.uniformity"),
        (lambda d: d.update(settings=[]), "hold an object at the top.settings"),
    ],
)
def test_anything_else_is_refused(change: Any, message: str) -> None:
    document = copy.deepcopy(everything().to_dict())
    change(document)
    with pytest.raises(InputError) as refused:
        Portrait.from_dict(document)
    assert message in str(refused.value)


def test_what_is_no_json_is_refused() -> None:
    for text in ("NaN", "[", '{"schema": 1}', "3", b"\xff"):
        with pytest.raises(InputError):
            Portrait.from_json(text)
