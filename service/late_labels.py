"""Labels that come after their logits: what stands for them until then, and how they are put in."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from service.errors import Fault, InvalidDocument, invalid
from service.schema.document import Document
from service.wire.payload import extent
from xentcore import Spec, find_variant


def unlabelled(shape: Sequence[int], document: Document, specs: Sequence[Spec]) -> Tensor:
    """Return labels for logits that have none yet: every row is marked as left out.

    Args:
        shape: of the logits.
        document: says how labels will be read.
        specs: the variants, which take labels of some kinds only.
    """
    mark = -100 if document.ignore_index is None else document.ignore_index
    _, classes = extent(shape, document.class_axis)
    if classes == 1:
        return torch.full((shape[0],), mark)
    if _by_class(document, specs):
        axis = document.class_axis % len(shape)
        return torch.full([size for place, size in enumerate(shape) if place != axis], mark)
    return torch.full([1] * len(shape), mark).expand(*shape)


def rows_first(shape: Sequence[int], class_axis: int) -> bool:
    """Tell whether the first axis of logits is that of all their rows."""
    if len(shape) == 1:
        return True
    return len(shape) == 2 and class_axis % 2 == 1  # noqa: PLR2004  (a matrix)


def _by_class(document: Document, specs: Sequence[Spec]) -> bool:
    """Tell whether labels are expected to be the numbers of classes."""
    if document.label_kind != "auto":
        return document.label_kind == "integer"
    return all("integer" in find_variant(spec.variant).label_kinds for spec in specs)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of a batch, as far as they have come.

    Attributes:
        values: of all rows, as a request has them; rows without any are marked as left out.
        given: rows whose label has come, (rows,), bool.
    """

    values: Tensor
    given: Tensor

    @property
    def complete(self) -> bool:
        """Whether every row has its label."""
        return bool(self.given.all())

    def packed(self) -> bytes:
        """Return both as bytes; equal labels give equal bytes."""
        buffer = io.BytesIO()
        for each in (self.values, self.given):
            np.save(buffer, each.numpy(), allow_pickle=False)
        return buffer.getvalue()


def unpacked(data: bytes) -> Labels:
    """Return what :meth:`Labels.packed` packed."""
    buffer = io.BytesIO(data)
    values, given = (np.load(buffer, allow_pickle=False) for _ in range(2))
    return Labels(torch.from_numpy(values), torch.from_numpy(given))


def of_all(labels: Tensor, rows: int) -> Labels:
    """Return labels of all rows, in their order. Whether they fit the logits, the core tells."""
    return Labels(_plain(labels), torch.ones(rows, dtype=torch.bool))


def of_some(
    labels: Tensor, names: Sequence[str | int], ids: Sequence[str | int], before: Labels
) -> Labels:
    """Return labels with those of some rows put in.

    Args:
        labels: (names,) or (names, classes).
        names: of the rows that the labels are of; 7 names the same row as "7".
        ids: of all rows.
        before: what there was before.

    Raises:
        InvalidDocument: names that no row has, or that stand there twice; labels of another shape.
    """
    if labels.shape[:1] != (len(names),):
        raise invalid("/labels", f"has shape {tuple(labels.shape)} for {len(names)} sample_ids")
    labels, values = _plain(labels), before.values
    if not before.given.any() and labels.dim() != values.dim():
        # What stood for labels was a guess at their shape.
        mark = values.reshape(-1)[:1]
        values = mark.expand(len(ids), *labels.shape[1:])
    if labels.shape[1:] != values.shape[1:]:
        raise invalid(
            "/labels",
            f"a row's label has shape {tuple(labels.shape[1:])}, and those of the batch have "
            f"{tuple(values.shape[1:])}",
        )
    places, sources = _places(names, ids)
    dtype = torch.promote_types(values.dtype, labels.dtype)
    values, given = values.to(dtype, copy=True).contiguous(), before.given.clone()
    values[places] = labels.to(dtype)[sources]
    given[places] = True
    return Labels(values, given)


def _places(names: Sequence[str | int], ids: Sequence[str | int]) -> tuple[list[int], list[int]]:
    """Return the rows that are named, and for each the place of its name."""
    named = {str(name): place for place, name in enumerate(names)}
    if len(named) != len(names):
        raise invalid("/sample_ids", "names a row twice")
    found = [(row, named[str(each)]) for row, each in enumerate(ids) if str(each) in named]
    known = {place for _, place in found}
    missing = [place for place in range(len(names)) if place not in known]
    if missing:
        more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
        message = f"names no row of the batch{more}"
        raise InvalidDocument([Fault(f"/sample_ids/{missing[0]}", message)])
    return [row for row, _ in found], [place for _, place in found]


def _plain(labels: Tensor) -> Tensor:
    """Return labels in a type that also holds what marks a row as left out."""
    if not labels.is_floating_point():
        return labels.long()
    return labels.float() if labels.dtype == torch.bfloat16 else labels
