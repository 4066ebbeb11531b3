"""What is left of a step when images have no finite loss, on a detector of one running average."""

import pytest
import torch
from torch import nn

from adapruner_det.detection.training.forward_state import ForwardState
from adapruner_det.detection.training.recovery import finite_losses

NAN, INF = float("nan"), float("inf")


class Mean(nn.BatchNorm1d):
    """A batch norm whose running mean is the sum of all that was forwarded."""

    def __init__(self):
        super().__init__(1)
        self.calls, self.found = [], []

    def losses(self, batch, take_back):
        """The values, doubled in a second key; -1 stands for Detectron2's own error."""
        values = torch.tensor([x["x"] for x in batch])
        self.calls.append(values.tolist())
        self.found.append((self.running_mean.item(), torch.rand(()).item()))
        self.running_mean += values.sum()
        if (values == -1).any():
            raise FloatingPointError("diverged")
        return {"a": values.requires_grad_(), "b": 2 * values}

    def spreading(self, batch, take_back):
        """The same where one bad image spoils all of its batch, as through batch statistics."""
        losses = self.losses(batch, take_back)
        total = sum(value.detach().sum() for value in losses.values())
        return {k: v + total * 0 for k, v in losses.items()}


def run(*values, spreading=False):
    detector = Mean()
    torch.manual_seed(0)
    losses_of = detector.spreading if spreading else detector.losses
    result = finite_losses(losses_of, ForwardState(detector), [{"x": v} for v in values])
    return detector, *result


def numbers(losses):
    return {name: value.tolist() for name, value in losses.items()}


def drawn_once():
    torch.manual_seed(0)
    torch.rand(())
    return torch.rand(())


def test_where_all_are_finite_there_is_one_forward():
    detector, losses, good, total = run(1.0, 2.0)
    assert numbers(losses) == {"a": [1.0, 2.0], "b": [2.0, 4.0]}
    assert (good, total.tolist()) == ([0, 1], [3.0, 6.0])
    assert detector.calls == [[1.0, 2.0]]
    assert detector.running_mean.item() == 3.0
    assert losses["a"].requires_grad and not total.requires_grad
    assert torch.rand(()) == drawn_once()


@pytest.mark.parametrize("bad", [NAN, INF, -1.0])
@pytest.mark.parametrize("spreading", [False, True])
def test_the_step_is_that_of_the_good_images_alone(bad, spreading):
    detector, losses, good, total = run(1.0, bad, 2.0, spreading=spreading)
    assert numbers(losses) == {"a": [1.0, 2.0], "b": [2.0, 4.0]}
    assert good == [0, 2]
    assert total.tolist() == pytest.approx([3.0, NAN, 6.0], nan_ok=True)
    assert losses["a"].requires_grad
    # As one forward on the two leaves it; each try before began as the step did.
    assert len(set(detector.found)) == 1
    assert detector.running_mean.item() == 3.0
    assert torch.rand(()) == drawn_once()


def test_images_are_tried_alone_only_where_they_are_not_finite_in_the_batch():
    detector, *_ = run(1.0, NAN, 2.0)
    assert [len(call) for call in detector.calls] == [3, 1, 2]
    detector, *_ = run(1.0, NAN, 2.0, spreading=True)
    assert [len(call) for call in detector.calls] == [3, 1, 1, 1, 2]


def test_without_a_good_image_the_step_counts_for_nothing_and_leaves_no_trace():
    detector, losses, good, total = run(NAN, INF)
    assert good == []
    assert losses.keys() == {"a", "b"}
    assert not torch.isfinite(total).any()
    assert detector.running_mean.item() == 0.0
    torch.manual_seed(0)
    expected = torch.rand(())
    run(NAN, INF)
    assert torch.rand(()) == expected


def test_detectron2s_own_error_is_raised_where_no_image_is_good():
    with pytest.raises(FloatingPointError, match="diverged"):
        run(-1.0, NAN)


def test_good_images_that_are_bad_together_leave_no_good_one():
    detector = Mean()

    def losses_of(batch, take_back):
        values = torch.tensor([x["x"] for x in batch])
        return {"a": values if len(batch) == 1 else values * NAN}

    batch = [{"x": 1.0}, {"x": 2.0}, {"x": NAN}]
    losses, good, total = finite_losses(losses_of, ForwardState(detector), batch)
    assert good == []
    assert losses["a"].shape == total.shape == (3,)
    assert torch.isnan(total).all()


@pytest.mark.parametrize(("synchronised", "calls"), [(True, [3]), (False, [3, 1, 2])])
def test_with_several_processes_only_norms_that_wait_for_others_forbid_a_second_forward(
    synchronised, calls, monkeypatch
):
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr(ForwardState, "synchronised", lambda self: synchronised)
    detector, _, good, total = run(1.0, NAN, 2.0)
    assert [len(call) for call in detector.calls] == calls
    assert good == ([] if synchronised else [0, 2])
    assert torch.isfinite(total).tolist() == [True, False, True]
    assert detector.running_mean.item() == (0.0 if synchronised else 3.0)


def test_what_losses_of_takes_back_itself_goes_to_the_beginning_of_the_step():
    detector = Mean()

    def losses_of(batch, take_back):
        detector.losses(batch, take_back)
        take_back()
        return detector.losses(batch, take_back)

    finite_losses(losses_of, ForwardState(detector), [{"x": 4.0}])
    assert detector.running_mean.item() == 4.0
