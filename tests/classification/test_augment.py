import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.classification.augment import (
    channel_statistics,
    crop_and_flip,
    cutout,
    normalise,
)


def candidates(image, padding, flip):
    """Every crop of the zero-padded image, mirrored too where asked: the reference."""
    c, h, w = image.shape
    padded = torch.zeros(c, h + 2 * padding, w + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + h, padding : padding + w] = image
    for y in range(2 * padding + 1):
        for x in range(2 * padding + 1):
            crop = padded[:, y : y + h, x : x + w]
            yield (y, x, False), crop
            if flip:
                yield (y, x, True), crop.flip(-1)


@pytest.mark.parametrize(("padding", "flip"), [(1, False), (1, True), (0, True), (2, True)])
def test_a_batch_holds_crops_of_its_own_images_and_all_of_them_occur(padding, flip):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (2, 3, 5, 7), dtype=torch.uint8, generator=generator)
    seen = [set(), set()]
    for _ in range(400):
        found = crop_and_flip(images, padding, flip, generator)
        for i in range(2):
            matches = [
                k for k, c in candidates(images[i], padding, flip) if torch.equal(c, found[i])
            ]
            assert len(matches) == 1
            seen[i].add(matches[0])
    places = (2 * padding + 1) ** 2 * (1 + flip)
    assert [len(s) for s in seen] == [places, places]


def test_nothing_asked_changes_nothing():
    images = torch.rand(2, 1, 4, 4)
    assert crop_and_flip(images, 0, False) is images
    assert cutout(images, 0) is images


@given(side=st.integers(1, 9), seed=st.integers(0, 100))
def test_cutout_blanks_one_rectangle_no_larger_than_asked(side, seed):
    images = torch.ones(4, 2, 8, 8)
    found = cutout(images, side, torch.Generator().manual_seed(seed))
    for image in found:
        rows, columns = torch.nonzero(image[0] == 0, as_tuple=True)
        height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
        assert len(rows) == height * width  # a full rectangle
        # The centre is inside, so half of the square is, or all of the image.
        for extent in (height, width):
            assert min(side - side // 2, 8) <= extent <= min(side, 8) or side == 1
        assert torch.equal(image[0], image[1])
    assert torch.equal(images, torch.ones(4, 2, 8, 8))


def test_cutout_reaches_over_every_border():
    generator = torch.Generator().manual_seed(0)
    found = cutout(torch.ones(500, 1, 8, 8), 4, generator)
    blanked = (found == 0).float().mean((0, 1))
    assert (blanked[0] > 0).all() and (blanked[-1] > 0).all()
    assert blanked[4, 4] > blanked[0, 0] > 0


def test_normalised_pixels_have_mean_0_and_deviation_1():
    images = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8)
    images[:, 1] //= 4
    mean, std = channel_statistics([images])
    found = normalise(images, mean, std)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_statistics_are_the_same_to_the_bit_however_the_images_are_cut(size):
    images = torch.randint(0, 256, (50, 3, 6, 6), dtype=torch.uint8)
    mean, std = channel_statistics(images.split(size))
    assert mean.dtype == std.dtype == torch.float32
    whole = images.double()
    assert torch.equal(mean, whole.mean((0, 2, 3)).float())
    torch.testing.assert_close(std, whole.std((0, 2, 3), correction=0).float(), rtol=1e-7, atol=0)


def test_a_constant_channel_normalises_to_zero():
    images = torch.full((3, 1, 4, 4), 7, dtype=torch.uint8)
    assert not normalise(images, *channel_statistics([images])).any()
