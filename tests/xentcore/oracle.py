"""The losses as they are defined, in 80 decimal digits, and what people write naively.

Nothing here is shifted, fused or rearranged, and no arithmetic is shared with the code tested: with
80 digits the definition itself is exact, and a difference quotient is its derivative to 50 digits.
Numbers are converted from tensors without rounding, so both sides see the same inputs.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal, localcontext
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812  (PyTorch's own name for it)

from xentcore import LabelKind, Spec, find_variant

Vector = Sequence[Decimal]
RowLoss = Callable[[Vector, Vector], Decimal]
Curve = Callable[[Decimal], Decimal]
Naive = Callable[[Tensor, Tensor], Tensor]

_CONTEXT = Context(prec=80, Emax=MAX_EMAX, Emin=MIN_EMIN)
# A difference quotient of this step is off by about its square: 50 digits are left.
_STEP = Decimal("1e-25")
_ONE = Decimal(1)
# Newton's method doubles the digits at every step: after one of this size all 80 are right.
_CLOSE = Decimal("1e-42")


def losses(loss: RowLoss, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each row, float64, (rows,)."""
    with localcontext(_CONTEXT):
        rows = zip(_rows(logits), _rows(targets), strict=True)
        return torch.tensor([float(loss(z, t)) for z, t in rows], dtype=torch.float64)


def gradients(loss: RowLoss, logits: Tensor, targets: Tensor) -> Tensor:
    """Return d loss[row] / d logits[row], float64, (rows, classes); logits are finite."""
    with localcontext(_CONTEXT):
        rows = zip(_rows(logits), _rows(targets), strict=True)
        found = [[float(_slope(loss, z, t, c)) for c in range(len(z))] for z, t in rows]
        return torch.tensor(found, dtype=torch.float64)


def _rows(matrix: Tensor) -> list[list[Decimal]]:
    return [[Decimal(x) for x in row] for row in matrix.double().tolist()]


def _slope(loss: RowLoss, z: Vector, t: Vector, cls: int) -> Decimal:
    above, below = list(z), list(z)
    above[cls] += _STEP
    below[cls] -= _STEP
    return (loss(above, t) - loss(below, t)) / (2 * _STEP)


@lru_cache(maxsize=4096)
def _exp(x: Decimal) -> Decimal:
    # A difference quotient changes one logit of a row: the others were met before.
    return x.exp()


def _total(numbers: Sequence[Decimal]) -> Decimal:
    return sum(numbers, Decimal(0))


def _log_partition(z: Vector) -> Decimal:
    return _total([_exp(x) for x in z]).ln()


def softmax_loss(
    *,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
    spread: str = "uniform",
) -> RowLoss:
    """-sum_c w_c t'_c log p_c, t' the smoothed target; what has no mass contributes 0."""
    e = Decimal(smoothing)

    def smooth(t: Decimal, classes: int) -> Decimal:
        if spread == "uniform":
            return (1 - e) * t + e / classes
        return (1 - e) * t + (1 - t) * e / (classes - 1)

    def loss(z: Vector, t: Vector) -> Decimal:
        w = [_ONE] * len(z) if weights is None else [Decimal(x) for x in weights]
        log_partition = _log_partition(z)
        mass = [w_c * smooth(t_c, len(z)) for w_c, t_c in zip(w, t, strict=True)]
        return _total([a * (log_partition - x) for a, x in zip(mass, z, strict=True) if a])

    return loss


def softmax_focal_loss(*, gamma: float, alpha: float | Sequence[float] = 1.0) -> RowLoss:
    """-sum_c t_c alpha_c (1 - p_c)^gamma log p_c."""

    def loss(z: Vector, t: Vector) -> Decimal:
        log_partition = _log_partition(z)
        factors = _per_class(alpha, len(z))
        return _total(
            [
                a * t_c * _power(1 - _exp(x - log_partition), gamma) * (log_partition - x)
                for a, t_c, x in zip(factors, t, z, strict=True)
                if a * t_c
            ]
        )

    return loss


def on_label_loss(curve: Curve, *, weights: Sequence[float] | None = None) -> RowLoss:
    """sum_c w_c t_c f(p_c)."""

    def loss(z: Vector, t: Vector) -> Decimal:
        p = _softmax(z)
        factors = _per_class(weights or 1.0, len(z))
        return _total([w * t_c * curve(x) for w, t_c, x in zip(factors, t, p, strict=True) if t_c])

    return loss


def poly1(epsilon: float) -> Curve:
    """-log p + epsilon (1-p)."""
    return lambda p: Decimal(epsilon) * (1 - p) - p.ln()


def generalized(q: float) -> Curve:
    """(1 - p^q) / q; -log p for q = 0."""
    return lambda p: (1 - p ** Decimal(q)) / Decimal(q) if q else -p.ln()


def taylor(order: int) -> Curve:
    """sum_{k=1..n} (1-p)^k / k."""
    return lambda p: _total([(1 - p) ** k / k for k in range(1, order + 1)])


def symmetric_loss(*, alpha: float, beta: float, log_zero: float) -> RowLoss:
    """alpha CE + beta RCE, RCE = -sum_c p_c max(log t_c, A)."""
    floor = Decimal(log_zero)

    def loss(z: Vector, t: Vector) -> Decimal:
        p = _softmax(z)
        forward = _total([-t_c * x.ln() for t_c, x in zip(t, p, strict=True) if t_c])
        logs = [max(t_c.ln(), floor) if t_c else floor for t_c in t]
        reverse = _total([-x * log for x, log in zip(p, logs, strict=True)])
        return Decimal(alpha) * forward + Decimal(beta) * reverse

    return loss


def z_loss(penalty: float) -> RowLoss:
    """CE + lambda (log sum_c exp z_c)^2."""

    def loss(z: Vector, t: Vector) -> Decimal:
        partition = _log_partition(z)
        return softmax_loss()(z, t) + Decimal(penalty) * partition * partition

    return loss


def confidence_penalty_loss(beta: float) -> RowLoss:
    """CE + beta sum_c p_c log p_c."""

    def loss(z: Vector, t: Vector) -> Decimal:
        return softmax_loss()(z, t) + Decimal(beta) * _total([p * p.ln() for p in _softmax(z)])

    return loss


def bi_tempered_loss(*, t1: float, t2: float, smoothing: float = 0.0) -> RowLoss:
    """sum_c t_c (log_t1 t_c - log_t1 p_c) - (t_c^(2-t1) - p_c^(2-t1)) / (2-t1)."""
    e, first = Decimal(smoothing), Decimal(t1)

    def loss(z: Vector, t: Vector) -> Decimal:
        soft = [(1 - e) * t_c + (1 - t_c) * e / (len(z) - 1) for t_c in t]
        return _total(
            [
                (t_c * (_log(t_c, first) - _log(p, first)) if t_c else Decimal(0))
                - (_raised(t_c, 2 - first) - _raised(p, 2 - first)) / (2 - first)
                for t_c, p in zip(soft, tempered_softmax(z, t2), strict=True)
            ]
        )

    return loss


def _log(x: Decimal, t: Decimal) -> Decimal:
    return x.ln() if t == 1 else (_raised(x, 1 - t) - 1) / (1 - t)


def _raised(x: Decimal, exponent: Decimal) -> Decimal:
    return x**exponent if x else Decimal(0)


def tempered_softmax(z: Vector, t2: float) -> list[Decimal]:
    """exp_t(z_c - lambda) with lambda such that they sum to 1.

    The source's ``lambda = max z - log_t(1/Z)``: the root of the sum is bracketed and halved in
    float64, then sought by Newton's method in 80 digits, on the sum itself.
    """
    if t2 == 1:
        return _softmax(z)
    b = Decimal(t2) - 1
    largest = max(z)
    depth = [float(largest - x) for x in z]
    low, high = 0.0, (len(z) ** float(b) - 1) / float(b)
    while low < (middle := (low + high) / 2) < high:
        over = sum((1 + float(b) * (middle + d)) ** (-1 / float(b)) for d in depth) > 1
        low, high = (middle, high) if over else (low, middle)
    root = largest + Decimal(low)

    def heavy_tails() -> list[Decimal]:
        return [(1 + b * (root - x)) ** (-1 / b) for x in z]

    step = _ONE
    while abs(step) > _CLOSE:
        tails = heavy_tails()
        # x^(1+b), the slope of the sum, as a quotient: a power takes a hundred times as long.
        slopes = [p / (1 + b * (root - x)) for p, x in zip(tails, z, strict=True)]
        step = (_total(tails) - 1) / _total(slopes)
        root += step
    return heavy_tails()


def _softmax(z: Vector) -> list[Decimal]:
    odds = [_exp(x) for x in z]
    return [x / _total(odds) for x in odds]


def sigmoid_loss(
    *,
    positive: float | Sequence[float] = 1.0,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> RowLoss:
    """sum_c w_c ((1-t)x + (1+(P-1)t) log(1+e^-x)), t smoothed as t(1-e)+e/2."""
    e = Decimal(smoothing)

    def loss(z: Vector, t: Vector) -> Decimal:
        elements = []
        factors = _per_class(positive, len(z)), _per_class(weights or 1.0, len(z))
        for p, w, x, hard in zip(*factors, z, t, strict=True):
            soft = hard * (1 - e) + e / 2
            softplus = (1 + _exp(-x)).ln()
            elements.append(w * ((1 - soft) * x + (1 + (p - 1) * soft) * softplus))
        return _total(elements)

    return loss


def sigmoid_focal_loss(*, gamma: float, alpha: float | Sequence[float] | None = None) -> RowLoss:
    """sum_c alpha_t q^gamma bce, q = p + t - 2pt, alpha_t = alpha t + (1-alpha)(1-t)."""

    def loss(z: Vector, t: Vector) -> Decimal:
        elements = []
        for a, x, t_c in zip(_per_class(alpha or 0.5, len(z)), z, t, strict=True):
            odds = _exp(x)
            p, softplus = odds / (1 + odds), (1 + odds).ln()
            bce = (1 - t_c) * softplus + t_c * (softplus - x)
            side = _ONE if alpha is None else a * t_c + (1 - a) * (1 - t_c)
            elements.append(side * _power(p + t_c - 2 * p * t_c, gamma) * bce)
        return _total(elements)

    return loss


def softmax_temperature_loss(temperature: float, weights: Sequence[float] | None = None) -> RowLoss:
    """Cross-entropy of z / T."""
    plain = softmax_loss(weights=weights)

    def loss(z: Vector, t: Vector) -> Decimal:
        return plain([x / Decimal(temperature) for x in z], t)

    return loss


def softmax_adjusted_loss(amounts: Sequence[float], tau: float = 1.0) -> RowLoss:
    """-sum_c t_c log(n_c^tau e^z_c / sum_k n_k^tau e^z_k); a common factor of n cancels."""

    def loss(z: Vector, t: Vector) -> Decimal:
        factors = [_power(Decimal(n), tau) for n in amounts]
        mass = [n * _exp(x) for n, x in zip(factors, z, strict=True)]
        whole = _total(mass)
        return -_total([t_c * (m / whole).ln() for t_c, m in zip(t, mass, strict=True) if t_c])

    return loss


def softmax_margin_loss(
    counts: Sequence[int],
    *,
    scale: float = 30.0,
    largest: float = 0.5,
    weights: Sequence[float] | None = None,
) -> RowLoss:
    """Cross-entropy of s (z - D_y e_y), D_c in proportion to n_c^(-1/4) and at most the largest."""
    s = Decimal(scale)

    def loss(z: Vector, t: Vector) -> Decimal:
        raw = [Decimal(n) ** Decimal("-0.25") for n in counts]
        label = t.index(_ONE)
        with_margin = [s * x for x in z]
        with_margin[label] -= s * raw[label] * Decimal(largest) / max(raw)
        surprise = _log_partition(with_margin) - with_margin[label]
        return surprise if weights is None else Decimal(weights[label]) * surprise

    return loss


def sigmoid_asymmetric_loss(
    *, gamma_pos: float = 0.0, gamma_neg: float = 4.0, margin: float = 0.05
) -> RowLoss:
    """sum_c -t (1-p)^g+ log p - (1-t) p_m^g- log(1-p_m), p_m = max(p-m, 0)."""

    def loss(z: Vector, t: Vector) -> Decimal:
        elements = []
        for x, t_c in zip(z, t, strict=True):
            p = 1 / (1 + _exp(-x))
            p_m = max(p - Decimal(margin), Decimal(0))
            if t_c:
                elements.append(-t_c * _power(1 - p, gamma_pos) * p.ln())
            if p_m:
                elements.append(-(1 - t_c) * _power(p_m, gamma_neg) * (1 - p_m).ln())
        return _total(elements)

    return loss


def sigmoid_quality_loss(beta: float = 2.0) -> RowLoss:
    """sum_c -|t - p|^beta ((1-t) log(1-p) + t log p)."""

    def loss(z: Vector, t: Vector) -> Decimal:
        elements = []
        for x, t_c in zip(z, t, strict=True):
            p = 1 / (1 + _exp(-x))
            likelihood = (1 - t_c) * (1 - p).ln() + t_c * p.ln()
            elements.append(-_power(abs(t_c - p), beta) * likelihood)
        return _total(elements)

    return loss


def sigmoid_rank_loss(weights: Sequence[float] | None = None) -> RowLoss:
    """-sum_k w_k log P(y > k) over thresholds that are passed, w_k log P(y <= k) over others."""

    def loss(z: Vector, t: Vector) -> Decimal:
        elements = []
        for w, x, passed in zip(_per_class(weights or 1.0, len(z)), z, t, strict=True):
            above = _exp(x) / (1 + _exp(x))
            elements.append(-w * (above if passed else 1 - above).ln())
        return _total(elements)

    return loss


def _power(base: Decimal, exponent: float) -> Decimal:
    return base ** Decimal(exponent) if exponent else _ONE


def _per_class(values: float | Sequence[float], classes: int) -> list[Decimal]:
    if isinstance(values, int | float):
        return [Decimal(values)] * classes
    return [Decimal(x) for x in values]


def balanced(counts: Sequence[int]) -> tuple[float, ...]:
    """R / (C n_c)."""
    return tuple(sum(counts) / (len(counts) * n) for n in counts)


def effective_number(counts: Sequence[int], beta: float) -> tuple[float, ...]:
    """(1-b) / (1-b^n_c), scaled to sum C."""
    with localcontext(_CONTEXT):
        b = Decimal(beta)
        raw = [(1 - b) / (1 - b**n) for n in counts]
        return tuple(float(len(counts) * x / _total(raw)) for x in raw)


def naive_softmax(
    weights: Sequence[float] | None = None, smoothing: float = 0.0, spread: str = "uniform"
) -> Naive:
    """What PyTorch's own function gives in the logits' dtype; rows stay apart."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        w = None if weights is None else torch.tensor(weights, dtype=z.dtype)
        if spread == "uniform":
            return F.cross_entropy(z, y, weight=w, label_smoothing=smoothing, reduction="none")
        t = _targets(z, y)
        mass = (1 - smoothing) * t + (1 - t) * smoothing / (z.shape[1] - 1)
        return -(mass * (1.0 if w is None else w) * z.log_softmax(1)).sum(1)

    return loss


def naive_softmax_focal(gamma: float, alpha: float | Sequence[float] = 1.0) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = _targets(z, y)
        log_p = z.log_softmax(1)
        return -(t * torch.tensor(alpha, dtype=z.dtype) * (1 - log_p.exp()) ** gamma * log_p).sum(1)

    return loss


def naive_on_label(
    curve: Callable[[Tensor], Tensor], weights: Sequence[float] | None = None
) -> Naive:
    """sum_c w_c t_c f(p_c), as written from the formula."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        mass = _targets(z, y)
        if weights is not None:
            mass = mass * torch.tensor(weights, dtype=z.dtype)
        found = curve(z.softmax(1))
        return torch.where(mass > 0, mass * found, 0.0).sum(1)

    return loss


def naive_symmetric(alpha: float, beta: float, log_zero: float) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = _targets(z, y)
        forward = -(t * z.log_softmax(1)).sum(1)
        reverse = -(z.softmax(1) * t.clamp_min(math.exp(log_zero)).log()).sum(1)
        return alpha * forward + beta * reverse

    return loss


def naive_z_loss(penalty: float) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(z, y, reduction="none") + penalty * z.logsumexp(1) ** 2

    return loss


def naive_confidence_penalty(beta: float) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        log_p = z.log_softmax(1)
        entropy = -(log_p.exp() * log_p).sum(1)
        return F.cross_entropy(z, y, reduction="none") - beta * entropy

    return loss


def naive_bi_tempered(t1: float, t2: float, smoothing: float = 0.0) -> Naive:
    """As the source writes it, with its fixed-point iteration, one step of it differentiated.

    That step is Newton's, at the root: its derivative is that of the root.
    """

    def log_t(x: Tensor, t: float) -> Tensor:
        return x.log() if t == 1 else (x ** (1 - t) - 1) / (1 - t)

    def exp_t(x: Tensor, t: float) -> Tensor:
        return x.exp() if t == 1 else (1 + (1 - t) * x).relu() ** (1 / (1 - t))

    def probabilities(z: Tensor) -> Tensor:
        u = z - z.detach().amax(1, keepdim=True)
        with torch.no_grad():
            partition = exp_t(u, t2).sum(1, keepdim=True)
            for _ in range(100):
                partition = exp_t(u * partition ** (1 - t2), t2).sum(1, keepdim=True)
            root = -log_t(1 / partition, t2)
            slope = (exp_t(u - root, t2) ** t2).sum(1, keepdim=True)
        root = root + (exp_t(u - root, t2).sum(1, keepdim=True) - 1) / slope
        return exp_t(u - root, t2)

    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = _targets(z, y)
        t = (1 - smoothing) * t + (1 - t) * smoothing / (z.shape[1] - 1)
        p = z.softmax(1) if t2 == 1 else probabilities(z)
        gap = torch.where(t > 0, t * (log_t(t + 1e-10, t1) - log_t(p, t1)), 0.0)
        return (gap - (t ** (2 - t1) - p ** (2 - t1)) / (2 - t1)).sum(1)

    return loss


def _targets(z: Tensor, y: Tensor) -> Tensor:
    return F.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim == 1 else y


def naive_sigmoid(
    positive: float | Sequence[float] = 1.0,
    weights: Sequence[float] | None = None,
    smoothing: float = 0.0,
) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = F.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim < z.ndim else y
        w = None if weights is None else torch.tensor(weights, dtype=z.dtype)
        p = torch.tensor(positive, dtype=z.dtype)
        soft = t * (1 - smoothing) + smoothing / 2
        elements = F.binary_cross_entropy_with_logits(
            z, soft, weight=w, pos_weight=p, reduction="none"
        )
        return elements.sum(1)

    return loss


def naive_sigmoid_focal(gamma: float, alpha: float | Sequence[float] | None = None) -> Naive:
    """As torchvision.ops.sigmoid_focal_loss writes it."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = F.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim < z.ndim else y
        p = z.sigmoid()
        bce = F.binary_cross_entropy_with_logits(z, t, reduction="none")
        elements = bce * (1 - (p * t + (1 - p) * (1 - t))) ** gamma
        if alpha is not None:
            a = torch.tensor(alpha, dtype=z.dtype)
            elements = elements * (a * t + (1 - a) * (1 - t))
        return elements.sum(1)

    return loss


def naive_temperature(temperature: float, weights: Sequence[float] | None = None) -> Naive:
    plain = naive_softmax(weights)
    return lambda z, y: plain(z / temperature, y)


def naive_adjusted(amounts: Sequence[float], tau: float = 1.0) -> Naive:
    """As the source writes it: log of the prior added to the logits."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        prior = torch.tensor(amounts, dtype=z.dtype)
        return F.cross_entropy(z + tau * (prior / prior.sum()).log(), y, reduction="none")

    return loss


def naive_margin(
    counts: Sequence[int],
    scale: float = 30.0,
    largest: float = 0.5,
    weights: Sequence[float] | None = None,
) -> Naive:
    """As the source writes it: the margin taken off the label's logit, all times the scale."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        margins = torch.tensor(counts, dtype=torch.float64).pow(-0.25)
        margins = (margins * (largest / margins.max())).to(z.dtype)
        index = y if y.ndim == 1 else y.argmax(1)
        off = F.one_hot(index, z.shape[1]) * margins
        w = None if weights is None else torch.tensor(weights, dtype=z.dtype)
        return F.cross_entropy(scale * (z - off), index, weight=w, reduction="none")

    return loss


def naive_asymmetric(gamma_pos: float = 0.0, gamma_neg: float = 4.0, margin: float = 0.05) -> Naive:
    """As the source writes it: probabilities, a clamp, two logarithms."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = F.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim < z.ndim else y
        p = z.sigmoid()
        kept = (1 - p + margin).clamp(max=1)
        positive = t * (1 - p) ** gamma_pos * p.log()
        return -(positive + (1 - t) * (1 - kept) ** gamma_neg * kept.log()).sum(1)

    return loss


def naive_quality(beta: float = 2.0) -> Naive:
    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = F.one_hot(y, z.shape[1]).to(z.dtype) if y.ndim < z.ndim else y
        bce = F.binary_cross_entropy_with_logits(z, t, reduction="none")
        return ((t - z.sigmoid()).abs() ** beta * bce).sum(1)

    return loss


def naive_ranks(weights: Sequence[float] | None = None) -> Naive:
    """As the source writes it, with log sigma and log sigma - x."""

    def loss(z: Tensor, y: Tensor) -> Tensor:
        t = (y[:, None] > torch.arange(z.shape[1])).to(z.dtype) if y.ndim < z.ndim else y
        log_p = F.logsigmoid(z)
        elements = log_p * t + (log_p - z) * (1 - t)
        w = 1.0 if weights is None else torch.tensor(weights, dtype=z.dtype)
        return -(elements * w).sum(1)

    return loss


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """A variant with settings, for rows of five classes (one for ``binary`` labels).

    Attributes:
        name: for reports.
        slug: the variant.
        labels: the kinds of label to give it.
        loss: of a row, as defined.
        naive: of rows, as written by hand in the logits' dtype.
        settings: of the variant.
        weights: class weights of the ``weights`` denominator.
        ranks: whether labels are about thresholds passed: integers up to the number of columns.
    """

    name: str
    slug: str
    labels: tuple[LabelKind, ...]
    loss: RowLoss
    naive: Naive
    settings: Mapping[str, object] = field(default_factory=dict)
    weights: tuple[float, ...] | None = None
    ranks: bool = False

    @property
    def spec(self) -> Spec:
        """The variant with its settings."""
        return Spec(self.slug, find_variant(self.slug).settings_type(**self.settings))


CLASSES = 5
WEIGHTS = (0.5, 1.0, 0.3, 2.0, 4.0)
ALPHAS = (0.25, 0.5, 0.9, 0.0, 1.0)
COUNTS = (10, 3, 1, 200, 7)
PRIOR = (0.5, 1e-4, 0.05, 0.4, 0.0499)
_BALANCED = balanced(COUNTS)
_EFFECTIVE = effective_number(COUNTS, 0.999)
_UNWEIGHTED = effective_number(COUNTS, 0.0)
_INDEX: tuple[LabelKind, ...] = ("integer",)
_DENSE: tuple[LabelKind, ...] = ("one_hot", "probabilities")
_SOFTMAX: tuple[LabelKind, ...] = (*_INDEX, *_DENSE)
_MATRIX: tuple[LabelKind, ...] = (*_SOFTMAX, "multi_hot")
_SIGMOID: tuple[LabelKind, ...] = (*_MATRIX, "binary")
_YES_NO: tuple[LabelKind, ...] = ("multi_hot", "binary")

CASES = (
    Case(
        name="sparse",
        slug="sparse",
        labels=_INDEX,
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="sparse-weights",
        slug="sparse",
        labels=_INDEX,
        settings={"class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS),
    ),
    Case(
        name="categorical",
        slug="categorical",
        labels=_DENSE,
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="categorical-weights",
        slug="categorical",
        labels=_DENSE,
        settings={"class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS),
    ),
    Case(
        name="weighted",
        slug="weighted",
        labels=_SOFTMAX,
        settings={"class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS),
    ),
    Case(
        name="weighted-balanced",
        slug="weighted",
        labels=_SOFTMAX,
        settings={"class_weights": "balanced", "class_counts": COUNTS},
        weights=_BALANCED,
        loss=softmax_loss(weights=_BALANCED),
        naive=naive_softmax(_BALANCED),
    ),
    Case(
        name="weighted-effective-number",
        slug="weighted",
        labels=_SOFTMAX,
        settings={"class_weights": "effective_number", "class_counts": COUNTS},
        weights=_EFFECTIVE,
        loss=softmax_loss(weights=_EFFECTIVE),
        naive=naive_softmax(_EFFECTIVE),
    ),
    Case(
        name="weighted-effective-number-of-beta-0",
        slug="weighted",
        labels=_INDEX,
        settings={"class_weights": "effective_number", "class_counts": COUNTS, "beta": 0.0},
        weights=_UNWEIGHTED,
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="smoothing",
        slug="label-smoothing",
        labels=_SOFTMAX,
        loss=softmax_loss(smoothing=0.1),
        naive=naive_softmax(smoothing=0.1),
    ),
    Case(
        name="smoothing-0",
        slug="label-smoothing",
        labels=_SOFTMAX,
        settings={"smoothing": 0.0},
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="smoothing-weights",
        slug="label-smoothing",
        labels=_SOFTMAX,
        settings={"smoothing": 0.3, "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(smoothing=0.3, weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS, smoothing=0.3),
    ),
    Case(
        name="smoothing-others",
        slug="label-smoothing",
        labels=_SOFTMAX,
        settings={"spread": "others"},
        loss=softmax_loss(smoothing=0.1, spread="others"),
        naive=naive_softmax(smoothing=0.1, spread="others"),
    ),
    Case(
        # The true class keeps less than the others get.
        name="smoothing-others-0.9-weights",
        slug="label-smoothing",
        labels=_SOFTMAX,
        settings={"smoothing": 0.9, "spread": "others", "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(smoothing=0.9, spread="others", weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS, smoothing=0.9, spread="others"),
    ),
    Case(
        name="focal",
        slug="focal",
        labels=_SOFTMAX,
        loss=softmax_focal_loss(gamma=2.0),
        naive=naive_softmax_focal(2.0),
    ),
    Case(
        name="focal-gamma-0",
        slug="focal",
        labels=_SOFTMAX,
        settings={"gamma": 0.0},
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="focal-gamma-0.5-alpha",
        slug="focal",
        labels=_SOFTMAX,
        settings={"gamma": 0.5, "alpha": 0.25},
        loss=softmax_focal_loss(gamma=0.5, alpha=0.25),
        naive=naive_softmax_focal(0.5, 0.25),
    ),
    Case(
        name="focal-gamma-5-alpha-per-class",
        slug="focal",
        labels=_SOFTMAX,
        settings={"gamma": 5.0, "alpha": WEIGHTS},
        loss=softmax_focal_loss(gamma=5.0, alpha=WEIGHTS),
        naive=naive_softmax_focal(5.0, WEIGHTS),
    ),
    Case(
        name="class-balanced",
        slug="class-balanced",
        labels=_SOFTMAX,
        settings={"class_counts": COUNTS},
        weights=_EFFECTIVE,
        loss=softmax_loss(weights=_EFFECTIVE),
        naive=naive_softmax(_EFFECTIVE),
    ),
    Case(
        name="class-balanced-focal",
        slug="class-balanced",
        labels=_SOFTMAX,
        settings={"class_counts": COUNTS, "beta": 0.9, "gamma": 0.5},
        weights=effective_number(COUNTS, 0.9),
        loss=softmax_focal_loss(gamma=0.5, alpha=effective_number(COUNTS, 0.9)),
        naive=naive_softmax_focal(0.5, effective_number(COUNTS, 0.9)),
    ),
    Case(
        name="poly1",
        slug="poly1",
        labels=_SOFTMAX,
        loss=on_label_loss(poly1(1.0)),
        naive=naive_on_label(lambda p: 1 - p - p.log()),
    ),
    Case(
        # Nothing of 1 - p itself is left.
        name="poly1-epsilon--1-weights",
        slug="poly1",
        labels=_SOFTMAX,
        settings={"epsilon": -1.0, "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=on_label_loss(poly1(-1.0), weights=WEIGHTS),
        naive=naive_on_label(lambda p: p - 1 - p.log(), WEIGHTS),
    ),
    Case(
        name="generalized",
        slug="generalized",
        labels=_SOFTMAX,
        loss=on_label_loss(generalized(0.7)),
        naive=naive_on_label(lambda p: (1 - p**0.7) / 0.7),
    ),
    Case(
        name="generalized-q-0-weights",
        slug="generalized",
        labels=_SOFTMAX,
        settings={"q": 0.0, "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_loss(weights=WEIGHTS),
        naive=naive_softmax(WEIGHTS),
    ),
    Case(
        name="generalized-q-1e-9",
        slug="generalized",
        labels=_SOFTMAX,
        settings={"q": 1e-9},
        loss=on_label_loss(generalized(1e-9)),
        naive=naive_on_label(lambda p: (1 - p**1e-9) / 1e-9),
    ),
    Case(
        name="taylor",
        slug="taylor",
        labels=_SOFTMAX,
        loss=on_label_loss(taylor(2)),
        naive=naive_on_label(lambda p: 1 - p + (1 - p) ** 2 / 2),
    ),
    Case(
        name="taylor-order-7-weights",
        slug="taylor",
        labels=_SOFTMAX,
        settings={"order": 7, "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=on_label_loss(taylor(7), weights=WEIGHTS),
        naive=naive_on_label(
            lambda p: torch.stack([(1 - p) ** k / k for k in range(1, 8)]).sum(0), WEIGHTS
        ),
    ),
    Case(
        name="symmetric",
        slug="symmetric",
        labels=_SOFTMAX,
        loss=symmetric_loss(alpha=0.1, beta=1.0, log_zero=-4.0),
        naive=naive_symmetric(0.1, 1.0, -4.0),
    ),
    Case(
        name="symmetric-alpha-0",
        slug="symmetric",
        labels=_SOFTMAX,
        settings={"alpha": 0.0, "beta": 0.5, "log_zero": -1.5},
        loss=symmetric_loss(alpha=0.0, beta=0.5, log_zero=-1.5),
        naive=naive_symmetric(0.0, 0.5, -1.5),
    ),
    Case(
        name="z-loss",
        slug="z-loss",
        labels=_SOFTMAX,
        loss=z_loss(1e-4),
        naive=naive_z_loss(1e-4),
    ),
    Case(
        name="z-loss-penalty-0.5",
        slug="z-loss",
        labels=_SOFTMAX,
        settings={"penalty": 0.5},
        loss=z_loss(0.5),
        naive=naive_z_loss(0.5),
    ),
    Case(
        name="confidence-penalty",
        slug="confidence-penalty",
        labels=_SOFTMAX,
        loss=confidence_penalty_loss(0.1),
        naive=naive_confidence_penalty(0.1),
    ),
    Case(
        # Most rows are negative.
        name="confidence-penalty-beta-2",
        slug="confidence-penalty",
        labels=_SOFTMAX,
        settings={"beta": 2.0},
        loss=confidence_penalty_loss(2.0),
        naive=naive_confidence_penalty(2.0),
    ),
    Case(
        name="bi-tempered",
        slug="bi-tempered",
        labels=_SOFTMAX,
        loss=bi_tempered_loss(t1=0.8, t2=1.2),
        naive=naive_bi_tempered(0.8, 1.2),
    ),
    Case(
        name="bi-tempered-t1-0-t2-3-smoothing",
        slug="bi-tempered",
        labels=_SOFTMAX,
        settings={"t1": 0.0, "t2": 3.0, "smoothing": 0.1},
        loss=bi_tempered_loss(t1=0.0, t2=3.0, smoothing=0.1),
        naive=naive_bi_tempered(0.0, 3.0, 0.1),
    ),
    Case(
        # Without a heavy tail the loss is of the order of (1-p)^2, down to 1e-40.
        name="bi-tempered-t1-0.5-t2-1",
        slug="bi-tempered",
        labels=_SOFTMAX,
        settings={"t1": 0.5, "t2": 1.0},
        loss=bi_tempered_loss(t1=0.5, t2=1.0),
        naive=naive_bi_tempered(0.5, 1.0),
    ),
    Case(
        name="bi-tempered-t1-1-t2-2",
        slug="bi-tempered",
        labels=_INDEX,
        settings={"t1": 1.0, "t2": 2.0},
        loss=bi_tempered_loss(t1=1.0, t2=2.0),
        naive=naive_bi_tempered(1.0, 2.0),
    ),
    Case(
        name="binary",
        slug="binary",
        labels=_SIGMOID,
        loss=sigmoid_loss(),
        naive=naive_sigmoid(),
    ),
    Case(
        name="binary-positive-smoothing",
        slug="binary",
        labels=_SIGMOID,
        settings={"positive_weights": 3.0, "smoothing": 0.2},
        loss=sigmoid_loss(positive=3.0, smoothing=0.2),
        naive=naive_sigmoid(3.0, smoothing=0.2),
    ),
    Case(
        name="binary-weights-per-class",
        slug="binary",
        labels=_MATRIX,
        settings={"positive_weights": WEIGHTS, "class_weights": WEIGHTS[::-1]},
        weights=WEIGHTS[::-1],
        loss=sigmoid_loss(positive=WEIGHTS, weights=WEIGHTS[::-1]),
        naive=naive_sigmoid(WEIGHTS, WEIGHTS[::-1]),
    ),
    Case(
        name="focal-sigmoid",
        slug="focal",
        labels=_YES_NO,
        loss=sigmoid_focal_loss(gamma=2.0),
        naive=naive_sigmoid_focal(2.0),
    ),
    Case(
        name="focal-sigmoid-gamma-0",
        slug="focal",
        labels=_SIGMOID,
        settings={"gamma": 0.0, "activation": "sigmoid"},
        loss=sigmoid_loss(),
        naive=naive_sigmoid(),
    ),
    Case(
        name="focal-sigmoid-gamma-0.5-alpha",
        slug="focal",
        labels=_SIGMOID,
        settings={"gamma": 0.5, "alpha": 0.25, "activation": "sigmoid"},
        loss=sigmoid_focal_loss(gamma=0.5, alpha=0.25),
        naive=naive_sigmoid_focal(0.5, 0.25),
    ),
    Case(
        name="focal-sigmoid-alpha-per-class",
        slug="focal",
        labels=_MATRIX,
        settings={"alpha": ALPHAS, "activation": "sigmoid"},
        loss=sigmoid_focal_loss(gamma=2.0, alpha=ALPHAS),
        naive=naive_sigmoid_focal(2.0, ALPHAS),
    ),
    Case(
        name="temperature",
        slug="temperature",
        labels=_SOFTMAX,
        settings={"temperature": 1.5},
        loss=softmax_temperature_loss(1.5),
        naive=naive_temperature(1.5),
    ),
    Case(
        name="temperature-1",
        slug="temperature",
        labels=_SOFTMAX,
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="temperature-0.07-weights",
        slug="temperature",
        labels=_SOFTMAX,
        settings={"temperature": 0.07, "class_weights": WEIGHTS},
        weights=WEIGHTS,
        loss=softmax_temperature_loss(0.07, WEIGHTS),
        naive=naive_temperature(0.07, WEIGHTS),
    ),
    Case(
        name="temperature-100",
        slug="temperature",
        labels=_SOFTMAX,
        settings={"temperature": 100.0},
        loss=softmax_temperature_loss(100.0),
        naive=naive_temperature(100.0),
    ),
    Case(
        name="logit-adjusted-prior",
        slug="logit-adjusted",
        labels=_SOFTMAX,
        settings={"class_prior": PRIOR},
        loss=softmax_adjusted_loss(PRIOR),
        naive=naive_adjusted(PRIOR),
    ),
    Case(
        name="logit-adjusted-counts-tau-2.5",
        slug="logit-adjusted",
        labels=_SOFTMAX,
        settings={"class_counts": COUNTS, "tau": 2.5},
        loss=softmax_adjusted_loss(COUNTS, 2.5),
        naive=naive_adjusted(COUNTS, 2.5),
    ),
    Case(
        name="logit-adjusted-tau-0",
        slug="logit-adjusted",
        labels=_SOFTMAX,
        settings={"class_counts": COUNTS, "tau": 0.0},
        loss=softmax_loss(),
        naive=naive_softmax(),
    ),
    Case(
        name="balanced-softmax",
        slug="balanced-softmax",
        labels=_SOFTMAX,
        settings={"class_counts": COUNTS},
        loss=softmax_adjusted_loss(COUNTS),
        naive=naive_adjusted(COUNTS),
    ),
    Case(
        name="ldam",
        slug="ldam",
        labels=("integer", "one_hot"),
        settings={"class_counts": COUNTS},
        loss=softmax_margin_loss(COUNTS),
        naive=naive_margin(COUNTS),
    ),
    Case(
        name="ldam-scale-1-margin-20-weights",
        slug="ldam",
        labels=("integer", "one_hot"),
        settings={
            "class_counts": COUNTS,
            "scale": 1.0,
            "max_margin": 20.0,
            "class_weights": WEIGHTS,
        },
        weights=WEIGHTS,
        loss=softmax_margin_loss(COUNTS, scale=1.0, largest=20.0, weights=WEIGHTS),
        naive=naive_margin(COUNTS, 1.0, 20.0, WEIGHTS),
    ),
    Case(
        name="asymmetric",
        slug="asymmetric",
        labels=_SIGMOID,
        loss=sigmoid_asymmetric_loss(),
        naive=naive_asymmetric(),
    ),
    Case(
        name="asymmetric-without-margin",
        slug="asymmetric",
        labels=_SIGMOID,
        settings={"gamma_pos": 1.0, "gamma_neg": 2.5, "margin": 0.0},
        loss=sigmoid_asymmetric_loss(gamma_pos=1.0, gamma_neg=2.5, margin=0.0),
        naive=naive_asymmetric(1.0, 2.5, 0.0),
    ),
    Case(
        name="asymmetric-gamma-below-1",
        slug="asymmetric",
        labels=_SIGMOID,
        settings={"gamma_pos": 0.5, "gamma_neg": 0.3, "margin": 0.2},
        loss=sigmoid_asymmetric_loss(gamma_pos=0.5, gamma_neg=0.3, margin=0.2),
        naive=naive_asymmetric(0.5, 0.3, 0.2),
    ),
    Case(
        name="asymmetric-gamma-0",
        slug="asymmetric",
        labels=_SIGMOID,
        settings={"gamma_neg": 0.0, "margin": 0.0},
        loss=sigmoid_loss(),
        naive=naive_sigmoid(),
    ),
    Case(
        name="asymmetric-tiny-margin",
        slug="asymmetric",
        labels=_SIGMOID,
        settings={"gamma_neg": 0.0, "margin": 1e-6},
        loss=sigmoid_asymmetric_loss(gamma_neg=0.0, margin=1e-6),
        naive=naive_asymmetric(0.0, 0.0, 1e-6),
    ),
    Case(
        name="quality-focal",
        slug="quality-focal",
        labels=_SIGMOID,
        loss=sigmoid_quality_loss(),
        naive=naive_quality(),
    ),
    Case(
        name="quality-focal-beta-0.5",
        slug="quality-focal",
        labels=_SIGMOID,
        settings={"beta": 0.5},
        loss=sigmoid_quality_loss(0.5),
        naive=naive_quality(0.5),
    ),
    Case(
        name="quality-focal-beta-1.7",
        slug="quality-focal",
        labels=_SIGMOID,
        settings={"beta": 1.7},
        loss=sigmoid_quality_loss(1.7),
        naive=naive_quality(1.7),
    ),
    Case(
        name="quality-focal-beta-0",
        slug="quality-focal",
        labels=_SIGMOID,
        settings={"beta": 0.0},
        loss=sigmoid_loss(),
        naive=naive_sigmoid(),
    ),
    Case(
        name="ordinal",
        slug="ordinal",
        labels=("integer", "multi_hot", "binary"),
        ranks=True,
        loss=sigmoid_rank_loss(),
        naive=naive_ranks(),
    ),
    Case(
        name="ordinal-weights",
        slug="ordinal",
        labels=("integer", "multi_hot"),
        settings={"class_weights": WEIGHTS},
        weights=WEIGHTS,
        ranks=True,
        loss=sigmoid_rank_loss(WEIGHTS),
        naive=naive_ranks(WEIGHTS),
    ),
)
