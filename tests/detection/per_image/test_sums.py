import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.detection.per_image.sums import image_of_each, sum_by_image


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6))
def test_sums_are_those_of_the_pieces(counts):
    values = torch.rand(sum(counts), dtype=torch.float64)
    image = image_of_each(counts, values.device)
    expected = torch.stack([piece.sum() for piece in values.split(counts)])
    assert image.tolist() == [i for i, count in enumerate(counts) for _ in range(count)]
    torch.testing.assert_close(sum_by_image(values, image, len(counts)), expected)


def test_many_equal_values_keep_seven_digits():
    values = torch.full((100_000,), 0.1)
    (total,) = sum_by_image(values, torch.zeros(100_000, dtype=torch.int64), 1)
    assert abs(total.item() / 10_000 - 1) < 2e-7


def test_nothing_at_all_is_zero_with_a_zero_gradient():
    parameter = torch.ones(3, requires_grad=True)
    sums = sum_by_image(parameter[parameter > 2], torch.zeros(0, dtype=torch.int64), 2)
    sums.mean().backward()
    assert sums.tolist() == [0, 0]
    assert parameter.grad.tolist() == [0, 0, 0]


def test_half_precision_sums_in_float32():
    values = torch.ones(3000, dtype=torch.bfloat16)
    sums = sum_by_image(values, torch.zeros(3000, dtype=torch.int64), 1)
    assert sums.dtype == torch.float32
    assert sums.item() == 3000
