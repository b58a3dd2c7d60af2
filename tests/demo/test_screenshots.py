"""The story behind the pictures, and the pictures' format."""

import struct
import zlib
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from demo import days, png
from demo.screenshots import FOLDER, pages
from service.dashboard.pages import PAGES
from tests.service.dashboard.browsing import held_out

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)


def encoded(pixels: png.Bytes, filters: list[int]) -> bytes:
    """Write a picture with a filter for each row, from their definitions."""
    height, width, _ = pixels.shape
    rows = b""
    for y, kind in enumerate(filters):
        line = bytearray([kind])
        for x in range(width):
            for c in range(3):
                left = int(pixels[y, x - 1, c]) if x else 0
                up = int(pixels[y - 1, x, c]) if y else 0
                corner = int(pixels[y - 1, x - 1, c]) if x and y else 0
                nearest = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
                guess = [0, left, up, (left + up) // 2, nearest][kind]
                line.append((int(pixels[y, x, c]) - guess) & 255)
        rows += bytes(line)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(png._chunk(name, data) for name, data in chunks)


def test_pictures_keep_their_pixels() -> None:
    random = np.random.default_rng(0)
    colours = random.integers(0, 256, (200, 3), np.uint8)
    pixels = colours[random.integers(0, 200, (10, 33))]
    picture = encoded(pixels, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0])
    assert (png.decoded(picture) == pixels).all()
    shrunk = dict(png._chunks(png.small(picture)))
    palette = np.frombuffer(shrunk[b"PLTE"], np.uint8).reshape(-1, 3)
    index = np.frombuffer(zlib.decompress(shrunk[b"IDAT"]), np.uint8).reshape(10, 34)
    assert (palette[index[:, 1:]] == pixels).all()
    for wrong in (b"GIF89a", png.small(picture)):
        with pytest.raises(ValueError, match="not a"):
            png.decoded(wrong)


def test_colours_beyond_256_become_their_nearest() -> None:
    grey = np.arange(256, dtype=np.uint8)
    pixels = np.stack([grey, grey, grey], axis=1)[None].repeat(2, axis=0)
    pixels = np.concatenate([pixels, np.array([[[7, 7, 8]], [[200, 201, 200]]], np.uint8)], axis=1)
    shrunk = dict(png._chunks(png.small(encoded(pixels, [0, 0]))))
    palette = np.frombuffer(shrunk[b"PLTE"], np.uint8).reshape(-1, 3)
    index = np.frombuffer(zlib.decompress(shrunk[b"IDAT"]), np.uint8).reshape(2, -1)
    assert palette[index[0, -1]].tolist() == [7, 7, 7]
    assert palette[index[1, -1]].tolist() == [200, 200, 200]


def test_every_page_has_a_picture_that_is_small() -> None:
    assert set(pages(BEGIN)) == {*(page or "overview" for page in PAGES), "try"}
    for name in (*pages(BEGIN), "overview-dark", "classes-dark", "overview-narrow"):
        assert 5_000 < (FOLDER / f"{name}.png").stat().st_size < 150_000
    assert all(path.suffix == ".png" for path in Path(FOLDER).iterdir())


def test_three_weeks_have_two_versions_a_gap_and_a_drift() -> None:
    found = list(days.batches(held_out(), BEGIN))
    assert len({(each.version, each.time) for each in found}) == len(found)
    old, new = ([each for each in found if each.version == name] for name in (days.OLD, days.NEW))
    assert old[-1].time > new[0].time
    waits = [after.time - before.time for before, after in pairwise(old)]
    assert max(waits) > timedelta(days=1)

    def loss(batches: list[days.Batch], drifting: bool) -> float:
        logits = torch.cat([each.logits for each in batches])
        labels = torch.cat([each.labels for each in batches])
        usable = logits.isfinite().all(dim=1) & (labels >= 0)
        usable &= torch.isin(labels, torch.tensor(days.DRIFTING)) == drifting
        return float(torch.nn.functional.cross_entropy(logits[usable], labels[usable]))

    assert loss(new[-12:], drifting=True) > 3 * loss(new[:12], drifting=True)
    assert loss(new[-12:], drifting=False) < 1.5 * loss(new[:12], drifting=False)
    again = list(days.batches(held_out(), BEGIN))
    assert torch.equal(again[-1].logits, found[-1].logits)
