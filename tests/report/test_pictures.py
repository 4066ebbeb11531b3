import numpy as np
from PIL import Image

from adapruner_det.report.pictures import of_array, of_file, of_records
from tests.export.examples import three


def test_records_become_pictures_of_their_files(tmp_path):
    records = three(tmp_path)
    found = of_records(records.records)
    assert list(found) == ["toy/a", "toy/b", "toy/c"]
    own = found["toy/a"]
    assert (own.width, own.height, own.label) == (64, 48, None)
    assert own.boxes.tolist() == [[0, 0, 64, 48], [10.5, 3.25, 20, 40]]
    assert own.classes.tolist() == [2, 0] and not own.crowd.any()
    assert own.read().getpixel((0, 0)) == (9, 99, 199)
    assert found["toy/b"].read().size == (64, 48)
    assert [found[f"toy/{i}"].file for i in "abc"] == ["a.png", "b.jpg", "c.png"]


def test_an_array_and_a_file_of_a_class(tmp_path):
    pixels = np.full((6, 9, 3), 77, dtype=np.uint8)
    own = of_array("toy/a", lambda: pixels, 2)
    assert (own.width, own.height, own.label) == (9, 6, 2) and len(own.boxes) == 0
    assert own.file == ""
    assert own.read().size == (9, 6) and own.read().getpixel((0, 0)) == (77, 77, 77)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    own = of_file("toy/a", str(tmp_path / "a.png"), 9, 6, 1)
    assert own.label == 1 and own.read().size == (9, 6) and own.file == "a.png"
