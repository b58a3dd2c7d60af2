"""Which loss a variant's graph is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from service.graphs import cross_entropy, curves, sigmoid
from service.graphs.sigmoid import Elements, ElementTerms
from service.graphs.softmax import Rows, RowTerms
from service.graphs.tempered import bi_tempered


@dataclass(frozen=True, slots=True)
class Loss:
    """A variant's loss, per family: of rows, of elements, or both."""

    rows: Callable[[Rows, Any], RowTerms] | None = None
    elements: Callable[[Elements, Any], ElementTerms] | None = None


# Linear in -log p. What the logits and the class weights are, the variants themselves tell.
_LINEAR: Final = Loss(cross_entropy.cross_entropy)

LOSSES: Final[Mapping[str, Loss]] = {
    "asymmetric": Loss(elements=sigmoid.asymmetric),
    "balanced-softmax": _LINEAR,
    "bi-tempered": Loss(bi_tempered),
    "binary": Loss(elements=sigmoid.binary),
    "categorical": _LINEAR,
    "class-balanced": Loss(curves.class_balanced),
    "confidence-penalty": Loss(cross_entropy.confidence_penalty),
    "focal": Loss(curves.focal, sigmoid.focal),
    "generalized": Loss(curves.weighted_curve(curves.generalized_curve)),
    "label-smoothing": Loss(cross_entropy.label_smoothing),
    "ldam": Loss(cross_entropy.ldam),
    "logit-adjusted": _LINEAR,
    "ordinal": Loss(elements=sigmoid.ordinal),
    "poly1": Loss(curves.weighted_curve(curves.poly1_curve)),
    "quality-focal": Loss(elements=sigmoid.quality_focal),
    "sparse": _LINEAR,
    "symmetric": Loss(curves.symmetric),
    "taylor": Loss(curves.weighted_curve(curves.taylor_curve)),
    "temperature": _LINEAR,
    "weighted": _LINEAR,
    "z-loss": Loss(cross_entropy.z_loss),
}
