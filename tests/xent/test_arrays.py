"""Arrays of every library are sent as they are, and come back as they were."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from tests.xent.rows import LABELS, LOGITS, chunks
from xent import Client, InvalidBatch, Refused
from xent.arrays import tensor_of
from xent.tensors import Array
from xentcore import Options, Spec, evaluate


def expected(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the gradient of the core."""
    (result,) = evaluate(logits, labels, [Spec("focal")], outputs={"gradient"}, options=Options())
    assert result.gradient is not None
    return result.gradient


WHOLE = expected(torch.from_numpy(LOGITS), torch.from_numpy(LABELS)).numpy()
FIXED = pa.FixedSizeListArray.from_arrays(pa.array(LOGITS.reshape(-1)), 4)
LISTS = LOGITS.astype(float).tolist()
INPUTS: dict[str, tuple[object, object]] = {
    "numpy": (LOGITS, LABELS),
    "fortran": (np.asfortranarray(LOGITS), LABELS.astype(np.int16)),
    "big endian": (LOGITS.astype(">f4"), LABELS.astype(">i4")),
    "strided": (np.repeat(LOGITS, 2, axis=1)[:, ::2], np.repeat(LABELS, 2)[::2]),
    "torch": (torch.from_numpy(LOGITS), torch.from_numpy(LABELS)),
    "torch with gradient": (torch.from_numpy(LOGITS).requires_grad_(), torch.from_numpy(LABELS)),
    "torch transposed": (torch.from_numpy(LOGITS.T.copy()).T, torch.from_numpy(LABELS)),
    "jax": (jnp.asarray(LOGITS), jnp.asarray(LABELS)),
    "lists": (LISTS, LABELS.tolist()),
    "pandas": (pd.DataFrame(LOGITS), pd.Series(LABELS)),
    "pandas lists": (pd.Series(LISTS), pd.Series(LABELS, dtype="Int64")),
    "polars": (pl.DataFrame(LOGITS), pl.Series(LABELS)),
    "polars lists": (pl.Series(LISTS), pl.Series(LABELS)),
    "polars arrays": (pl.Series(LISTS, dtype=pl.Array(pl.Float32, 4)), pl.Series(LABELS)),
    "arrow": (FIXED, pa.array(LABELS)),
    "arrow lists": (pa.array(LISTS), pa.chunked_array([LABELS[:5], LABELS[5:]])),
    "arrow table": (pa.table(dict(zip("abcd", LOGITS.T, strict=True))), pa.array(LABELS)),
    "arrow batch": (pa.record_batch(dict(zip("abcd", LOGITS.T, strict=True))), LABELS),
    "a slice of arrow": (pa.concat_arrays([FIXED, FIXED])[60:], pa.array(LABELS)),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_every_kind_of_array_gives_the_gradient_of_the_core(kind: str, client: Client) -> None:
    logits, labels = INPUTS[kind]
    gradient = client.loss("focal", logits, labels, outputs=["gradient"]).gradient
    theirs = type(logits).__module__.partition(".")[0]
    back = theirs if theirs in {"torch", "jaxlib"} else "numpy"
    assert type(gradient).__module__.partition(".")[0] == back
    assert np.allclose(np.asarray(gradient), WHOLE, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_bits_are_sent_as_they_are_and_the_gradient_has_the_same_type(
    dtype: torch.dtype, client: Client
) -> None:
    logits, labels = torch.from_numpy(LOGITS).to(dtype), torch.from_numpy(LABELS)
    answer = client.loss("focal", logits, labels, outputs=["gradient", "per_sample"])
    assert answer.gradient.dtype is dtype
    assert torch.equal(answer.gradient, expected(logits, labels))
    assert isinstance(answer.per_sample, torch.Tensor)


def test_bfloat16_of_jax_stays_what_it_is_and_for_numpy_is_float32(client: Client) -> None:
    logits = jnp.asarray(LOGITS, jnp.bfloat16)
    of_jax = client.loss("focal", logits, LABELS, outputs=["gradient"]).gradient
    assert of_jax.dtype == jnp.bfloat16
    of_bits = client.loss("focal", np.asarray(logits), LABELS, outputs=["gradient"]).gradient
    assert of_bits.dtype == jnp.bfloat16
    rounded = client.loss(
        "focal", LOGITS, LABELS, outputs=["gradient"], gradient_dtype="bfloat16"
    ).gradient
    assert rounded.dtype == np.float32
    assert np.array_equal(rounded, torch.from_numpy(WHOLE).bfloat16().float().numpy())


def test_whole_numbers_in_lists_are_reals(client: Client) -> None:
    assert client.loss("sparse", [[0, 0]], [1]).loss == pytest.approx(np.log(2), rel=1e-15)


def test_other_layouts_come_back_as_they_were(client: Client) -> None:
    logits = LOGITS.reshape(5, 3, 4, 4).transpose(0, 2, 1, 3)
    labels = np.zeros((5, 3, 4), dtype=np.int8)
    gradient = client.loss("sparse", logits, labels, outputs=["gradient"]).gradient
    assert gradient.shape == logits.shape
    last = client.loss(
        "sparse", np.moveaxis(logits, 1, -1), labels, class_axis=-1, outputs=["gradient"]
    ).gradient
    assert np.allclose(np.moveaxis(last, -1, 1), gradient, rtol=1e-6)


def test_what_comes_back_may_be_written_to(client: Client) -> None:
    gradient = client.loss("sparse", LOGITS, LABELS, outputs=["gradient"]).gradient
    gradient += 1
    for logits in (torch.from_numpy(LOGITS), jnp.asarray(LOGITS)):
        client.loss("sparse", logits, LABELS, outputs=["gradient"]).gradient + 1


class Only:
    """An array of nobody's library."""

    def __init__(self, array: Array, protocol: str) -> None:
        self._array = array
        setattr(self, protocol, getattr(array, protocol))

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        return self._array


class Exchanged:
    """An array that speaks DLPack and nothing else."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def __dlpack__(self, **given: Any) -> Any:  # noqa: ANN401
        return self._array.__dlpack__(**given)

    def __dlpack_device__(self) -> Any:  # noqa: ANN401
        return self._array.__dlpack_device__()


def test_whoever_speaks_a_protocol_is_understood(client: Client) -> None:
    whole = client.loss("sparse", LOGITS, LABELS).loss
    assert client.loss("sparse", Exchanged(LOGITS), Exchanged(LABELS)).loss == whole
    assert client.loss("sparse", Only(LOGITS, "__array_interface__"), LABELS).loss == whole


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1], [1, 2]], "inhomogeneous"),
        ("text", "type <U4"),
        (object(), "type object"),
        (pd.Series(["a", "b"]), "other than numbers"),
        (pd.Series([1, None], dtype="Int64"), "1 missing values"),
        (pd.Series([[1.0], [1.0, 2.0]]), "different lengths"),
        (pl.Series([1, None]), "1 missing values"),
        (pl.DataFrame({"a": [1, None], "b": [None, None]}), "3 missing values"),
        (pa.array([1, None]), "1 missing values"),
        (pa.array([[1.0], [1.0, 2.0]]), "lists of 1 to 2"),
        (torch.ones(2, dtype=torch.complex64), "type complex64"),
        (torch.ones(2, 2).to_sparse(), "cannot be read as a tensor"),
        (np.ones(2, dtype=np.longdouble), "type float"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_before_anything_is_sent(
    value: object, said: str
) -> None:
    with Client("http://127.0.0.1:1") as nobody, pytest.raises(InvalidBatch, match=said):
        nobody.loss("sparse", [[1.0, 2.0], [1.0, 2.0]], value)


def test_logits_alone_are_no_batch(client: Client) -> None:
    for logits in (LOGITS, "text", 7):
        with pytest.raises(InvalidBatch, match="labels are missing"):
            client.loss("sparse", logits)
    with pytest.raises(InvalidBatch, match="not of shape"):
        client.loss("sparse", [[1.0, 2.0], [1.0, 2.0]])


def test_an_empty_column_is_an_empty_array() -> None:
    assert tensor_of(pa.chunked_array([], type=pa.int64()), "labels").shape == (0,)
    assert tensor_of(pl.Series([], dtype=pl.Int64), "labels").shape == (0,)


def test_what_the_service_refuses_is_said_with_its_place(client: Client) -> None:
    with pytest.raises(Refused, match="outside 0 to 3") as raised:
        client.loss("sparse", LOGITS, LABELS + 1)
    assert raised.value.pointers == (f"/labels/{int(np.argmax(LABELS == 3))}",)
    assert raised.value.status == 422
    assert raised.value.type == "/problems/label-invalid"
    assert len(raised.value.request_id) == 32


def test_sample_weights_are_an_array_too(client: Client) -> None:
    weights = torch.arange(60.0)
    whole = client.loss("sparse", LOGITS, LABELS, sample_weights=weights)
    assert whole.reduction.denominator == 59 * 60 / 2
    together = client.loss(
        "sparse", {"logits": LOGITS, "labels": LABELS, "sample_weights": weights.numpy()}
    )
    assert together.loss == whole.loss
    with pytest.raises(InvalidBatch, match="beside the logits"):
        client.loss("sparse", chunks(), sample_weights=weights)
