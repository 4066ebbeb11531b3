import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.structures import Boxes, ImageList, Instances, pairwise_iou

from adapruner_det import add_adapruner_config
from adapruner_det.detection.modeling import add_yolo_config
from adapruner_det.detection.modeling.yolov3_tiny import multiscale_sizes
from adapruner_det.errors import DataError

DARKNET = [
    "MODEL.META_ARCHITECTURE", "YOLOv3Tiny",
    "MODEL.BACKBONE.NAME", "build_darknet_tiny_backbone",
    "MODEL.DEVICE", "cpu",
    "MODEL.DARKNET.WIDTH", 0.25,
    "MODEL.YOLO.NUM_CLASSES", 3,
    "MODEL.YOLO.INPUT_SIZE", 128,
    "MODEL.YOLO.MULTISCALE", [],
    "MODEL.YOLO.ANCHORS", [[10, 14], [16, 16], [20, 30], [30, 30], [42, 52], [105, 98]],
    "MODEL.PIXEL_STD", [57.4, 57.1, 58.4],
]  # fmt: skip
RESNET = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.BACKBONE.FREEZE_AT", 0]
RESNET += ["MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"], "MODEL.RESNETS.NORM", "BN"]
KEYS = ["loss_yolo_box", "loss_yolo_obj", "loss_yolo_cls"]


def build(*opts):
    cfg = get_cfg()
    add_yolo_config(cfg)
    cfg.merge_from_list([*DARKNET, *opts])
    torch.manual_seed(0)
    return build_model(cfg)


def sample(seed, boxes, shape=(128, 128)):
    """Coloured rectangles, one colour per class, on a noisy ground."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randint(100, 140, (3, *shape), generator=g, dtype=torch.uint8)
    classes = [(seed + i) % 3 for i in range(len(boxes))]
    for (x0, y0, x1, y1), category in zip(boxes, classes, strict=True):
        image[:, y0:y1, x0:x1] = 20
        image[category, y0:y1, x0:x1] = 230
    truth = Instances(shape)
    truth.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    truth.gt_classes = torch.tensor(classes, dtype=torch.long)
    return {"image": image, "instances": truth, "height": shape[0], "width": shape[1]}


def batch():
    return [
        sample(0, [(10, 20, 42, 60), (70, 64, 100, 94)]),
        sample(1, []),
        sample(2, [(30, 8, 60, 40)], shape=(96, 160)),
        sample(3, [(5, 100, 35, 126), (60, 10, 90, 48), (88, 80, 120, 116)]),
    ]


def test_original_width_has_as_many_numbers_as_darknets_weight_file():
    model = build("MODEL.DARKNET.WIDTH", 1.0, "MODEL.YOLO.NUM_CLASSES", 80)
    numbers = {k: v for k, v in model.state_dict().items() if "num_batches_tracked" not in k}
    # yolov3-tiny.weights: 35,434,956 bytes, a header of 20 and four for each number.
    assert sum(v.numel() for v in numbers.values()) == (35_434_956 - 20) // 4


def test_forward_returns_the_means_of_the_losses_per_image():
    model = build()
    per_image, scalars = model.losses_per_image(batch()), model(batch())
    assert list(per_image) == list(scalars) == KEYS
    for key in KEYS:
        assert per_image[key].shape == (4,)
        assert torch.equal(per_image[key].mean(), scalars[key])


@pytest.mark.parametrize("norm", ["BN", "FrozenBN", ""])
def test_losses_of_an_image_do_not_depend_on_its_batch_mates(norm):
    model = build("MODEL.DARKNET.NORM", norm, "MODEL.YOLO.NORM", norm, "MODEL.DARKNET.WIDTH", 1.0)
    model = model.double().train(norm != "BN")
    together = model.losses_per_image(batch())
    for i, one in enumerate(batch()):
        for key, value in model.losses_per_image([one]).items():
            torch.testing.assert_close(value[0], together[key][i], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", ["BN", ""])
def test_images_without_ground_truth_train(norm):
    model = build("MODEL.DARKNET.NORM", norm, "MODEL.YOLO.NORM", norm)
    losses = model([sample(0, []), sample(1, [])])
    sum(losses.values()).backward()
    assert losses["loss_yolo_box"] == 0 and losses["loss_yolo_cls"] == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_loss_weights_multiply():
    plain = build().losses_per_image(batch())
    weighted = build("MODEL.YOLO.LOSS_WEIGHTS.OBJ", 3.0).losses_per_image(batch())
    torch.testing.assert_close(weighted["loss_yolo_obj"], 3 * plain["loss_yolo_obj"])
    torch.testing.assert_close(weighted["loss_yolo_box"], plain["loss_yolo_box"])


def test_objectness_starts_at_the_prior():
    model = build("MODEL.YOLO.PRIOR_PROB", 0.2)
    for conv in (model.head.coarse_out, model.head.fine_out):
        objectness = conv.bias.view(3, 8)[:, 4].sigmoid()
        torch.testing.assert_close(objectness, torch.full((3,), 0.2))


def test_wide_image_fills_the_upper_part_of_its_square():
    model = build("MODEL.PIXEL_MEAN", [0.0, 0.0, 0.0], "MODEL.PIXEL_STD", [1.0, 1.0, 1.0])
    images = model.preprocess_image([{"image": torch.full((3, 100, 200), 9, dtype=torch.uint8)}])
    assert images.tensor.shape == (1, 3, 128, 128)
    assert images.image_sizes == [(64, 128)]
    torch.testing.assert_close(images.tensor[:, :, :64], torch.full((1, 3, 64, 128), 9.0))
    assert (images.tensor[:, :, 64:] == 0).all()


def test_ground_truth_is_scaled_with_its_image():
    """A grey image looks the same at any size, so its losses do too if its boxes follow."""
    model = build().eval()

    def losses(scale):
        one = sample(0, [(16, 20, 48, 60), (60, 10, 90, 48)], shape=(64, 128))
        one["image"] = torch.full((3, 64 * scale, 128 * scale), 7, dtype=torch.uint8)
        one["instances"].gt_boxes.scale(scale, scale)
        return model.losses_per_image([one])

    for key, value in losses(1).items():
        torch.testing.assert_close(losses(3)[key], value)


def test_multiscale_draws_from_torchs_global_state_in_training_only():
    model = build("MODEL.YOLO.MULTISCALE", [64, 128, 32])

    def sizes(n):
        return [model.preprocess_image(batch()).tensor.shape[-1] for _ in range(n)]

    torch.manual_seed(1)
    state, first = torch.get_rng_state(), sizes(20)
    assert set(first) == {64, 96, 128}
    torch.set_rng_state(state)
    assert sizes(20) == first
    model.eval()
    torch.set_rng_state(state)
    assert set(sizes(5)) == {128}
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnets_take_a_step(depth):
    channels = 256 if depth == 50 else 64
    model = build(
        *RESNET, "MODEL.RESNETS.DEPTH", depth, "MODEL.RESNETS.RES2_OUT_CHANNELS", channels,
        "MODEL.YOLO.INPUT_SIZE", 64,
    )  # fmt: skip
    assert model.head.neck.out_channels == 256  # the original head, whatever the backbone
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    before = {k: v.clone() for k, v in model.named_parameters()}
    losses = model(batch())
    sum(losses.values()).backward()
    optimizer.step()
    assert all(v.isfinite() for v in losses.values())
    assert all(not torch.equal(before[k], v) for k, v in model.named_parameters())
    assert len(model.eval()(batch())) == 4


def test_float64_throughout():
    model = build().double()
    losses = model.losses_per_image(batch())
    assert all(v.dtype == torch.float64 for v in losses.values())
    single = build().losses_per_image(batch())
    for key in KEYS:
        torch.testing.assert_close(losses[key].float(), single[key], rtol=1e-4, atol=1e-4)
    model.eval()(batch())


def test_autocast_keeps_losses_in_float32():
    model = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(batch())
        assert model.head.coarse_out(torch.zeros(1, 128, 4, 4)).dtype == torch.bfloat16
    assert all(v.dtype == torch.float32 and v.isfinite() for v in losses.values())
    sum(losses.values()).backward()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model.eval()(batch())[0]["instances"]
    assert len(found)
    assert found.scores.dtype == found.pred_boxes.tensor.dtype == torch.float32


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["MODEL.YOLO.INPUT_SIZE", 100], r"\[100\] are not multiples of 32"),
        (["MODEL.YOLO.MULTISCALE", [96, 128, 16]], r"\[112\] are not multiples of 32"),
        (["MODEL.YOLO.MULTISCALE", [96, 128]], "give .smallest, largest, step."),
        (["MODEL.YOLO.ANCHOR_MASKS", [[3, 4], [0, 1, 2]]], "each of 0 to 5 once"),
        (["MODEL.YOLO.ANCHOR_MASKS", [[2, 3, 4, 5], [0, 1, 2]]], "each of 0 to 5 once"),
        (["MODEL.YOLO.ANCHORS", [[10, 0]] * 6], "pairs above 0"),
        (["MODEL.YOLO.PRIOR_PROB", 0.0], "inside .0, 1."),
        ([*RESNET, "MODEL.RESNETS.OUT_FEATURES", ["res4"]], r"OUT_FEATURES to \[res4, res5\]"),
        ([*RESNET, "MODEL.RESNETS.RES5_DILATION", 2], "strides 32 and 16"),
    ],
)
def test_refuses_bad_config_and_names_the_cure(opts, message):
    with pytest.raises(ValueError, match=message):
        build(*opts)


def test_anchors_that_wait_for_data_are_not_taken_for_the_default_ones():
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_list([*DARKNET, "ADAPRUNER.AUTO_ANCHORS", True])
    with pytest.raises(DataError, match="config.yaml in the "):
        build_model(cfg)
    cfg.ADAPRUNER.AUTO_ANCHORS = False
    build_model(cfg)


def test_refuses_unknown_classes_and_missing_ground_truth():
    model, one = build(), sample(0, [(10, 10, 40, 40)])
    one["instances"].gt_classes[0] = 3
    with pytest.raises(ValueError, match="set MODEL.YOLO.NUM_CLASSES"):
        model([one])
    del one["instances"]
    with pytest.raises(ValueError, match="no 'instances'"):
        model([one])


def test_boxes_without_area_are_left_out():
    model = build().eval()
    one, flat = sample(0, [(10, 10, 40, 40)]), sample(0, [(10, 10, 40, 40), (50, 50, 50, 80)])
    flat["image"] = one["image"]
    for key, value in model.losses_per_image([one]).items():
        assert torch.equal(model.losses_per_image([flat])[key], value)


def test_multiscale_sizes():
    assert multiscale_sizes([]) == []
    assert multiscale_sizes([320, 608, 32]) == [320, 352, 384, 416, 448, 480, 512, 544, 576, 608]


@pytest.fixture(scope="module")
def overfit():
    """A model that has learned four images by heart."""
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(batch()).values()).backward()
        optimizer.step()
    return model.eval()


def assert_finds(outputs, expected, shape):
    found = outputs["instances"]
    found = found[found.scores > 0.5]
    assert found.image_size == shape
    assert len(found) == len(expected.gt_boxes)
    if len(found):
        overlap, owner = pairwise_iou(expected.gt_boxes, found.pred_boxes).max(1)
        assert (overlap > 0.7).all()
        assert torch.equal(found.pred_classes[owner], expected.gt_classes)


def test_overfit_model_finds_every_box_and_nothing_else(overfit):
    for inputs, outputs in zip(batch(), overfit(batch()), strict=True):
        assert_finds(outputs, inputs["instances"], inputs["instances"].image_size)


def test_boxes_come_back_in_the_frame_of_height_and_width(overfit):
    for inputs in batch():
        h, w = inputs["instances"].image_size
        (outputs,) = overfit([{"image": inputs["image"], "height": 3 * h, "width": 2 * w}])
        expected = inputs["instances"]
        expected.gt_boxes.scale(2, 3)
        assert_finds(outputs, expected, (3 * h, 2 * w))


def test_without_height_and_width_the_frame_is_that_of_the_image(overfit):
    inputs = batch()[2]
    (outputs,) = overfit([{"image": inputs["image"]}])
    assert_finds(outputs, inputs["instances"], (96, 160))


def test_nms_drops_the_weaker_of_two_boxes_of_one_class():
    model = build("MODEL.YOLO.ANCHORS", [[16, 16]] * 6, "MODEL.YOLO.SCORE_THRESH_TEST", 0.1)
    coarse, fine = torch.full((1, 24, 1, 1), -9.0), torch.full((1, 24, 2, 2), -9.0)
    fine[:, :, 0, 0] = fine[:, :, 1, 1] = 0.0  # boxes of 16 px around (8, 8) and (24, 24)
    for anchor, row, category, logit in [
        (0, 0, 2, 1.7),
        (1, 0, 2, 2.0),
        (2, 0, 0, 1.5),
        (0, 1, 1, 3.0),
    ]:
        cell = fine[0, 8 * anchor : 8 * anchor + 8, row, row]
        cell[4], cell[5:], cell[5 + category] = logit, -9.0, 9.0
    fine[0, [12, 20], 1, 1] = -9.0  # anchors 1 and 2 see nothing in the second cell
    images = ImageList(torch.zeros(1, 3, 32, 32), [(32, 32)])
    (found,) = model.forward_inference(images, [], [coarse, fine])
    assert found.pred_classes.tolist() == [1, 2, 0]
    expected = torch.tensor([[16.0, 16, 32, 32], [0, 0, 16, 16], [0, 0, 16, 16]])
    torch.testing.assert_close(found.pred_boxes.tensor, expected)
    torch.testing.assert_close(
        found.scores, torch.tensor([3.0, 2.0, 1.5]).sigmoid(), rtol=1e-3, atol=0
    )


def test_scores_fall_and_stay_within_the_limits(overfit):
    overfit.max_detections, before = 5, overfit.max_detections
    try:
        for outputs in overfit(batch()):
            scores = outputs["instances"].scores
            assert len(scores) <= 5
            assert (scores[:-1] >= scores[1:]).all() and (scores > overfit.score_thresh).all()
    finally:
        overfit.max_detections = before
