"""Axes of a noise and walks along them, against a linear classifier; pictures."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from rddrs_dist.analysis.lines import Line, read_lines
from rddrs_dist.methods import METHODS
from rddrs_dist.noise import DiagonalNoise, FullNoise, IsotropicNoise
from rddrs_dist.report.gallery import MULTIPLES, axes, gallery, picture, reach, signed
from rddrs_dist.results.columns import ABSTAIN
from tests.oracles import Linear

SHAPE = (1, 2, 3)


GENERATOR = torch.Generator().manual_seed(0)
NOISES = (
    FullNoise(torch.randn(1, 6, 6, generator=GENERATOR), SHAPE),
    DiagonalNoise(torch.rand(1, *SHAPE, generator=GENERATOR) + 0.1, SHAPE),
    IsotropicNoise(torch.tensor([0.5]), SHAPE),
)


@pytest.mark.parametrize("noise", NOISES, ids=lambda noise: type(noise).__name__)
def test_axes_are_unit_vectors_with_the_deviation_along_each(noise):
    found = axes(noise)
    directions = np.stack([found.direction(rank) for rank in range(6)])
    assert np.allclose(np.linalg.norm(directions, axis=1), 1)
    assert (np.diff(found.lengths) <= 0).all()
    along = np.einsum("ki,ij,kj->k", directions, noise.covariance()[0].numpy(), directions)
    assert np.allclose(np.sqrt(along), found.lengths)


def test_a_walk_ends_where_the_class_does():
    direction = torch.tensor([1.0, 0, 0, 0, 0, 0])
    model, image = Linear(direction, b=-5.0), torch.zeros(1, *SHAPE)
    eps = 0.1 * torch.randn(100, *SHAPE, generator=torch.Generator().manual_seed(1))
    step = direction.view(SHAPE)
    for way in (step, -step):  # the class changes in one of the two directions, at 5
        assert 5 / 2**0.125 - 0.1 < reach(model, image, eps, 0, way) < 5.1
    assert 5 / 4 / 2**0.125 - 0.1 < reach(model, image, eps, 0, 4 * step) < 5.1 / 4
    across = torch.tensor([0.0, 1, 0, 0, 0, 0]).view(SHAPE)
    assert reach(model, image, eps, 0, across) == MULTIPLES[-1]
    assert reach(model, image, eps, 0, -6 * step) == 0.0
    assert reach(model, image, eps, 1, step) == 0.0


def test_samples_that_overflow_do_not_vote():
    class Overflowing(torch.nn.Module):
        """Finite at the image alone."""

        def forward(self, images):
            far = images.flatten(1).norm(dim=1) > 1.5
            logits = torch.tensor([[1.0, 0.0]]).repeat(len(images), 1)
            return torch.where(far[:, None], torch.nan, logits)

    image, step = torch.zeros(1, *SHAPE), torch.ones(SHAPE) / 6**0.5
    eps = torch.zeros(10, *SHAPE)
    assert reach(Overflowing(), image, eps, 0, step) == pytest.approx(2**0.5)  # 1.54 is beyond


def certified_by_all(found: list[Line]) -> int:
    """An image on which no method abstained."""
    known = [set(one.rows.loc[~one.abstained, "index"]) for one in found]
    return min(set.intersection(*known))


def test_walks_are_spread_over_ranks_and_markers_do_not_hide_each_other(original):
    lines = read_lines([original.folder])
    (entry,), _ = gallery(lines, [certified_by_all(lines)], [original.checkpoint])
    marks = {one.meta["method"]: one for one in entry.figure.data if one.mode == "markers"}
    places = np.sort(np.concatenate([np.log10(one.x) for one in marks.values()]))
    assert len(marks) == len(METHODS) and np.diff(places).min() > 0.012
    for name, one in marks.items():
        assert len(one.x) >= 12 and one.x.min() < 2 and one.x.max() > 50
        texts = [text.split(":")[0] for text in one.customdata]
        alone = texts == ["at random"] * len(texts)
        assert alone == (name in ("rs", "ddrs")), name


def test_a_method_that_abstained_is_named_beside_the_figure(original):
    lines = read_lines([original.folder])
    (ancer,) = (line.rows for line in lines if line.method == "ancer")
    image = certified_by_all(lines)
    ancer.loc[ancer["index"] == image, ["prediction", "radius"]] = [ABSTAIN, 0.0]
    (entry,), _ = gallery(lines, [image])
    assert entry.absent == "ANCER (abstained)"
    drawn = {one.meta["method"] for one in entry.figure.data if one.meta}
    assert drawn == METHODS.keys() - {"ancer"}


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def test_pictures_have_their_values():
    grey = np.array([[[0.0, 0.5, 1.0, 1.7, -0.3]]])
    assert pixels(picture(grey)).tolist() == [[0, 128, 255, 255, 0]]
    colour = np.zeros((3, 1, 2))
    colour[0, 0, 1] = 1.0
    assert pixels(picture(colour)).tolist() == [[[0, 0, 0], [255, 0, 0]]]
    blue, white, red = pixels(signed(np.array([[[-2.0, 0.0, 2.0]]])))[0]
    assert blue[2] > 150 > blue[0] and white.tolist() == [255] * 3 and red[0] > 150 > red[2]
    assert pixels(signed(np.zeros((1, 1, 2)))).min() == 255
