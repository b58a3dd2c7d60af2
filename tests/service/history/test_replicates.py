"""The Poisson bootstrap by name: what is drawn, what it adds up to, what it is good for."""

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from service.history.replicates import (
    MOST_CLASSES,
    RowSums,
    Units,
    draws,
    hash_ids,
    replicate,
    sketch,
)
from service.history.sums import ALL_CLASSES, REPLICATES, SKETCH_SIZE, Sums
from tests.service.history.merging import merge

ROWS = 4096
Numbers = NDArray[np.float64]


def batch(seed: int = 0, rows: int = ROWS, classes: int = 5) -> RowSums:
    random = np.random.default_rng(seed)
    weights = random.uniform(0.5, 2, rows)
    return RowSums(
        weights * random.exponential(1, rows), weights, random.integers(0, classes, rows)
    )


def units(rows: int = ROWS, *, first: int = 0) -> Units:
    hashes = hash_ids(range(first, first + rows))
    return Units(hashes, hashes)


def means(rows: RowSums, of: Units) -> Numbers:
    """The mean loss in each replicate."""
    (records,) = replicate([rows], of, classes=5)
    found: Numbers = records["loss_sums"][0] / records["weight_sums"][0]
    return found


def test_the_same_name_draws_the_same_on_every_machine() -> None:
    # Changed, what is stored would no longer be of the same samples as what comes.
    assert hash_ids(["a", "é", "\ud800"]).tolist() == [
        3454236019345008446,
        2064855173098749264,
        4254075675247647924,
    ]
    assert draws(hash_ids(["a"]))[0, :16].tolist() == [
        3,
        1,
        2,
        0,
        1,
        2,
        2,
        2,
        2,
        2,
        0,
        2,
        0,
        1,
        1,
        0,
    ]


def test_words_are_those_of_splitmix64() -> None:
    # Digit by digit in whole numbers of any size; the order of draws within a word is the lowest
    # first.
    state, words = 0x123456789ABCDEF0, []
    for _ in range(REPLICATES // 4):
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        word = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB % 2**64
        words.append(word ^ (word >> 31))
    halves = [(word >> shift) % 2**16 for word in words for shift in (0, 16, 32, 48)]
    occurrences = [24109, 24110, 12055, 4018, 1004, 201, 33, 5, 1]
    ends = np.cumsum(occurrences)
    assert ends[-1] == 2**16
    expected = [int((half >= ends).sum()) for half in halves]
    assert draws(np.array([0x123456789ABCDEF0], np.uint64))[0].tolist() == expected


def test_a_number_is_its_decimal_text() -> None:
    assert hash_ids([7, -1, 2**63 - 1]).tolist() == hash_ids(["7", "-1", str(2**63 - 1)]).tolist()
    assert hash_ids(["7"]) != hash_ids(["07"])
    # Beyond 64 bits, and beside texts.
    assert (
        hash_ids([7, -(10**20), "a,b"]).tolist() == hash_ids(["7", str(-(10**20)), "a,b"]).tolist()
    )
    assert hash_ids([7, -(10**20)]).tolist() == hash_ids(["7", str(-(10**20))]).tolist()


def test_draws_are_those_of_a_poisson_distribution_of_mean_1() -> None:
    drawn = draws(hash_ids(range(50_000)))
    assert drawn.shape == (50_000, REPLICATES)
    # 6.4 million draws: five standard errors of mean and variance.
    assert drawn.mean() == pytest.approx(1, abs=5 / np.sqrt(drawn.size))
    assert drawn.var() == pytest.approx(1, abs=5 * np.sqrt(3 / drawn.size))
    exact = np.cumprod([np.exp(-1), *(1 / k for k in range(1, 9))])
    shares = np.bincount(drawn.astype(int).ravel(), minlength=9) / drawn.size
    np.testing.assert_allclose(shares, exact, atol=5 * np.sqrt(0.25 / drawn.size))


def test_draws_of_replicates_and_of_names_know_nothing_of_each_other() -> None:
    # Names that follow each other, and replicates of the same word, are where it would show.
    drawn = draws(hash_ids(range(20_000)))
    among_replicates = np.corrcoef(drawn.T) - np.eye(REPLICATES)
    assert np.abs(among_replicates).max() < 5.5 / np.sqrt(len(drawn))
    among_names = np.corrcoef(drawn[:300]) - np.eye(300)
    assert np.abs(among_names).max() < 6 / np.sqrt(REPLICATES)
    shifted = np.corrcoef(drawn[:-1].ravel(), drawn[1:].ravel())[0, 1]
    assert abs(shifted) < 5 / np.sqrt(drawn.size)


def test_sums_are_those_of_the_draws() -> None:
    rows, of = batch(), units()
    (records,) = replicate([rows], of, classes=5)
    drawn = draws(of.drawn)
    assert records["class"].tolist() == [ALL_CLASSES, 0, 1, 2, 3, 4]
    for record in records:
        own = slice(None) if record["class"] == ALL_CLASSES else rows.classes == record["class"]
        np.testing.assert_allclose(record["loss_sums"], rows.losses[own] @ drawn[own], rtol=1e-12)
        np.testing.assert_allclose(
            record["weight_sums"], rows.weights[own] @ drawn[own], rtol=1e-12
        )


def test_any_split_of_the_rows_merges_to_the_same_sums() -> None:
    rows, of = batch(), units()
    (whole,) = replicate([rows], of, classes=5)
    parts = []
    for part in np.split(np.random.default_rng(1).permutation(ROWS), [1, 700, 701, 3000]):
        (records,) = replicate(
            [RowSums(rows.losses[part], rows.weights[part], rows.classes[part])],
            Units(of.drawn[part], of.seen[part]),
            classes=5,
        )
        parts.append(Sums(replicates=records, sketch=sketch(of.seen[part])))
    merged = merge(parts)
    assert merged.replicates["class"].tolist() == whole["class"].tolist()
    for name in ("loss_sums", "weight_sums"):
        np.testing.assert_allclose(merged.replicates[name], whole[name], rtol=1e-12)
    assert merged.sketch.tolist() == sketch(of.seen).tolist()


def test_rows_that_were_not_evaluated_are_in_no_replicate() -> None:
    rows, of = batch(), units()
    left_out = np.arange(ROWS) % 3 == 0
    losses = np.where(left_out, np.nan, rows.losses)
    (found,) = replicate([RowSums(losses, rows.weights, rows.classes)], of, classes=5)
    kept = ~left_out
    (expected,) = replicate(
        [RowSums(rows.losses[kept], rows.weights[kept], rows.classes[kept])],
        Units(of.drawn[kept], of.seen[kept]),
        classes=5,
    )
    np.testing.assert_allclose(found["loss_sums"], expected["loss_sums"], rtol=1e-12)
    np.testing.assert_allclose(found["weight_sums"], expected["weight_sums"], rtol=1e-12)


def test_evaluations_of_the_same_rows_share_their_draws_and_keep_their_own_classes() -> None:
    softmax = batch()
    sigmoid = RowSums(softmax.losses * 2, softmax.weights, np.full(ROWS, ALL_CLASSES))
    gaps = RowSums(
        np.where(softmax.classes == 4, np.nan, softmax.losses), softmax.weights, softmax.classes
    )
    found = replicate([softmax, sigmoid, gaps], units(), classes=5)
    assert [each["class"].tolist() for each in found] == [
        [-1, 0, 1, 2, 3, 4],
        [-1],
        [-1, 0, 1, 2, 3],
    ]
    np.testing.assert_allclose(found[1]["loss_sums"][0], 2 * found[0]["loss_sums"][0], rtol=1e-12)
    alone = [replicate([each], units(), classes=5)[0] for each in (softmax, sigmoid, gaps)]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one["loss_sums"], other["loss_sums"], rtol=1e-12)


def test_many_classes_have_no_replicates_of_their_own() -> None:
    for classes, expected in ((MOST_CLASSES, MOST_CLASSES + 1), (MOST_CLASSES + 1, 1)):
        rows = batch(classes=MOST_CLASSES)  # the same rows: it is not what they hold that counts
        (records,) = replicate([rows], units(), classes=classes)
        assert len(records) == expected


def test_the_spread_of_replicates_is_the_standard_error() -> None:
    rows = batch(rows=20_000)
    mean = rows.losses.sum() / rows.weights.sum()
    residuals = rows.losses - mean * rows.weights
    analytic = np.sqrt((residuals**2).sum()) / rows.weights.sum()
    spread = means(rows, units(20_000)).std(ddof=1)
    # The spread of 128 replicates is itself known to 1 / sqrt(2 * 127) = 6 %.
    assert spread == pytest.approx(analytic, rel=0.2)


def test_clusters_are_resampled_as_one() -> None:
    random = np.random.default_rng(0)
    clusters = np.repeat(np.arange(400), 25)
    losses = np.repeat(random.exponential(1, 400), 25) + random.uniform(0, 0.1, 10_000)
    rows = RowSums(losses, np.ones(10_000), np.zeros(10_000, np.int64))
    samples = hash_ids(range(10_000))
    alone = Units.of(samples, None)
    together = Units.of(samples, hash_ids(clusters.tolist()))
    assert alone is not None
    assert together is not None
    by_cluster = losses.reshape(400, 25).mean(axis=1)
    analytic = by_cluster.std(ddof=1) / np.sqrt(400)
    assert means(rows, together).std(ddof=1) == pytest.approx(analytic, rel=0.2)
    assert means(rows, alone).std(ddof=1) < 0.4 * analytic  # five times too sure
    assert together.seen is samples


def test_pairing_takes_what_both_models_find_hard_out_of_their_difference() -> None:
    random = np.random.default_rng(0)
    difficulty = random.exponential(1, 10_000)
    baseline = RowSums(difficulty, np.ones(10_000), np.zeros(10_000, np.int64))
    candidate = RowSums(
        difficulty + random.normal(0.02, 0.1, 10_000), np.ones(10_000), np.zeros(10_000, np.int64)
    )
    of, others = units(10_000), units(10_000, first=10_000)
    paired = (means(candidate, of) - means(baseline, of)).std(ddof=1)
    unpaired = (means(candidate, others) - means(baseline, of)).std(ddof=1)
    assert paired == pytest.approx(0.1 / np.sqrt(10_000), rel=0.25)
    assert unpaired > 8 * paired


def test_units_are_what_there_is() -> None:
    samples, clusters = hash_ids(["a", "b"]), hash_ids(["c", "c"])
    assert Units.of(None, None) is None
    assert Units.of(samples, None) == Units(samples, samples)
    assert Units.of(None, clusters) == Units(clusters, clusters)
    assert Units.of(samples, clusters) == Units(clusters, samples)


@pytest.mark.parametrize("rows", [0, 1, 511, 2000, 3000, 100_000])
def test_the_sketch_is_the_smallest_hashes_each_once(rows: int) -> None:
    hashes = hash_ids(range(rows)).repeat(2)
    np.random.default_rng(0).shuffle(hashes)
    assert sketch(hashes).tolist() == sorted(set(hashes.tolist()))[:SKETCH_SIZE]


def test_the_sketch_of_few_names_on_many_rows_is_all_of_them() -> None:
    hashes = hash_ids([row % 100 for row in range(50_000)])
    assert len(hashes) == 50_000
    assert sketch(hashes).tolist() == sorted(set(hashes.tolist()))


def test_no_row_at_all() -> None:
    none = np.zeros(0)
    rows = RowSums(none, none, np.zeros(0, np.int64))
    (records,) = replicate([rows], Units(hash_ids([]), hash_ids([])), classes=3)
    assert records["class"].tolist() == [ALL_CLASSES]
    assert not records["loss_sums"].any()


def test_whoever_waits_no_longer_is_heard_between_blocks() -> None:
    class GivenUp(Exception):
        pass

    def proceed() -> None:
        raise GivenUp

    with pytest.raises(GivenUp):
        replicate([batch()], units(), classes=5, proceed=proceed)


def test_a_batch_of_4096_rows_takes_milliseconds() -> None:
    rows, ids = batch(), [f"sample-{row}" for row in range(ROWS)]

    def once() -> float:
        since_s = time.thread_time()
        hashes = hash_ids(ids)
        replicate([rows], Units(hashes, hashes), classes=5)
        sketch(hashes)
        return time.thread_time() - since_s

    assert min(once() for _ in range(20)) < 0.02  # 2 ms of a core, whoever else works on it
