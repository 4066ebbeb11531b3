import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.detection.modeling.yolo_loss import (
    assign,
    decode,
    encode,
    make_layout,
    yolo_losses,
)

ANCHORS = [[10, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]
MASKS = [[3, 4, 5], [0, 1, 2]]
SIZE, CLASSES, IGNORE = 128, 3, 0.5


def anchors(dtype=torch.float64):
    return torch.tensor(ANCHORS, dtype=dtype)


def flatten(maps):
    """Maps (B, A·(5 + C), H, W) to (B, M, 5 + C), written with plain indexing."""
    rows = []
    for level in maps:
        fields = 5 + CLASSES
        for a in range(level.shape[1] // fields):
            for y in range(level.shape[2]):
                for x in range(level.shape[3]):
                    rows.append(level[:, a * fields : (a + 1) * fields, y, x])
    return torch.stack(rows, 1)


def random_case(seed, counts=(3, 0, 2)):
    """Maps of three images and their boxes; a fourth ground truth shares a slot with another, and
    neighbours of the chosen predictions overlap their ground truths."""
    g = torch.Generator().manual_seed(seed)
    maps = [
        torch.randn(len(counts), 3 * (5 + CLASSES), SIZE // s, SIZE // s, generator=g).double()
        for s in (32, 16)
    ]
    boxes, classes, image = [], [], []
    for i, n in enumerate(counts):
        centre = torch.rand(n, 2, generator=g, dtype=torch.float64) * SIZE
        half = torch.rand(n, 2, generator=g, dtype=torch.float64) * 40 + 4
        boxes += torch.cat([centre - half, centre + half], 1).tolist()
        classes += torch.randint(CLASSES, (n,), generator=g).tolist()
        image += [i] * n
    x0, y0, x1, y1 = boxes[0]
    boxes.append([x0 + 0.01, y0, x1 + 0.01, y1])
    classes.append((classes[0] + 1) % CLASSES)
    image.append(0)
    return maps, boxes, classes, image


def bce(logit, target):
    return math.log1p(math.exp(logit)) - target * logit


def entropy(p):
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def iou(a, b):
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    inter = max(w, 0) * max(h, 0)
    areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
    return inter / (areas - inter)


def reference(maps, boxes, classes, image, index):
    """The loss of image `index`, cell by cell. Also how many predictions were ignored."""
    mine = [(b, c) for b, c, i in zip(boxes, classes, image, strict=True) if i == index]
    owner = {}  # (level, anchor, row, column) -> box, classes
    for box, category in mine:
        w, h = box[2] - box[0], box[3] - box[1]
        shapes = [iou((0, 0, w, h), (0, 0, *a)) for a in ANCHORS]
        # Centred or with a common corner: the overlap of two shapes is the same.
        best = max(range(6), key=lambda k: shapes[k])
        level = 0 if best in MASKS[0] else 1
        stride = (32, 16)[level]
        column = int((box[0] + box[2]) / 2 // stride)
        row = int((box[1] + box[3]) / 2 // stride)
        slot = (level, best, row, column)
        owner[slot] = (box, owner.get(slot, (None, set()))[1] | {category})
    losses, ignored = {"box": 0.0, "obj": 0.0, "cls": 0.0}, 0
    for level, stride in enumerate((32, 16)):
        for place, anchor in enumerate(MASKS[level]):
            aw, ah = ANCHORS[anchor]
            for row in range(SIZE // stride):
                for column in range(SIZE // stride):
                    first = place * (5 + CLASSES)
                    p = maps[level][index, first : first + 5 + CLASSES, row, column].tolist()
                    cx, cy = (sigmoid(p[0]) + column) * stride, (sigmoid(p[1]) + row) * stride
                    w, h = aw * math.exp(p[2]), ah * math.exp(p[3])
                    guess = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                    slot = (level, anchor, row, column)
                    if slot not in owner:
                        if all(iou(guess, b) <= IGNORE for b, _ in mine):
                            losses["obj"] += bce(p[4], 0)
                        else:
                            ignored += 1
                        continue
                    box, owned = owner[slot]
                    gw, gh = box[2] - box[0], box[3] - box[1]
                    tx = (box[0] + box[2]) / 2 / stride - column
                    ty = (box[1] + box[3]) / 2 / stride - row
                    weight = 2 - (gw / SIZE) * (gh / SIZE)
                    losses["box"] += weight * (
                        (bce(p[0], tx) - entropy(tx))
                        + (bce(p[1], ty) - entropy(ty))
                        + 0.5 * (p[2] - math.log(gw / aw)) ** 2
                        + 0.5 * (p[3] - math.log(gh / ah)) ** 2
                    )
                    losses["obj"] += bce(p[4], 1)
                    losses["cls"] += sum(bce(p[5 + c], c in owned) for c in range(CLASSES))
    return losses, ignored


def losses_of(pred, boxes, classes, image, size=SIZE, ignore=IGNORE):
    return yolo_losses(
        pred,
        make_layout(anchors(pred.dtype), MASKS, size),
        anchors(pred.dtype),
        torch.tensor(boxes, dtype=pred.dtype).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.long),
        torch.tensor(image, dtype=torch.long),
        size,
        ignore,
    )


def test_matches_a_reference_that_walks_the_cells():
    ignored = 0
    for seed in range(5):
        maps, boxes, classes, image = random_case(seed)
        losses = losses_of(flatten(maps), boxes, classes, image)
        for index in range(3):
            expected, n = reference(maps, boxes, classes, image, index)
            ignored += n
            for name, value in expected.items():
                assert losses[name][index].item() == pytest.approx(value, rel=1e-10)
    assert ignored > 0  # or the threshold was never put to the test


def test_gradients_are_darknets_deltas():
    maps, boxes, classes, image = random_case(0, counts=(1,))
    boxes, classes, image = boxes[:1], classes[:1], image[:1]
    pred = flatten(maps).requires_grad_()
    layout = make_layout(anchors(), MASKS, SIZE)
    box = torch.tensor(boxes, dtype=torch.float64)
    (slot,) = assign(box, anchors(), layout, SIZE).tolist()
    (target,) = encode(box, layout.cell[[slot]], layout.stride[[slot]], layout.anchor[[slot]])
    sum(v.sum() for v in losses_of(pred, boxes, classes, image).values()).backward()
    wh = box[0, 2:] - box[0, :2]
    raw, delta = pred[0, slot].detach(), pred.grad[0, slot]
    scale = 2 - wh.prod() / SIZE**2
    one_hot = torch.nn.functional.one_hot(torch.tensor(classes[0]), CLASSES)
    torch.testing.assert_close(delta[:2], scale * (raw[:2].sigmoid() - target[:2]))
    torch.testing.assert_close(delta[2:4], scale * (raw[2:4] - target[2:]))
    torch.testing.assert_close(delta[4], raw[4].sigmoid() - 1)
    torch.testing.assert_close(delta[5:], raw[5:].sigmoid() - one_hot)


def test_assignment_one_can_do_in_ones_head():
    layout = make_layout(anchors(), MASKS, 416)
    at_stride_16 = 3 * 13 * 13
    boxes = torch.tensor(
        [
            [88.5, 36.5, 111.5, 63.5],  # anchor 1 itself; centre (100, 50): column 6, row 3
            [0, 0, 416, 416],  # anchor 5; centre (208, 208): column 6, row 6
            [411, 409, 421, 423],  # anchor 0; its centre lies on the lower right corner
        ],
        dtype=torch.float64,
    )
    expected = [
        at_stride_16 + 1 * 26 * 26 + 3 * 26 + 6,
        2 * 13 * 13 + 6 * 13 + 6,
        at_stride_16 + 25 * 26 + 25,
    ]
    assert assign(boxes, anchors(), layout, 416).tolist() == expected


def test_first_of_equal_anchors_wins():
    twins = torch.tensor([[20.0, 20], [20, 20]])
    layout = make_layout(twins, [[1], [0]], 32)
    box = torch.tensor([[0.0, 0, 20, 20]])
    assert assign(box, twins, layout, 32).tolist() == [layout.anchor_start[0].item()]


@given(
    cx=st.floats(0.5, 415.5),
    cy=st.floats(0.5, 415.5),
    w=st.floats(1, 416),
    h=st.floats(1, 416),
)
def test_decode_undoes_encode(cx, cy, w, h):
    layout = make_layout(anchors(), MASKS, 416)
    box = torch.tensor([[cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]], dtype=torch.float64)
    slot = assign(box, anchors(), layout, 416)
    target = encode(box, layout.cell[slot], layout.stride[slot], layout.anchor[slot])
    assert ((target[:, :2] >= 0) & (target[:, :2] <= 1)).all()
    raw = torch.zeros(len(layout.cell), 4, dtype=torch.float64)
    raw[slot] = torch.cat([target[:, :2].logit(eps=1e-12), target[:, 2:]], 1)
    torch.testing.assert_close(decode(raw, layout)[slot], box, rtol=1e-7, atol=1e-6)


def test_perfect_box_costs_nothing_wherever_it_lies():
    layout = make_layout(anchors(), MASKS, SIZE)
    for centre in (33.0, 40.0, 47.0):
        box = torch.tensor([[centre - 9, centre - 20, centre + 9, centre + 20]]).double()
        slot = assign(box, anchors(), layout, SIZE)
        target = encode(box, layout.cell[slot], layout.stride[slot], layout.anchor[slot])
        pred = torch.zeros(1, len(layout.cell), 5 + CLASSES, dtype=torch.float64)
        pred[0, slot, :4] = torch.cat([target[:, :2].logit(), target[:, 2:]], 1)
        assert losses_of(pred, box.tolist(), [0], [0])["box"].item() == pytest.approx(0, abs=1e-12)


def test_of_two_in_one_slot_the_later_box_counts_and_both_classes():
    maps, boxes, classes, image = random_case(1, counts=(1,))
    pred = flatten(maps)
    both = losses_of(pred, boxes, classes, image, ignore=1.0)
    later = losses_of(pred, boxes[1:], classes[1:], image[1:], ignore=1.0)
    earlier = losses_of(pred, boxes[:1], classes[:1], image[:1], ignore=1.0)
    assert torch.equal(both["box"], later["box"])
    assert not torch.equal(both["box"], earlier["box"])
    layout = make_layout(anchors(), MASKS, SIZE)
    slot = assign(torch.tensor(boxes, dtype=torch.float64), anchors(), layout, SIZE)
    assert slot[0] == slot[1]
    # Class b counted as wrong beside class a costs its logit more than counted as right.
    logit = pred[0, slot[0], 5 + classes[1]]
    torch.testing.assert_close(both["cls"], earlier["cls"] - logit)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_ground_truth_only_objectness_is_left(dtype):
    pred = flatten(random_case(2)[0]).to(dtype).requires_grad_()
    losses = losses_of(pred, [], [], [])
    assert all(v.shape == (3,) and v.dtype == dtype for v in losses.values())
    assert (losses["box"] == 0).all() and (losses["cls"] == 0).all()
    expected = torch.nn.functional.softplus(pred[..., 4]).sum(1)
    torch.testing.assert_close(losses["obj"], expected)
    sum(v.sum() for v in losses.values()).backward()
    assert pred.grad.isfinite().all() and (pred.grad[..., 4] > 0).all()


def test_wild_predictions_keep_losses_and_gradients_finite():
    maps, boxes, classes, image = random_case(3)
    pred = (flatten(maps) * 500).float().requires_grad_()
    losses = losses_of(pred, boxes, classes, image)
    sum(v.sum() for v in losses.values()).backward()
    assert all(v.isfinite().all() for v in losses.values())
    assert pred.grad.isfinite().all()
