"""A detector taken apart trains like the same detector left alone."""

import copy

import pytest
from detectron2.modeling import build_model

from adapruner_det.detection.per_image import check_per_image, put_together, take_apart, unhandled

from .tiny import close, random_batch, tiny_cfg, train_step

R_CNN = ["proposal_generator (RPN)", "roi_heads.box_predictor (FastRCNNOutputLayers)"]

# name: (config, options, what is taken apart)
DETECTORS = {
    "faster FPN": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", (), R_CNN),
    "faster C4": ("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml", (), R_CNN),
    "faster DC5": ("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", (), R_CNN),
}


@pytest.fixture(params=DETECTORS)
def detector_and_parts(request):
    config, options, parts = DETECTORS[request.param]
    return build_model(tiny_cfg(config, *options)), parts


def test_losses_gradients_logs_and_random_state_are_detectron2s(detector_and_parts):
    detector, parts = detector_and_parts
    apart = copy.deepcopy(detector)
    keys = list(detector.state_dict())
    assert unhandled(apart) == []
    assert take_apart(apart) == parts
    batch = random_batch()
    wanted_losses, wanted_gradients, wanted_logs, wanted_random = train_step(detector, batch)
    losses, gradients, logs, random = train_step(apart, batch)

    check_per_image(losses, len(batch))
    assert list(losses) == list(wanted_losses)
    for name, value in losses.items():
        close(value.mean(), wanted_losses[name], 1e-6)
        assert value.sum() > 0, f"{name} was not exercised"
    for name, gradient in gradients.items():
        close(gradient, wanted_gradients[name], 1e-5)
    assert logs == wanted_logs
    assert random == wanted_random
    assert list(apart.state_dict()) == keys


def test_batch_of_one_and_an_empty_batch(detector_and_parts):
    detector, _ = detector_and_parts
    apart = copy.deepcopy(detector)
    take_apart(apart)
    for counts in [(2,), (0, 0)]:
        batch = random_batch(counts)
        wanted, _, wanted_logs, _ = train_step(detector, batch)
        losses, _, logs, _ = train_step(apart, batch)
        check_per_image(losses, len(batch))
        for name, value in losses.items():
            close(value.mean(), wanted[name], 1e-6)
        assert logs == wanted_logs


def test_put_together_restores_every_class(detector_and_parts):
    detector, _ = detector_and_parts
    classes = [type(module) for module in detector.modules()]
    take_apart(detector)
    assert [type(module) for module in detector.modules()] != classes
    put_together(detector)
    assert [type(module) for module in detector.modules()] == classes
