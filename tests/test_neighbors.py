"""Neighbourhoods: purity at several sizes, hubs, the search behind them; Calinski-Harabasz beside them."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

import oracles
import spherometer as sm
import strategies
from spherometer import metrics, pairs
from spherometer.errors import InputError, UndefinedError
from spherometer.metrics._calinski_harabasz import between_share, calinski_harabasz_of
from spherometer.metrics._hubness import skewness_of
from spherometer.metrics._neighbors import neighborhoods, purities, purity
from spherometer.pairs import _candidates, _nearest

F64 = torch.float64


def normal(num, dim, seed=0, dtype=F64):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


# --- the search: exact, whatever finds the candidates ----------------------------------------------------

SETS = {
    "normal": lambda: normal(700, 20),
    "single precision": lambda: normal(700, 20, dtype=torch.float32),
    "one dimension": lambda: normal(700, 1),
    "duplicates": lambda: normal(100, 6).repeat(7, 1),
    "one place": lambda: torch.ones(300, 5),
    "grid": lambda: torch.randint(4, (600, 3), generator=torch.Generator().manual_seed(1)).double(),
    "two places": lambda: torch.eye(2, dtype=F64).repeat(200, 1),
    "tight clusters": lambda: (
        normal(10, 16).repeat_interleave(60, 0) + 1e-6 * normal(600, 16, 1)  # beyond float32
    ),
    "tighter clusters": lambda: normal(10, 16).repeat_interleave(60, 0) + 1e-12 * normal(600, 16, 1),
    "far from the origin": lambda: 1e7 + normal(500, 8),
    "large": lambda: normal(500, 8) * 1e300,
    "small": lambda: normal(500, 8) * 1e-300,
    "lengths of all sizes": lambda: normal(500, 8) * torch.logspace(-30, 30, 500, dtype=F64)[:, None],
}


def by_sorting(x, k):
    """All distances by differences in float64, in the order of their size; the lower index first."""
    scaled = x.double() / 2.0 ** math.frexp(float(x.abs().max()))[1]
    d = torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(math.inf)
    return d.sort(dim=1, stable=True).indices[:, :k]


@pytest.fixture(params=["our own", "faiss"])
def source(request, monkeypatch):
    """Candidates by a GEMM, and by faiss from the first row on."""
    least = 0 if request.param == "faiss" else sys.maxsize
    monkeypatch.setattr(_candidates, "FAISS_ROWS", least)
    monkeypatch.setattr(_candidates, "FAISS_COLUMNS", 0)
    return request.param


@pytest.mark.parametrize("k", [1, 10, 150])
@pytest.mark.parametrize("kind", SETS)
def test_the_search_is_exact(kind, k, source):
    x = SETS[kind]()
    assert torch.equal(pairs.nearest(x, k)[0], by_sorting(x, k))


@pytest.mark.parametrize("kind", ["normal", "grid", "tight clusters"])
def test_blocks_do_not_matter(kind, source, monkeypatch):
    x = SETS[kind]()
    whole = pairs.nearest(x, 7)
    monkeypatch.setattr(_candidates, "_BLOCK", 4000)
    monkeypatch.setattr(_candidates, "_FAISS_BLOCK", 37)
    monkeypatch.setattr(_nearest, "_BLOCK", 2000)
    for a, b in zip(whole, pairs.nearest(x, 7), strict=True):
        assert torch.equal(a, b)
    starts = [start for start, _ in pairs.nearest_blocks(x, 7)]
    assert len(starts) > 10
    assert starts[0] == 0


def test_candidates_hold_the_nearest_and_the_bound_holds_the_rest(source):
    x = normal(600, 30)
    points = x / x.abs().max()
    found = _candidates.first_candidates(points)
    assert isinstance(found, _candidates.FaissCandidates) is (source == "faiss")
    rows = torch.arange(100, 200)
    columns, rest = found.find(rows, 20)
    squared = (points[rows, None] - points).square().sum(-1)
    squared[torch.arange(100), rows] = math.inf
    inside = torch.zeros_like(squared, dtype=torch.bool).scatter_(1, columns, True)
    assert bool((inside.sum(1) == 20).all())
    assert not bool(inside[torch.arange(100), rows].any())
    outside = squared.masked_fill(inside, math.inf).amin(1)
    assert bool((rest <= outside).all())
    assert float((outside - rest).max()) < 1e-4  # and not far below


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("normal", {"float32"}),
        ("tight clusters", {"float32", "float64"}),
        ("tighter clusters", {"float32", "float64", "differences"}),
        ("grid", {"float32", "float64", "differences"}),
    ],
)
def test_rows_are_done_as_cheaply_as_they_allow(kind, asked, source, monkeypatch):
    seen = set()
    find, differences = _candidates.Candidates.find, _nearest._by_differences

    def finding(self, rows, num):
        seen.add(str(self.rows.dtype).removeprefix("torch."))
        return find(self, rows, num)

    def differing(*arguments):
        seen.add("differences")
        return differences(*arguments)

    monkeypatch.setattr(_candidates.Candidates, "find", finding)
    monkeypatch.setattr(_nearest, "_by_differences", differing)
    pairs.nearest(SETS[kind](), 10)
    assert seen == asked


def test_a_source_that_does_not_serve_is_given_up(monkeypatch):
    monkeypatch.setattr(_candidates, "_BLOCK", 600 * 20)
    calls = []
    find = _candidates.Candidates.find
    monkeypatch.setattr(
        _candidates.Candidates,
        "find",
        lambda self, rows, num: calls.append(len(rows)) or find(self, rows, num),
    )
    x = SETS["one place"]().repeat(2, 1)
    assert torch.equal(pairs.nearest(x, 3)[0], by_sorting(x, 3))
    assert sum(calls) < 1200  # of 600 rows, twice: in float32 and in float64


def test_faiss_is_asked_only_where_it_pays(monkeypatch):
    asked = []
    monkeypatch.setattr(
        _candidates, "FaissCandidates", lambda points, faiss: asked.append(tuple(points.shape))
    )
    _candidates.first_candidates(torch.zeros(19_999, 64))
    _candidates.first_candidates(torch.zeros(20_000, 63))
    assert asked == []
    _candidates.first_candidates(torch.zeros(20_000, 64))
    assert asked == [(20_000, 64)]
    monkeypatch.setattr(sys, "platform", "darwin")
    _candidates.first_candidates(torch.zeros(20_000, 64))
    assert len(asked) == 1


def test_without_faiss_the_answer_is_the_same(monkeypatch):
    monkeypatch.setattr(_candidates, "FAISS_ROWS", 0)
    monkeypatch.setattr(_candidates, "FAISS_COLUMNS", 0)
    x = SETS["normal"]()
    with_it = pairs.nearest(x, 5)
    monkeypatch.setitem(sys.modules, "faiss", None)  # importing it fails
    assert type(_candidates.first_candidates(x)) is _candidates.Candidates
    for a, b in zip(with_it, pairs.nearest(x, 5), strict=True):
        assert torch.equal(a, b)


def test_faiss_keeps_its_number_of_threads(monkeypatch):
    import faiss

    monkeypatch.setattr(_candidates, "FAISS_ROWS", 0)
    monkeypatch.setattr(_candidates, "FAISS_COLUMNS", 0)
    before = faiss.omp_get_max_threads()
    used = []
    search = faiss.IndexFlatL2.search

    def counting(self, *arguments):
        used.append((faiss.omp_get_max_threads(), torch.get_num_threads()))
        return search(self, *arguments)

    monkeypatch.setattr(faiss.IndexFlatL2, "search", counting)
    faiss.omp_set_num_threads(3)
    try:
        pairs.nearest(SETS["normal"](), 5)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)
    assert used
    assert all(threads == ours for threads, ours in used)


def test_fewer_digits_in_matrix_products_change_nothing():
    x = normal(600, 64, dtype=torch.float32)
    plain = pairs.nearest(x, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pairs.nearest(x, 10)[0], plain[0])
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert _candidates.first_candidates(x.double()).rows.dtype == F64
        assert torch.equal(pairs.nearest(x, 10)[0], plain[0])
    finally:
        torch.set_float32_matmul_precision(before)


# --- purity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_several_sizes_are_each_as_alone(kind):
    x, labels = normal(60, 5), [i % 3 for i in range(60)]
    together = sm.neighbor_purity(x, labels, k=kind([10, 1, 59, 10]))
    assert [float(each) for each in together] == [
        float(sm.neighbor_purity(x, labels, k=k)) for k in (10, 1, 59, 10)
    ]
    assert all(isinstance(each, torch.Tensor) and each.shape == () for each in together)
    assert all(isinstance(each, float) for each in sm.neighbor_purity(x.numpy(), labels, k=kind([2, 1])))
    for value, k in zip(together, (10, 1, 59), strict=False):
        assert math.isclose(float(value), oracles.neighbor_purity(x.tolist(), labels, k), rel_tol=1e-14)


def test_one_search_serves_all_sizes(monkeypatch):
    asked = []
    blocks = pairs.nearest_blocks
    monkeypatch.setattr(pairs, "nearest_blocks", lambda x, k: asked.append(k) or blocks(x, k))
    sm.neighbor_purity(normal(50, 3), [0, 1] * 25, k=[1, 10, 30])
    assert asked == [31]


def test_all_others_are_as_pure_as_unrelated_labels():
    sizes = [5, 20, 15]
    labels = [c for c, size in enumerate(sizes) for _ in range(size)]
    chance = sum(size * (size - 1) for size in sizes) / (40 * 39)
    assert math.isclose(float(sm.neighbor_purity(normal(40, 3), labels, k=39)), chance, rel_tol=1e-14)


def test_separate_classes_are_pure_up_to_their_size():
    x = (torch.eye(4, dtype=F64) * 10).repeat_interleave(8, 0) + 0.1 * normal(32, 4)
    labels = [name for name in "abcd" for _ in range(8)]
    found = sm.neighbor_purity(x, labels, k=[1, 7, 14, 28])
    assert [float(each) for each in found] == [1.0, 1.0, 0.5, 0.25]


@pytest.mark.parametrize("k", [1, 4, 18])
def test_the_error_is_that_of_leaving_each_row_out(k):
    x, codes = normal(20, 3), torch.tensor([i % 3 for i in range(20)])
    (share, error), (_, last) = purities("here", x, codes, [k, 19])
    keep = [torch.tensor([i for i in range(20) if i != row]) for row in range(20)]
    without = [float(purity("here", x[rows], codes[rows], k)[0]) for rows in keep]
    mean = math.fsum(without) / 20
    assert math.isclose(error, math.sqrt(19 / 20 * math.fsum((each - mean) ** 2 for each in without)))
    assert purity("here", x, codes, k) == (share, error)
    assert last is None  # a row has no twentieth other


def test_occurrences_count_who_chose_a_row():
    x = normal(30, 2)
    for found, k in zip(neighborhoods("here", x, torch.zeros(30, dtype=int), [3, 8]), (3, 8), strict=True):
        assert found.k == k
        assert torch.equal(found.occurrences, torch.bincount(by_sorting(x, k).flatten(), minlength=30))
        assert float(found.purity) == 1.0


class Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that is made."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_memory_does_not_grow_with_the_neighbours():
    num, dim = 3000, 4
    x = normal(num, dim, dtype=torch.float32)
    with Largest() as largest:
        sm.neighbor_purity(x, [i % 7 for i in range(num)], k=[1, 900])
    assert largest.numel <= max(2**20, num * dim)  # and not 900 N


def test_sizes_that_are_none_are_refused():
    x, labels = normal(9, 2), [0, 1, 2] * 3
    assert message(lambda: sm.neighbor_purity(x, labels, k=[]), InputError) == (
        "neighbor_purity: k must hold at least one number, because there is one value for each number of "
        "neighbours. Got an empty sequence. Pass for instance k=[1, 10, 100]."
    )
    for bad in (0, -1, 1.0, True, "3", None, math.nan):
        for k in (bad, [1, bad]):
            assert message(lambda k=k: sm.neighbor_purity(x, labels, k=k), InputError) == (
                "neighbor_purity: k must be a whole number of at least 1, because it counts something. "
                f"Got {bad!r}. Pass for instance k=1."
            )
    for k in (9, [1, 9]):
        assert message(lambda k=k: sm.neighbor_purity(x, labels, k=k), UndefinedError) == (
            "neighbor_purity: k must be smaller than the number of rows, because a row has only N - 1 "
            "neighbours. Got k = 9 for 9 rows. Pass k=8 or less."
        )


# --- hubs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num", [4, 9, 40])
def test_a_star_has_one_hub(num):
    """The centre is the nearest of every point of a simplex, and has the first of them for its own."""
    corners = torch.eye(num - 1, dtype=F64)
    x = torch.cat([corners, corners.mean(dim=0, keepdim=True)])
    counts = np.array([1.0] + [0.0] * (num - 2) + [num - 1.0])
    found = metrics.hubness(x, k=1, normalize=False)
    assert math.isclose(found, stats.skew(counts), rel_tol=1e-13)


def test_equally_popular_rows_have_none():
    x = normal(12, 3)
    assert float(metrics.hubness(x, k=11)) == 0
    mates = torch.tensor([[0.0, 1], [0.1, 1], [1, 0], [1, 0.1], [-1, 0], [-1, 0.1]])
    assert float(metrics.hubness(mates, k=1)) == 0
    assert skewness_of(torch.tensor([3, 3, 3])) == 0


@pytest.mark.parametrize("k", [1, 5, 20])
def test_hubness_is_the_skewness_of_the_counts(k):
    x = normal(80, 6)
    unit = x / x.norm(dim=1, keepdim=True)
    counts = torch.bincount(by_sorting(unit, k).flatten(), minlength=80)
    assert math.isclose(metrics.hubness(x, k=k), stats.skew(counts.numpy()), rel_tol=1e-12)
    assert math.isclose(metrics.hubness(x, k=k), oracles.hubness(x.tolist(), k), rel_tol=1e-12)


def test_hubs_come_with_the_dimension():
    """The paper's finding, on points without any structure."""
    found = [float(metrics.hubness(normal(600, dim), k=10, normalize=False)) for dim in (2, 10, 100)]
    assert found[0] < 0.3
    assert found[0] < found[1] < found[2]
    assert found[2] > 2


def test_hubness_is_unchanged_by_rotation_shift_scale_and_order():
    x = normal(100, 7)
    value = metrics.hubness(x, k=6, normalize=False)
    turned = x @ torch.from_numpy(strategies.rotation(7, 3))
    order = torch.from_numpy(np.random.default_rng(0).permutation(100))
    for other in (turned, x + 5, x * 1e-3, x[order]):
        assert math.isclose(metrics.hubness(other, k=6, normalize=False), value, rel_tol=1e-12)


def test_hubness_refuses_numbers_of_neighbours():
    assert message(lambda: metrics.hubness(normal(5, 2), k=[1, 2]), InputError) == (
        "hubness: k must be a whole number of at least 1, because it counts something. Got [1, 2]. "
        "Pass for instance k=1."
    )
    assert message(lambda: metrics.hubness(normal(5, 2)), UndefinedError) == (
        "hubness: k must be smaller than the number of rows, because a row has only N - 1 neighbours. "
        "Got k = 10 for 5 rows. Pass k=4 or less."
    )


# --- Calinski-Harabasz -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (3.0, 0.5), (0.0, 2.0), (1e-3, 1e-4)])
def test_two_classes_of_two_points_on_a_line(a, b):
    """B = 4 a^2, W = 4 b^2."""
    x = torch.tensor([[-a - b], [-a + b], [a - b], [a + b]], dtype=F64)
    index = metrics.calinski_harabasz(x, [0, 0, 1, 1], normalize=False)
    assert math.isclose(index, 2 * a * a / (b * b), rel_tol=1e-12, abs_tol=1e-15)
    share = between_share(x, torch.tensor([0, 0, 1, 1]))
    assert math.isclose(share, a * a / (a * a + b * b), rel_tol=1e-12, abs_tol=1e-15)


@pytest.mark.parametrize("num_classes", [2, 5, 29])
def test_the_index_is_the_ratio_of_the_shares(num_classes):
    x, codes = normal(30, 4), torch.arange(30) % num_classes
    share = between_share(x, codes)
    ratio = share / (1 - share) * (30 - num_classes) / (num_classes - 1)
    assert math.isclose(calinski_harabasz_of("here", x, codes), ratio, rel_tol=1e-11)
    unit = x / x.norm(dim=1, keepdim=True)
    found = metrics.calinski_harabasz(x, codes)
    assert math.isclose(found, calinski_harabasz_of("here", unit, codes), rel_tol=1e-12)
    assert math.isclose(found, oracles.calinski_harabasz(x.tolist(), codes.tolist()), rel_tol=1e-11)
    names = [f"class {code}" for code in codes.tolist()]
    assert math.isclose(metrics.calinski_harabasz(x, names), found, rel_tol=1e-12)  # in another order


def test_unrelated_labels_put_a_known_share_between_classes():
    """The mean over all ways to deal out the labels: (C - 1) / (N - 1), whatever the sizes."""
    x = normal(7, 2)
    dealt = {tuple(order) for order in itertools.permutations([0, 0, 0, 0, 1, 1, 2])}
    shares = [between_share(x, torch.tensor(codes)) for codes in dealt]
    assert math.isclose(math.fsum(shares) / len(shares), 2 / 6, rel_tol=1e-12)


def test_shares_have_ends():
    x = normal(6, 3)
    assert between_share(x, torch.zeros(6, dtype=int)) < 1e-30
    assert between_share(x, torch.arange(6)) == 1
    places = torch.eye(2, dtype=torch.float32).repeat(3, 1)
    assert between_share(places, torch.tensor([0, 1] * 3)) == 1
    assert between_share(places, torch.tensor([0, 0, 0, 0, 1, 1])) < 1e-12  # each class in both places


@pytest.mark.parametrize(
    ("factor", "shift", "dtype"),
    [(1e300, 0, F64), (1e-300, 0, F64), (1, 1e6, F64), (1e30, 0, torch.float32), (1, 100, torch.float32)],
)
def test_the_index_is_unchanged_by_scale_and_shift(factor, shift, dtype):
    x, codes = normal(40, 3), torch.arange(40) % 4
    wanted = calinski_harabasz_of("here", x, codes)
    found = calinski_harabasz_of("here", (x * factor + shift).to(dtype), codes)
    assert math.isclose(found, wanted, rel_tol=1e-9 if dtype is F64 else 1e-4)


def test_where_the_index_is_undefined():
    x = normal(6, 2)
    for labels, got in (([0] * 6, "1 class for 6 rows"), (range(6), "6 classes for 6 rows")):
        assert message(lambda labels=labels: metrics.calinski_harabasz(x, list(labels)), UndefinedError) == (
            "calinski_harabasz: labels must name at least 2 classes, and fewer than there are rows, because "
            f"variance between classes is divided by variance within them. Got {got}. Pass class labels, not "
            "one name for all or row identifiers."
        )
    same = "calinski_harabasz: z must hold at least two different rows, because variance between classes is "
    same += "measured against the rest, and there is none at all. Got 6 rows that are equal, or differ in "
    same += "their last digits at most. Look for a collapsed encoder."
    noise = 1 + 1e-7 * torch.tensor([[0.0, 1], [1, 0], [1, 1], [0, 0], [1, 0], [0, 1]])
    for rows in (torch.ones(6, 2), noise):
        assert message(lambda rows=rows: metrics.calinski_harabasz(rows, [0, 1] * 3), UndefinedError) == same
    assert between_share(noise.double(), torch.tensor([0, 1] * 3)) > 0  # there it is no rounding error
    with pytest.raises(UndefinedError, match=r"^between_share: z must hold at least two different rows"):
        between_share(torch.ones(6, 2), torch.tensor([0, 1] * 3))


@pytest.mark.parametrize("noise", [0.0, 3e-8])
def test_collapsed_classes_have_no_index(noise):
    """scikit-learn gives 1 there, the value of labels that mean nothing."""
    from sklearn.metrics import calinski_harabasz_score

    places = torch.eye(3).repeat(4, 1)
    assert calinski_harabasz_score(places.numpy(), [0, 1, 2] * 4) == 1.0
    rows = places + noise * torch.sign(normal(12, 3)).float()
    assert message(lambda: metrics.calinski_harabasz(rows, [0, 1, 2] * 4), UndefinedError) == (
        "calinski_harabasz: z must have a class whose rows differ, because the index divides by the variance "
        "within classes, which is 0 here. Got 12 rows in 3 places, one for each class. Say that the classes "
        "have collapsed; relative_local_density and neighbor_purity are defined."
    )
    assert between_share(rows, torch.tensor([0, 1, 2] * 4)) == 1
