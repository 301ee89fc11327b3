"""What the quantities are, written out slowly from the papers, and values known in closed form.

Loops over rows and pairs in float64 (or in 50 digits, where noted). Nothing here is taken from the package.
"""

import math

import mpmath
import numpy as np


def unit(rows):
    """Rows divided by their length, one at a time."""
    rows = np.asarray(rows, dtype=np.float64)
    out = np.zeros_like(rows)
    for i, row in enumerate(rows):
        largest = max(abs(float(value)) for value in row)
        scaled = [float(value) / largest for value in row]
        length = math.sqrt(math.fsum(value * value for value in scaled))
        out[i] = [value / length for value in scaled]
    return out


def squared_distance(a, b):
    return math.fsum((float(p) - float(q)) ** 2 for p, q in zip(a, b, strict=True))


def alignment_samples(x, y, alpha=2.0):
    return [squared_distance(a, b) ** (alpha / 2) for a, b in zip(unit(x), unit(y), strict=True)]


def alignment(x, y, alpha=2.0):
    samples = alignment_samples(x, y, alpha)
    return math.fsum(samples) / len(samples)


def log_mean_exp(exponents):
    top = max(exponents)
    return top + math.log(math.fsum(math.exp(e - top) for e in exponents) / len(exponents))


def uniformity(z, t=2.0, estimator="u"):
    z = unit(z)
    n = len(z)
    keep = [(i, j) for i in range(n) for j in range(n) if estimator == "v" or i < j]
    return log_mean_exp([-t * squared_distance(z[i], z[j]) for i, j in keep])


def uniformity_samples(z, t=2.0, estimator="u"):
    z = unit(z)
    n = len(z)
    return [
        log_mean_exp([-t * squared_distance(z[i], z[j]) for j in range(n) if estimator == "v" or j != i])
        for i in range(n)
    ]


def cross_uniformity(x, y, t=2.0):
    return log_mean_exp([-t * squared_distance(a, b) for a in unit(x) for b in unit(y)])


def cells(maps):
    """Maps [N, D, ...] as a list of images, each a list of cells."""
    maps = np.asarray(maps, dtype=np.float64)
    return [list(image.reshape(maps.shape[1], -1).T) for image in maps]


def dense_alignment(x, y, partners, alpha=2.0):
    """``partners`` [n][s]: the cells of y that belong to cell s of x in image n."""
    means = []
    for image_x, image_y, rows in zip(cells(x), cells(y), partners, strict=True):
        ends = [(image_x[s], image_y[r]) for s, others in enumerate(rows) for r in others]
        if ends:
            means.append(alignment([a for a, _ in ends], [b for _, b in ends], alpha))
    return math.fsum(means) / len(means)


def dense_uniformity(z, t=2.0, pairs="cross_image", keep=None):
    """``keep`` [n][s]: whether a cell counts."""
    points, images = [], []
    for n, image in enumerate(cells(z)):
        for s, cell in enumerate(image):
            if keep is None or keep[n][s]:
                points.append(cell)
                images.append(n)
    points = unit(points)
    wanted = {
        "cross_image": lambda i, j: images[i] != images[j],
        "within_image": lambda i, j: images[i] == images[j],
        "all": lambda i, j: True,
    }[pairs]
    chosen = [(i, j) for i in range(len(points)) for j in range(i) if wanted(i, j)]
    return log_mean_exp([-t * squared_distance(points[i], points[j]) for i, j in chosen])


def similarity(a, b, bandwidth):
    """Gaussian in the difference of two numbers."""
    return math.exp(-((float(a) - float(b)) ** 2) / (2 * bandwidth**2))


def conditional_alignment(x, y, metadata, alpha=2.0, kernel=None):
    """One anchor of x at a time: the mean of its distances from all rows of y, weighted by similarity."""
    x, y = unit(x), unit(y)
    means = []
    for i, row in enumerate(x):
        w = [
            1.0 if j == i else similarity(metadata[i], each, kernel.bandwidth)
            for j, each in enumerate(metadata)
        ]
        d = [squared_distance(row, other) ** (alpha / 2) for other in y]
        means.append(math.fsum(p * q for p, q in zip(w, d, strict=True)) / math.fsum(w))
    return math.fsum(means) / len(means)


def conditional_uniformity(z, metadata, t=2.0, kernel=None, form="normalized", threshold=0.5):
    """Log mean potential over pairs i < j, weighted by 1 - similarity (or by whether it is small)."""
    z = unit(z)
    exponents, weights = [], []
    for i in range(len(z)):
        for j in range(i):
            difference = (float(metadata[i]) - float(metadata[j])) / kernel.bandwidth
            v = -math.expm1(-(difference**2) / 2)
            weights.append(float(1 - v < threshold) if form == "threshold" else v)
            exponents.append(-t * squared_distance(z[i], z[j]))
    kept = [(e, v) for e, v in zip(exponents, weights, strict=True) if v > 0]
    top = max(e for e, _ in kept)
    value = top + math.log(math.fsum(v * math.exp(e - top) for e, v in kept))
    return value - math.log(len(weights) if form == "mean" else math.fsum(weights))


def hyperspherical_energy(z, power=1.0):
    """Mean over pairs of d^-power, or of log(1 / d) for power 0."""
    z = unit(z)
    distances = [math.sqrt(squared_distance(z[i], z[j])) for i in range(len(z)) for j in range(i)]
    values = [d**-power if power else -math.log(d) for d in distances]
    return math.fsum(values) / len(values)


def uniform_energy(dim, power):
    """Energy of the uniform law in 30 digits, as an integral over the angle between two points."""
    with mpmath.workdps(30):
        density = lambda angle: mpmath.sin(angle) ** (dim - 2)
        distance = lambda angle: 2 * mpmath.sin(angle / 2)
        value = lambda d: d ** -mpmath.mpf(power) if power else -mpmath.log(d)
        marks = [0, mpmath.mpf(1) / 100, mpmath.pi / 2 - 0.3, mpmath.pi / 2 + 0.3, mpmath.pi]
        top = mpmath.quad(lambda angle: value(distance(angle)) * density(angle), marks)
        return float(top / mpmath.quad(density, marks))


def sup_con(views, labels, temperature):
    """Khosla et al. 2020, equation 2, one anchor and one positive at a time."""
    rows = [(unit(view), labels) for view in views]
    every = [(row, label) for side, names in rows for row, label in zip(side, names, strict=True)]
    anchors = []
    for i, (row, label) in enumerate(every):
        s = [math.fsum(map(float, row * other)) / temperature for other, _ in every]
        others = [j for j in range(len(every)) if j != i]
        positives = [j for j in others if every[j][1] == label]
        if positives:
            losses = [math.log(math.fsum(math.exp(s[a] - s[p]) for a in others)) for p in positives]
            anchors.append(math.fsum(losses) / len(losses))
    return math.fsum(anchors) / len(anchors)


def decoupled_uniformity(views, t):
    """Log mean potential of the means of the unit views, which are not scaled again."""
    means = sum(unit(view) for view in views) / len(views)
    pairs = [(i, j) for i in range(len(means)) for j in range(i)]
    return log_mean_exp([-t * squared_distance(means[i], means[j]) for i, j in pairs])


def uniform_law(dim, t):
    """log E exp(-t |u - v|^2) in 50 digits, from the Bessel form (dim >= 2) or the two-point law."""
    with mpmath.workdps(50):
        t = mpmath.mpf(t)
        if dim == 1:
            return mpmath.log((1 + mpmath.exp(-4 * t)) / 2)
        half = mpmath.mpf(dim) / 2
        bessel = mpmath.besseli(half - 1, 2 * t)
        return mpmath.log(mpmath.gamma(half) * t ** (1 - half) * bessel) - 2 * t


def normalized_uniformity(z, t=2.0, estimator="u"):
    return float(1 - uniformity(z, t, estimator) / uniform_law(np.shape(z)[1], t))


def unrelated_alignment(dim, alpha):
    """E |u - v|^alpha of two independent uniform points, in 50 digits."""
    with mpmath.workdps(50):
        d, a = mpmath.mpf(dim), mpmath.mpf(alpha)
        top = 2 ** (d + a - 2) * mpmath.gamma(d / 2) * mpmath.gamma((d + a - 1) / 2)
        return float(top / (mpmath.sqrt(mpmath.pi) * mpmath.gamma(d - 1 + a / 2)))


def _entropy(shares):
    return -math.fsum(p * math.log(p) for p in shares if p > 0)


def _singular_values(rows):
    with mpmath.workdps(30):
        values = mpmath.svd_r(mpmath.matrix(np.asarray(rows, dtype=np.float64).tolist()), compute_uv=False)
        return [float(value) for value in values]


def rankme(z):
    values = _singular_values(z)
    total = math.fsum(values)
    return math.exp(_entropy([value / total + 1e-7 for value in values]))


def effective_rank(z):
    values = _singular_values(z)
    total = math.fsum(values)
    return math.exp(_entropy([value / total for value in values]))


def covariance(z):
    z = np.asarray(z, dtype=np.float64)
    n, d = z.shape
    mean = [math.fsum(z[:, a]) / n for a in range(d)]
    return np.array(
        [[math.fsum((z[:, a] - mean[a]) * (z[:, b] - mean[b])) / n for b in range(d)] for a in range(d)]
    )


def participation_ratio(z):
    values = np.linalg.eigvalsh(covariance(z))
    return math.fsum(values) ** 2 / math.fsum(values**2)


def alpha_req(z, ranks=(1, 100)):
    """Weighted least squares through the points (log k, log variance), by the normal equations."""
    z = np.asarray(z, dtype=np.float64)
    centred = [[float(value) - math.fsum(z[:, a]) / len(z) for a, value in enumerate(row)] for row in z]
    values = [value**2 for value in _singular_values(centred)][: len(z) - 1]
    first, last = ranks
    points = [(math.log(k), math.log(v), 1 / k) for k, v in enumerate(values, 1) if first <= k <= last]
    s, sx, sy, sxx, sxy = (
        math.fsum(terms)
        for terms in zip(*((w, w * x, w * y, w * x * x, w * x * y) for x, y, w in points), strict=True)
    )
    return -(s * sxy - sx * sy) / (s * sxx - sx * sx)


def isoscore(z):
    """The steps of the paper: normalised spectrum, isotropy defect, dimensions used, score."""
    values = np.linalg.eigvalsh(covariance(z)).clip(min=0)
    dim = len(values)
    normalized = values * math.sqrt(dim) / math.sqrt(math.fsum(values**2))
    defect = math.sqrt(math.fsum((normalized - 1) ** 2)) / math.sqrt(2 * (dim - math.sqrt(dim)))
    used = (dim - defect**2 * (dim - math.sqrt(dim))) ** 2 / dim
    return (used - 1) / (dim - 1)


def lidar(views, delta=1e-4):
    """Both covariances by loops over samples and views; the eigenvalues of S_w^-1 S_b."""
    views = np.asarray(views, dtype=np.float64)
    num, many, dim = views.shape
    means = [[math.fsum(views[i, :, a]) / many for a in range(dim)] for i in range(num)]
    mean = [math.fsum(row[a] for row in means) / num for a in range(dim)]
    between, within = np.zeros((dim, dim)), delta * np.eye(dim)
    for i in range(num):
        apart = np.array(means[i]) - np.array(mean)
        between += np.outer(apart, apart) / num
        for view in views[i]:
            within += np.outer(view - means[i], view - means[i]) / (num * many)
    values = np.sort(np.linalg.eigvals(np.linalg.solve(within, between)).real)[::-1][: min(num, dim)]
    values = values.clip(min=0)
    return math.exp(_entropy([value / math.fsum(values) + 1e-7 for value in values]))


def wasserstein_uniformity(z):
    """2-Wasserstein distance of N(mean, covariance) of unit rows to N(0, I / D), with mean and trace kept."""
    z = unit(z)
    d = z.shape[1]
    mean = [math.fsum(z[:, a]) / len(z) for a in range(d)]
    values = np.linalg.eigvalsh(covariance(z)).clip(min=0)
    squared = math.fsum(m * m for m in mean) + 1 + math.fsum(values)
    squared -= 2 / math.sqrt(d) * math.fsum(np.sqrt(values))
    return math.sqrt(max(squared, 0.0))


def neighbor_purity(z, labels, k=10):
    z = unit(z)
    shares = []
    for i in range(len(z)):
        others = sorted((squared_distance(z[i], z[j]), j) for j in range(len(z)) if j != i)
        shares.append(sum(labels[j] == labels[i] for _, j in others[:k]) / k)
    return math.fsum(shares) / len(shares)


def hubness(z, k=10):
    """Skewness of the numbers of rows that have this one among their k nearest others."""
    z = unit(z)
    n, chosen = len(z), [0] * len(z)
    for i in range(n):
        others = sorted((squared_distance(z[i], z[j]), j) for j in range(n) if j != i)
        for _, j in others[:k]:
            chosen[j] += 1
    variance = math.fsum((each - k) ** 2 for each in chosen) / n
    return math.fsum((each - k) ** 3 for each in chosen) / n / variance**1.5 if variance else 0.0


def calinski_harabasz(z, labels):
    """(B / (C - 1)) / (W / (N - C)) from pairs: a sum of squares around a mean is one over pairs."""
    z = unit(z)
    n, classes = len(z), sorted(set(labels))
    around = [[i for i in range(n) if labels[i] == label] for label in classes]
    total, within = (
        math.fsum(
            math.fsum(squared_distance(z[i], z[j]) for i in each for j in each) / (2 * len(each))
            for each in groups
        )
        for groups in ([range(n)], around)
    )
    return ((total - within) / (len(classes) - 1)) / (within / (n - len(classes)))


def neighbour_weights(z, temperature):
    """Rows as they are: distances over their mean, softmax of rows and of columns, their product."""
    n = len(z)
    d = [[math.sqrt(squared_distance(a, b)) for b in z] for a in z]
    mean = math.fsum(d[i][j] for i in range(n) for j in range(i)) / (n * (n - 1) / 2)
    e = [[0.0 if i == j else math.exp(-d[i][j] / mean / temperature) for j in range(n)] for i in range(n)]
    r = [math.fsum(row) for row in e]
    return [[n * n * (e[i][j] / r[i]) * (e[i][j] / r[j]) for j in range(n)] for i in range(n)]


def modularity(weights, labels):
    """Newman's sum over all ordered pairs of one class, the null terms of a row with itself among them."""
    n = len(weights)
    strengths = [math.fsum(row) for row in weights]
    total = math.fsum(strengths)
    terms = [
        weights[i][j] - strengths[i] * strengths[j] / total
        for i in range(n)
        for j in range(n)
        if labels[i] == labels[j]
    ]
    return math.fsum(terms) / total


def relative_local_density(z, labels, temperature=1.0):
    return modularity(neighbour_weights(unit(z), temperature), labels)


def collapsed_density(num_classes, size, temperature):
    """Classes of ``size`` equal rows each on the vertices of a simplex."""
    n = num_classes * size
    inside, outside = size - 1, n - size
    between = outside * math.exp(-2 * (n - 1) / (outside * temperature))
    return inside / (inside + between) - 1 / num_classes


def tolerance(z, labels):
    z = unit(z)
    n = len(z)
    values = [
        math.fsum(float(p) * float(q) for p, q in zip(z[i], z[j], strict=True))
        for i in range(n)
        for j in range(i)
        if labels[i] == labels[j]
    ]
    return math.fsum(values) / len(values)


# --- printed values (18 digits, from independent 50-digit computations) --------------------------------

UNIFORM_LAW = {  # (dim, t): log E exp(-t |u - v|^2)
    (1, 2): -0.692811774187049541,
    (2, 2): -1.57502720448454069,
    (3, 2): -2.07977706058791275,
    (4, 2): -2.41490958146187322,
    (8, 2): -3.08252723347803493,
    (16, 2): -3.51303643642106539,
    (64, 2): -3.87523558967926009,
    (128, 2): -3.93753001020385711,
    (256, 2): -3.96875378391333078,
    (512, 2): -3.98437547494341057,
    (768, 2): -3.98958347424637280,
    (1024, 2): -3.99218755948725083,
    (2048, 2): -3.99609375744327395,
}

MINIMUM = {  # (num, dim): lowest uniformity without self pairs, t = 2
    (2, 5): -8.0,
    (3, 2): -6.0,
    (4, 3): -16 / 3,
    (8, 7): -4.5714285714285714,
    (100, 128): -4.0404040404040404,
    (4, 2): -4.3963489672290145,
    (6, 3): -4.2185750929075387,
    (16, 8): -4.0676854665926876,
    (256, 128): -4.0038571719250826,
    (6, 2): -2.8969244595933837,
    (12, 2): -2.0031351585593265,
    (100, 2): -1.6144914620321777,
}

POLYGON_WITH_SELF_PAIRS = {12: -1.5750251528518847, 100: -1.5750272044845407}

UNRELATED_ALIGNMENT = {  # (dim, alpha)
    (2, 1): 1.27323954473516,
    (3, 1): 4 / 3,
    (128, 1): 1.412822329821,
    (2, 4): 6.0,
    (3, 4): 16 / 3,
    (128, 4): 4.03125,
}
