"""Identity: what is the same batch, the same settings, the same series."""

import math
from dataclasses import replace

import pytest

from service.history.track import SchemaRef, canonical, classes_digest, identity, series_name
from tests.service.history.samples import KEY


def test_settings_that_are_equal_have_equal_hashes() -> None:
    one = replace(KEY, settings={"gamma": 2.0, "alpha": [1.0, 0.5], "deep": {"a": 1, "b": None}})
    same = replace(KEY, settings={"deep": {"b": None, "a": 1.0}, "alpha": (1, 0.5), "gamma": 2})
    assert one.settings_hash == same.settings_hash
    assert one.settings_json == '{"alpha":[1,0.5],"deep":{"a":1,"b":null},"gamma":2}'
    assert len(one.settings_hash) == 16


@pytest.mark.parametrize(
    "settings", [{}, {"gamma": 2.5}, {"gamma": None}, {"gamma": "2"}, {"gamma": True}, {"gama": 2}]
)
def test_settings_that_differ_have_other_hashes(settings: dict[str, object]) -> None:
    assert replace(KEY, settings=settings).settings_hash != (
        replace(KEY, settings={"gamma": 2}).settings_hash
    )


def test_large_floats_keep_their_digits() -> None:
    assert canonical([1e300, 2.0**53, 0.1, -0.0]) == "[1e+300,9007199254740992.0,0.1,0]"


def test_settings_are_finite() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"gamma": math.nan})


def test_an_identity_is_of_names_and_settings() -> None:
    known = identity(KEY, "b")
    assert len(known) == 16
    assert identity(replace(KEY, project="other"), "b") != known
    assert identity(replace(KEY, model="other"), "b") != known
    assert identity(replace(KEY, model_version="other"), "b") != known
    assert identity(replace(KEY, variant="other"), "b") != known
    assert identity(replace(KEY, settings={"gamma": 1}), "b") != known
    assert identity(KEY, "c") != known
    assert identity(replace(KEY, tags={"site": "north"}), "b") == known
    assert identity(replace(KEY, label_schema=SchemaRef("other", None)), "b") == known


def test_parts_of_an_identity_do_not_run_into_each_other() -> None:
    one = replace(KEY, model="a", model_version="bc")
    other = replace(KEY, model="ab", model_version="c")
    assert identity(one, "b") != identity(other, "b")
    assert identity(replace(KEY, model='a","b'), "b") != identity(replace(KEY, model="a"), "b")


def test_classes_are_told_apart_by_name_and_order() -> None:
    digests = {classes_digest(names) for names in [("a", "b"), ("b", "a"), ("ab",), ("a", "b", "")]}
    assert len(digests) == 4


def test_a_series_is_called_after_all_that_it_is() -> None:
    parts = ["p", "m", "1", "sparse", "abc", "animals", "def", "{}"]
    names = {series_name(*parts)}
    for place in range(len(parts)):
        names.add(series_name(*parts[:place], "other", *parts[place + 1 :]))
    assert len(names) == len(parts) + 1
    assert series_name(*parts) == "cc103c8c0237ebb6"  # for ever
