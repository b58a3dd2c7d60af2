"""What a variant declares, and what becomes of settings that do not keep to it."""

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import xentcore.variants
from xentcore import (
    LABEL_KINDS,
    VARIANTS,
    Evaluation,
    InvalidSetting,
    Options,
    Settings,
    Spec,
    UnknownVariant,
    Variant,
    evaluate,
    find_variant,
    registry,
)
from xentcore.elements import elements
from xentcore.variant import setting

BinarySettings = VARIANTS["binary"].settings_type
FocalSettings = VARIANTS["focal"].settings_type
SmoothingSettings = VARIANTS["label-smoothing"].settings_type
WeightedSettings = VARIANTS["weighted"].settings_type


@dataclass(frozen=True, slots=True, kw_only=True)
class EverySetting(Settings):
    """One setting of every type and with every bound."""

    number: float = setting(1.0, "a number", minimum=0, maximum=2)
    between: float = setting(1.0, "another", above=0, below=2)
    count: int | None = setting(None, "a whole number", minimum=1)
    per_class: float | tuple[float, ...] = setting(1.0, "one for all or one each", minimum=0)
    counts: tuple[int, ...] | None = setting(None, "rows of each class", minimum=1)
    choice: Literal["this", "that"] | None = setting(None, "a word")


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"number": 0},
        {"number": 2.0},
        {"between": 1e-300},
        {"count": 1},
        {"per_class": (0, 0.5)},
        {"counts": (1, 2)},
        {"counts": ()},
        {"choice": "that"},
    ],
)
def test_settings_inside_their_range(given: dict[str, Any]) -> None:
    settings = EverySetting(**given)
    assert all(getattr(settings, name) == value for name, value in given.items())


@pytest.mark.parametrize(
    ("given", "pointer", "words"),
    [
        ({"number": -0.1}, "/number", "number must be at least 0, not -0.1"),
        ({"number": 2.1}, "/number", "number must be at most 2, not 2.1"),
        ({"number": math.nan}, "/number", "number must be finite, not nan"),
        ({"number": math.inf}, "/number", "number must be finite, not inf"),
        ({"between": 0}, "/between", "between must be above 0, not 0"),
        ({"between": 2}, "/between", "between must be below 2, not 2"),
        ({"count": 0}, "/count", "count must be at least 1, not 0"),
        ({"per_class": -1}, "/per_class", "per_class must be at least 0, not -1"),
        ({"per_class": (1.0, -1.0)}, "/per_class/1", "per_class must be at least 0, not -1.0"),
        ({"per_class": (math.inf,)}, "/per_class/0", "per_class must be finite, not inf"),
        ({"counts": (3, 0)}, "/counts/1", "counts must be at least 1, not 0"),
        # whole numbers that float64 cannot hold, the last one too long to be printed
        ({"number": -(10**400)}, "/number", "number must not exceed 1.79769e+308"),
        ({"count": 10**400}, "/count", "count must not exceed 1.79769e+308"),
        ({"counts": (1, 10**5000)}, "/counts/1", "counts must not exceed 1.79769e+308"),
        # of another type
        ({"number": "1"}, "/number", "number must be a number"),
        ({"number": None}, "/number", "number must be a number"),
        ({"number": True}, "/number", "number must be a number"),
        ({"number": (1.0,)}, "/number", "number must be a number"),
        ({"count": 1.5}, "/count", "count must be a whole number or none"),
        ({"per_class": [1.0]}, "/per_class", "a tuple with a number per class"),
        ({"per_class": ("1",)}, "/per_class", "a tuple with a number per class"),
        ({"counts": (1.5,)}, "/counts", "a tuple with a whole number per class"),
        ({"choice": "those"}, "/choice", "choice must be 'this' or 'that'"),
        ({"choice": 1}, "/choice", "choice must be 'this' or 'that'"),
    ],
)
def test_settings_outside_their_range_are_named(
    given: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidSetting) as caught:
        EverySetting(**given)
    assert words in str(caught.value)
    assert caught.value.pointer == f"/settings{pointer}"


def test_per_class_settings_have_one_entry_per_class() -> None:
    settings = EverySetting(per_class=(1.0, 2.0, 3.0))
    settings.check_classes(3)
    with pytest.raises(InvalidSetting, match="per_class has 3 entries for 4 classes") as caught:
        settings.check_classes(4)
    assert caught.value.pointer == "/settings/per_class"


@pytest.mark.parametrize(
    "refused",
    [
        lambda: FocalSettings(gamma=-0.1),
        lambda: FocalSettings(alpha=-0.1),
        lambda: FocalSettings(activation="tanh"),
        lambda: SmoothingSettings(smoothing=1.0),
        lambda: SmoothingSettings(smoothing=-0.1),
        lambda: SmoothingSettings(spread="none"),
        lambda: BinarySettings(positive_weights=-1.0),
        lambda: BinarySettings(smoothing=1),
        lambda: WeightedSettings(class_weights="balancd"),
        lambda: WeightedSettings(class_weights=(1.0, math.nan)),
        lambda: WeightedSettings(class_weights="effective_number", beta=1.0),
        lambda: WeightedSettings(class_weights="balanced", class_counts=(1, 0)),
        lambda: WeightedSettings(class_weights=(1.0, 2.0), class_counts=(1, 2)),
    ],
)
def test_variants_state_their_ranges(refused: Callable[[], Settings]) -> None:
    with pytest.raises(InvalidSetting):
        refused()


# --- settings and batches ------------------------------------------------------------------------

LOGITS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 0, 1])


def test_a_wrong_length_is_found_as_soon_as_classes_are_known() -> None:
    spec = Spec("weighted", WeightedSettings(class_weights=(1.0, 2.0)))
    with pytest.raises(InvalidSetting, match="2 entries for 3 classes"):
        Evaluation([spec], classes=3)
    with pytest.raises(InvalidSetting, match="2 entries for 3 classes"):
        evaluate(LOGITS, LABELS, [spec])


def test_settings_of_another_variant() -> None:
    with pytest.raises(InvalidSetting, match="focal takes FocalSettings, not BinarySettings") as e:
        Evaluation([Spec("sparse"), Spec("focal", BinarySettings())])
    assert (e.value.pointer, e.value.spec) == ("/settings", 1)


@pytest.mark.parametrize(
    "asked",
    [
        Spec("weighted", BinarySettings()),
        Spec("weighted"),
        Spec("class-balanced", BinarySettings()),
        Spec("focl"),
    ],
    ids=str,
)
def test_a_spec_that_is_wrong_is_named_before_the_batch_is_counted(asked: Spec) -> None:
    with pytest.raises((InvalidSetting, UnknownVariant)) as caught:
        evaluate(LOGITS, LABELS, [Spec("sparse"), asked])
    assert caught.value.spec == 1


def test_settings_without_a_default_have_to_be_given() -> None:
    with pytest.raises(InvalidSetting, match="see WeightedSettings for what to give"):
        Evaluation([Spec("weighted")])


@pytest.mark.parametrize("weights", ["balanced", "effective_number"])
def test_weights_of_a_stream_need_counts(weights: str) -> None:
    with pytest.raises(InvalidSetting, match="give class_counts when rows come in") as caught:
        Evaluation([Spec("weighted", WeightedSettings(class_weights=weights))])
    assert caught.value.pointer == "/settings/class_counts"


@pytest.mark.parametrize("weights", ["balanced", "effective_number"])
def test_counts_come_from_the_batch_the_evaluation_or_the_settings(weights: str) -> None:
    plain = Spec("weighted", WeightedSettings(class_weights=weights), "w")
    stated = Spec("weighted", WeightedSettings(class_weights=weights, class_counts=(3, 2, 1)), "w")
    (from_batch,) = evaluate(LOGITS, LABELS, [plain])
    (from_settings,) = evaluate(LOGITS, LABELS, [stated])
    streamed = Evaluation([plain], class_counts=[3, 2, 1])
    streamed.update(LOGITS, LABELS)
    assert from_batch.loss == from_settings.loss == streamed.result()[0].loss


def test_balanced_counts_leave_ignored_rows_out_and_weigh_absent_classes_0() -> None:
    spec = Spec("weighted", WeightedSettings(class_weights="balanced"))
    (result,) = evaluate(LOGITS, torch.tensor([0, 0, 0, 1, -100, -100]), [spec])
    # 4 / (3 * 3) for class 0 and 4 / (3 * 1) for class 1: the weights of the rows add up to 8/3.
    assert result.reduction.denominator == pytest.approx(8 / 3)


@pytest.mark.parametrize("beta", [0.0, 0.9, 1 - 1e-12])
def test_effective_numbers_add_up_to_the_classes(beta: float) -> None:
    settings = WeightedSettings(
        class_weights="effective_number", beta=beta, class_counts=(1, 10, 1000)
    )
    resolved: Any = VARIANTS["weighted"].resolve(settings, None)
    assert sum(resolved.class_weights) == pytest.approx(3)
    first, last = resolved.class_weights[0], resolved.class_weights[-1]
    assert first / last == pytest.approx(
        1 if beta == 0 else (1 - beta**1000) / (1 - beta), rel=1e-3
    )


@pytest.mark.parametrize("kind", ["multi_hot", "binary"])
def test_focal_as_softmax_refuses_what_softmax_cannot_hold(
    kind: Literal["multi_hot", "binary"],
) -> None:
    evaluation = Evaluation(
        [Spec("focal", FocalSettings(activation="softmax"))], options=Options(label_kind=kind)
    )
    shape = (4, 1) if kind == "binary" else (4, 3)
    with pytest.raises((InvalidSetting, xentcore.ShapeMismatch)):
        evaluation.update(torch.zeros(shape), torch.ones(shape))


@pytest.mark.parametrize("alpha", [1.5, (0.5, 1.5, 0.0)])
def test_focal_as_sigmoid_refuses_a_negative_weight_of_the_other_side(
    alpha: float | tuple[float, ...],
) -> None:
    spec = Spec("focal", FocalSettings(alpha=alpha, activation="sigmoid"))
    with pytest.raises(InvalidSetting, match=r"alpha is 1\.5") as caught:
        evaluate(LOGITS, LABELS, [spec])
    assert caught.value.pointer == "/settings/alpha"


def test_row_statistics_are_those_of_a_softmax() -> None:
    with pytest.raises(InvalidSetting, match="ask for sigmoid") as caught:
        evaluate(LOGITS, LABELS, [Spec("binary")], outputs={"row_statistics"})
    assert caught.value.pointer == "/outputs"


# --- the registry --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("slug", "hint"),
    [
        ("focl", "unknown variant 'focl'; did you mean 'focal'? known: "),
        ("qqq", "unknown variant 'qqq'; known: "),
        ("", "unknown variant ''; known: "),
    ],
)
def test_an_unknown_variant_suggests_the_nearest(slug: str, hint: str) -> None:
    with pytest.raises(UnknownVariant) as caught:
        find_variant(slug)
    assert str(caught.value) == hint + ", ".join(VARIANTS)
    assert (caught.value.slug, caught.value.pointer) == (slug, "/variant")


def test_a_name_of_a_megabyte_is_not_repeated() -> None:
    with pytest.raises(UnknownVariant) as caught:
        find_variant("x" * 2**20)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(("slug", "variant"), VARIANTS.items())
def test_a_variant_says_who_it_is(slug: str, variant: Variant[Any]) -> None:
    assert find_variant(slug) is variant
    assert variant.slug == slug
    assert slug.replace("-", "").isalnum()
    assert slug.islower()
    assert all((variant.summary, variant.formula, variant.gradient, variant.source))
    assert variant.families
    assert set(variant.label_kinds) <= set(LABEL_KINDS)
    assert all("description" in field.metadata for field in fields(variant.settings_type))


@pytest.mark.parametrize(("slug", "variant"), VARIANTS.items())
def test_the_documented_example_evaluates(slug: str, variant: Variant[Any]) -> None:
    documented = variant.example["settings"]
    assert isinstance(documented, dict)
    settings = variant.settings_type(
        **{k: tuple(v) if isinstance(v, list) else v for k, v in documented.items()}
    )
    logits, labels = (torch.tensor(variant.example[name]) for name in ("logits", "labels"))
    (result,) = evaluate(logits, labels, [Spec(slug, settings)])
    assert result.loss is not None
    assert result.settings == settings


def test_there_is_one_variant_for_every_file() -> None:
    (folder,) = xentcore.variants.__path__
    files = {path.stem for path in Path(folder).glob("*.py")} - {"__init__"}
    assert {slug.replace("-", "_") for slug in VARIANTS} == files


NEW_VARIANT = """
from xentcore.variants.sparse import Sparse

class Twice(Sparse):
    slug = "twice"
"""


@pytest.fixture
def a_file_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "twice.py").write_text(NEW_VARIANT)
    monkeypatch.setattr(xentcore.variants, "__path__", [*xentcore.variants.__path__, str(tmp_path)])
    yield
    sys.modules.pop("xentcore.variants.twice", None)


@pytest.mark.usefixtures("a_file_more")
def test_a_file_that_is_added_is_a_variant_that_is_found() -> None:
    found = registry._scan()
    assert set(found) == {*VARIANTS, "twice"}
    assert found["twice"].slug == "twice"


def test_a_family_that_a_variant_does_not_have() -> None:
    constants: Any = None
    block = elements(LOGITS, LOGITS.sigmoid(), constants)
    statistics: Any = None
    with pytest.raises(NotImplementedError, match="sparse has no sigmoid form"):
        VARIANTS["sparse"].elements(block, VARIANTS["sparse"].settings_type())
    with pytest.raises(NotImplementedError, match="binary has no softmax form"):
        VARIANTS["binary"].rows(statistics, BinarySettings())
