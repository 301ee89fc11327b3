"""The graph of mutual soft neighbours against full matrices written here from the formula."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from spherometer import pairs
from spherometer.errors import UndefinedError
from spherometer.pairs import _distances
from spherometer.pairs._distances import Distances

F32, F64 = torch.float32, torch.float64
TILES = [None, (7, 5), (5, 16), (16, 16), (64, 3)]
TEMPERATURES = (3.0, 1.0, 0.3, 0.05, 0.01)


def points(num, dim, seed=0, dtype=F64):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def classes(num, count=3, seed=1):
    return torch.randint(0, count, (num,), generator=torch.Generator().manual_seed(seed))


def by_differences(x, y=None):
    y = x if y is None else y
    return (x.double()[:, None] - y.double()).square().sum(-1).sqrt()


def definition(x, temperature):
    """Mean distance, log-sum-exps [N] and N^2 P_ij P_ji [N, N]."""
    n, d = len(x), by_differences(x)
    mean = d.sum() / (n * (n - 1))
    s = (-d / (temperature * mean)).fill_diagonal_(-math.inf)
    return float(mean), s.logsumexp(1), n * n * s.softmax(1) * s.softmax(0)


def close(a, b, tolerance=1e-11):
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def sets():
    """Awkward rows [N, D] by name."""
    ordinary = points(60, 5)
    twice = ordinary[torch.arange(60) // 2]
    near = twice + 1e-9 * points(60, 5, seed=2)
    clusters = 1e-3 * points(60, 5) + points(3, 5, seed=3)[classes(60)]
    return {
        "ordinary": ordinary,
        "every row twice": twice,
        "nearly every row twice": near,
        "clusters": clusters,
        "two places": points(2, 5)[classes(60, 2)],
        "far from the origin": ordinary + 1000,
        "tiny": ordinary * 2.0**-300,
        "huge": ordinary * 2.0**300,
        "two rows": ordinary[:2],
        "one dimension": ordinary[:, :1],
    }


# --- the graph --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", sets())
def test_graph_is_its_definition(name, tile):
    x = sets()[name]
    graph = pairs.neighbor_graph(x, TEMPERATURES, tile=tile, keep=True)
    codes = classes(len(x))
    own, every = pairs.class_strengths(graph, codes)
    same = codes[:, None] == codes
    for level, temperature in enumerate(TEMPERATURES):
        mean, log_sums, weights = definition(x, temperature)
        assert math.isclose(graph.mean_distance, mean, rel_tol=1e-12)
        close(graph.log_sums[level], log_sums, 1e-9)
        shares = weights / weights.sum()
        close(every[level], shares.sum(1), 1e-9)
        close(own[level], (shares * same).sum(1), 1e-9)
        blocks = list(pairs.edge_blocks(graph, level))
        assert blocks[-1][1] == len(x)
        found = torch.cat([block for *_, block in blocks])
        close(found, weights, 1e-9 * float(weights.max()))
        assert not found.diagonal().any()
    d = by_differences(x).fill_diagonal_(math.inf)
    close(graph.nearest, d.amin(1), 1e-9 * float(d.amin(1).max()))


@pytest.mark.parametrize("num", [255, 383, 384, 385, 769, 1200])
def test_default_tiles_cross_their_borders(num):
    x, codes = points(num, 4), classes(num, 7)
    graph = pairs.neighbor_graph(x, [0.2])
    own, every = pairs.class_strengths(graph, codes)
    weights = definition(x, 0.2)[2]
    close(every[0], weights.sum(1) / weights.sum())
    close(own[0], (weights * (codes[:, None] == codes)).sum(1) / weights.sum())


@pytest.mark.parametrize("name", ["ordinary", "every row twice", "nearly every row twice", "clusters"])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_float32_rows(name, temperature):
    x = sets()[name].to(F32)
    graph = pairs.neighbor_graph(x, [temperature], tile=(16, 16))
    _, log_sums, weights = definition(x, temperature)
    tolerance = 3e-6 / min(temperature, 1.0)
    close(graph.log_sums[0], log_sums, tolerance)
    close(pairs.class_strengths(graph, classes(60))[1][0], weights.sum(1) / weights.sum(), tolerance)
    found = torch.cat([block for *_, block in pairs.edge_blocks(graph)])
    assert found.dtype == F32
    close(found.double(), weights, tolerance * float(weights.max()))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("tile", [None, (7, 16)])
def test_the_coldest_graph_joins_mutual_nearest_neighbours(tile, dtype):
    x = points(200, 3, dtype=dtype)
    nearest = by_differences(x).fill_diagonal_(math.inf).argmin(1)
    mutual = (nearest[nearest] == torch.arange(200)).double()
    temperatures = [1e-6, 1e-12, 1e-50, 1e-300, 5e-324]
    graph = pairs.neighbor_graph(x, temperatures, tile=tile, keep=True)
    for shares in pairs.class_strengths(graph, classes(200))[1]:
        close(shares, mutual / mutual.sum(), 1e-12)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_the_hottest_graph_joins_everybody_alike(dtype):
    graph = pairs.neighbor_graph(points(50, 3, dtype=dtype), [1e9, 1e300])
    for shares in pairs.class_strengths(graph, classes(50))[1]:
        close(shares, torch.full((50,), 1 / 50, dtype=F64), 1e-6 if dtype == F32 else 1e-8)


@pytest.mark.parametrize("order", ["ascending", "mixed", "one class", "every row its own"])
@pytest.mark.parametrize("tile", [None, (7, 16)])
def test_classes_in_any_order(order, tile):
    x, codes = points(90, 4), classes(90, 4)
    if order == "ascending":
        codes = codes.sort().values
    elif order != "mixed":
        codes = torch.arange(90) * int(order != "one class")
    own, every = pairs.class_strengths(pairs.neighbor_graph(x, [0.5, 0.01], tile=tile), codes)
    for level, temperature in enumerate((0.5, 0.01)):
        weights = definition(x, temperature)[2]
        close(own[level], (weights * (codes[:, None] == codes)).sum(1) / weights.sum())
    if order == "one class":
        assert torch.equal(own, every)
    if order == "every row its own":
        assert not own.any()


def test_new_rows_are_attached_one_way():
    x, y = points(40, 3), points(9, 3, seed=5)
    y[4] = x[7]  # and a row that is there already: distance 0
    graph = pairs.neighbor_graph(x, [0.3, 0.1])
    before = graph.log_sums.clone()
    mean = definition(x, 1.0)[0]
    for level, temperature in enumerate((0.3, 0.1)):
        s = -by_differences(y, x) / (temperature * mean)
        wanted = 40**2 * (2 * s - s.logsumexp(1, keepdim=True) - before[level]).exp()
        found = torch.cat([block for *_, block in pairs.edge_blocks(graph, level, y)])
        close(found, wanted, 1e-9)
    assert torch.equal(graph.log_sums, before)
    assert not list(pairs.edge_blocks(graph, 0, y[:0]))


def test_blocks_of_weights_are_bounded(monkeypatch):
    x = points(70, 3)
    whole = torch.cat([block for *_, block in pairs.edge_blocks(pairs.neighbor_graph(x, [0.2]))])
    monkeypatch.setattr("spherometer.pairs._neighbor_graph._BLOCK", 200)
    blocks = list(pairs.edge_blocks(pairs.neighbor_graph(x, [0.2])))
    assert [(a, b) for a, b, _ in blocks] == [(a, a + 2) for a in range(0, 70, 2)]
    close(torch.cat([block for *_, block in blocks]), whole, 1e-12)


def test_rows_without_a_mean_distance_are_refused():
    with pytest.raises(UndefinedError) as caught:
        pairs.neighbor_graph(torch.ones(5, 3), [1.0], function="density")
    assert str(caught.value) == (
        "density: z must hold at least two different rows, because distances are measured against their "
        "mean, which is 0 here. Got 5 equal rows. Look for a collapsed encoder."
    )
    with pytest.raises(UndefinedError, match="must have at least 2 rows"):
        pairs.neighbor_graph(torch.ones(1, 3), [1.0])


# --- between the passes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
def test_tiles_made_again_are_the_same_to_the_last_bit(dtype, monkeypatch):
    x, codes = sets()["clusters"].repeat(4, 1).to(dtype), classes(240)
    x[:9] += 0.1 * points(9, 5, dtype=dtype)

    def found():
        graph = pairs.neighbor_graph(x, TEMPERATURES, tile=(16, 32))
        return graph.log_sums, *pairs.class_strengths(graph, codes)

    kept = found()
    for room in (0, 3000):
        monkeypatch.setattr(_distances, "_KEPT", room)
        assert all(torch.equal(a, b) for a, b in zip(kept, found(), strict=True))


class Largest(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for each in out if isinstance(out, (tuple, list)) else (out,):
            self.numel = max(self.numel, each.numel() if isinstance(each, torch.Tensor) else 0)
        return out


def test_no_tensor_is_larger_than_the_rows_or_a_tile(monkeypatch):
    monkeypatch.setattr(_distances, "_KEPT", 10_000)
    x = points(900, 20)
    x[::3] = x[0]  # crowded tiles, too
    with Largest() as largest:
        graph = pairs.neighbor_graph(x, [1.0, 0.001], tile=(64, 128), keep=True)
        pairs.class_strengths(graph, torch.arange(900))
    assert largest.numel <= 900 * 22
    assert sum(kept.numel() for kept in graph._distances._kept.values()) <= 10_000
    forgetful = pairs.neighbor_graph(x, [1.0], tile=(64, 128))
    assert not forgetful._distances._kept


# --- distances --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("scale", [2.0**-100, 1e-3, 1.0, 2.0**100])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("few", [False, True])
def test_distances_of_near_rows_are_as_good_as_of_far_ones(dtype, scale, spread, few):
    x = points(64, 16)
    if few:
        x[1] = x[0] + spread * points(1, 16, seed=4)[0]  # one near pair, and one at distance 0
        x[40] = x[41]
    else:
        x = points(4, 16, seed=3)[torch.arange(64) // 16] + spread * x
    x = (scale * x).to(dtype)
    distances = Distances(x)
    found = distances.tile(0, 64, 0, 64).double() * distances.unit
    assert bool(distances._crowded) is (not few and spread < (0.05 if dtype == F32 else 1e-3))
    assert torch.equal(found, found.T)
    wanted = by_differences(x)
    assert ((found - wanted).abs() <= (2e-5 if dtype == F32 else 1e-8) * wanted).all()
    other = distances.tile(8, 20, 3, 50).double() * distances.unit
    assert ((other - wanted[8:20, 3:50]).abs() <= (2e-5 if dtype == F32 else 1e-8) * wanted[8:20, 3:50]).all()


def test_distances_between_two_sets():
    x, y = points(30, 6), points(20, 6, seed=1)
    x[3], x[4] = y[7], y[8] + 1e-7
    between = Distances(x, y)
    close(between.tile(0, 30, 0, 20) * between.unit, by_differences(x, y), 1e-9)
