"""Features and detections of detectors as small as they can be."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from adapruner_det.detection.inference import (
    backbone_features,
    box_features,
    detections,
    has_box_features,
)
from adapruner_det.errors import DataError


class Backbone(nn.Module):
    """Gives what ``shape`` makes of an image: maps whose values are the image's mean."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def forward(self, image):
        return self.shape(image)


class Detector(nn.Module):
    """Detects one box, as wide as its image is bright; behind the backbone it counts its runs."""

    def __init__(self, shape=lambda image: {"p2": flat(image, 2, 8), "p3": flat(image, 3, 4)}):
        super().__init__()
        self.backbone, self.went_on = Backbone(shape), 0

    def forward(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        self.backbone(batch[0]["image"])
        self.went_on += 1
        found = Instances((20, 30))
        width = float(batch[0]["image"].mean())
        found.pred_boxes = Boxes(torch.tensor([[0.0, 1.0, width, 5.0]], dtype=torch.float64))
        found.scores, found.pred_classes = torch.tensor([0.5]), torch.tensor([2])
        return [{"instances": found}]


def flat(image, channels, side):
    """(1, channels, side, side): channel c holds (c + 1) times the mean of the image."""
    scale = torch.arange(1, channels + 1.0)[None, :, None, None]
    return image.mean() * scale.expand(1, channels, side, side)


IMAGES = [[{"image": torch.full((3, 4, 4), value)}] for value in (1.0, 5.0, 3.0)]


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        (None, 3),
        (lambda image: [flat(image, 2, 4), flat(image, 5, 2)], 5),
        (lambda image: {"coarse": flat(image, 4, 2), "fine": flat(image, 2, 8)}, 4),
        (lambda image: [flat(image, 2, 4), flat(image, 6, 4)], 6),  # as coarse as each other
        (lambda image: flat(image, 7, 3), 7),
    ],
    ids=["dict", "list", "coarsest first", "equal", "alone"],
)
def test_features_are_the_average_of_the_last_map_and_nothing_goes_on(shape, channels):
    model = Detector() if shape is None else Detector(shape)
    found = backbone_features(model, IMAGES)
    expected = np.outer([1.0, 5.0, 3.0], np.arange(1, channels + 1.0))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == np.float32
    assert model.went_on == 0


def test_the_average_is_over_the_whole_map():
    values = torch.arange(12.0).reshape(1, 2, 2, 3)
    assert backbone_features(Detector(lambda image: values), IMAGES[:1]).tolist() == [[2.5, 8.5]]


def test_the_detector_is_left_as_it_was():
    model = Detector().train()
    backbone_features(model, IMAGES)
    assert model.training and torch.is_grad_enabled()
    model.eval()
    with torch.no_grad():
        model(IMAGES[0])  # goes on: the hook is gone
    assert model.went_on == 1


def test_detectors_that_have_no_features_are_named():
    with pytest.raises(DataError, match="Linear has no backbone"):
        backbone_features(nn.Linear(1, 1), IMAGES)

    class Idle(Detector):
        def forward(self, batch):
            return [{}]

    with pytest.raises(DataError, match="Idle does not call its backbone"):
        backbone_features(Idle(), IMAGES)


def test_detections_are_arrays_of_each_image_in_turn():
    model = Detector().train()
    found = detections(model, IMAGES)
    assert [own["boxes"].tolist() for own in found] == [[[0, 1, w, 5]] for w in (1, 5, 3)]
    assert [own["scores"].tolist() for own in found] == [[0.5]] * 3
    assert [own["classes"].tolist() for own in found] == [[2]] * 3
    kinds = {name: value.dtype for name, value in found[0].items()}
    assert kinds == {"boxes": np.float32, "scores": np.float32, "classes": np.int64}
    assert model.training


@pytest.mark.parametrize("output", [{"sem_seg": 1}, {"instances": Instances((1, 1))}, [1]])
def test_a_detector_without_boxes_is_named(output):
    class Segmentor(nn.Module):
        def forward(self, batch):
            return [output]

    with pytest.raises(DataError, match="Segmentor gives no boxes"):
        detections(Segmentor(), IMAGES)


class Placed(nn.Module):
    """A detector whose maps hold, in two channels, the x and y of each cell's middle in its input.

    As Detectron2's do it pads an image below and to the right, to 64 x 64 pixels; what it is given
    it makes ``larger`` first.
    """

    def __init__(self, strides=(8, 16, 32), larger=1):
        super().__init__()
        self.backbone, self.larger = Backbone(self.maps), larger
        self.strides = strides

    def preprocess_image(self, batch):
        assert not self.training and not torch.is_grad_enabled()
        _, height, width = batch[0]["image"].shape
        return ImageList(torch.zeros(1, 3, 64, 64), [(self.larger * height, self.larger * width)])

    def maps(self, image):
        found = {}
        for stride in self.strides:
            middle = (torch.arange(64 // stride) + 0.5) * stride
            y, x = torch.meshgrid(middle, middle, indexing="ij")
            found[str(stride)] = torch.stack([x, y, torch.full_like(x, stride)])[None]
        return found


SEEN = [
    # Annotated in 40 x 80 (width x height), given as 20 x 40.
    [{"image": torch.zeros(3, 40, 20), "width": 40, "height": 80}],
    [{"image": torch.zeros(3, 32, 48)}],
]
#: Their middles lie as far from the border as a stride of 16 needs, in the input.
MARKED = [
    np.array([[10, 20, 30, 60], [20, 20, 30, 40]], np.float32),
    np.array([[12, 12, 28, 20]], np.float32),
]


@pytest.mark.parametrize("larger", [1, 2])
def test_a_box_has_the_mean_of_the_map_inside_it(larger):
    """Of a map that is linear, that is its value in the middle of the box."""
    model = Placed((4,), larger).train()
    seen, boxes = (SEEN, MARKED) if larger == 1 else (SEEN[:1], MARKED[:1])
    found = box_features(model, seen, boxes)
    middles = [(own[:, :2] + own[:, 2:]) / 2 for own in boxes]
    expected = np.concatenate([middles[0] / 2, *middles[1:]]) * larger
    np.testing.assert_allclose(found[:, :2], expected, atol=0.01)
    assert found.dtype == np.float32 and model.training and torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("strides", "taken"), [((8, 16, 32), 16), ((32, 64), 32), ((4, 8), 8), ((64, 2, 32), 2)]
)
def test_boxes_are_pooled_on_the_coarsest_map_that_is_fine_enough(strides, taken):
    found = box_features(Placed(strides), SEEN, MARKED)
    assert found[:, 2].tolist() == [taken] * 3


def test_an_image_without_boxes_has_no_features_of_boxes():
    boxes = [np.zeros((0, 4), np.float32), MARKED[1]]
    assert box_features(Placed(), SEEN, boxes).shape == (1, 3)
    with pytest.raises(ValueError, match="zip"):
        box_features(Placed(), SEEN, boxes[:1])


def test_a_detector_that_prepares_no_images_has_no_features_of_boxes():
    assert has_box_features(Placed())
    assert not has_box_features(Detector()) and not has_box_features(nn.Linear(1, 1))
