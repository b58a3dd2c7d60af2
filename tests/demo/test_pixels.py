"""The digits from pixels: the ONNX model and its losses are scikit-learn's."""

import numpy as np
import onnx
import pytest

from demo.pixels import Pixels, show
from demo.tables import WIDTH


@pytest.mark.slow
def test_losses_from_pixels_are_scikit_learns(capsys: pytest.CaptureFixture[str]) -> None:
    assert show()
    shown = capsys.readouterr().out
    assert "softmax_left_out: the model ends in Softmax" in shown
    assert "FAIL" not in shown
    assert shown.count("ok  ") == 2
    assert max(map(len, shown.splitlines())) <= WIDTH


def test_the_model_is_a_valid_file_of_the_weights() -> None:
    found = Pixels()
    onnx.checker.check_model(found.model)
    assert found.model.graph.output[0].name == "probabilities"
    assert np.allclose(found.probabilities.sum(axis=1), 1)
    assert (found.probabilities.argmax(axis=1) == found.labels).mean() > 0.9
