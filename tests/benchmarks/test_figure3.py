import numpy as np
from PIL import Image

from benchmarks.figure3 import with_a_palette


def test_a_picture_of_few_colours_is_the_same_one_in_fewer_bytes(tmp_path):
    shades = np.random.default_rng(0).integers(0, 256, (40, 4), dtype=np.uint8)
    shades[:, 3] = 255
    pixels = shades[np.random.default_rng(1).integers(0, 40, (90, 120))]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").stat().st_size
    with_a_palette(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as found:
        assert found.mode == "P"
        np.testing.assert_array_equal(np.asarray(found.convert("RGB")), pixels[..., :3])
    assert (tmp_path / "a.png").stat().st_size < before / 2
