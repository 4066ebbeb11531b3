"""Perceptrons side by side are each what it would be alone, and guides hear what they show."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from benchmarks.objective_data import Data, Setting
from benchmarks.perceptrons import Recorder, train

N, D, EPOCHS = 60, 5, 4
SETTING = Setting(num_train=N, epochs=EPOCHS, batch=16, hidden=7, side=1)


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(2 * N, D, generator=generator), torch.arange(2 * N) % 3
    images[:, 0] += 3.0 * labels
    return Data(
        images[:N], labels[:N], images[N:], labels[N:], np.zeros(N, dtype=bool), np.arange(N)
    )


def plain(data, part):
    """The same training by torch's own layers, of one model."""
    torch.manual_seed(5)
    layers = [torch.nn.Linear(a, b) for a, b in ((D, 7), (7, 7), (7, 10))]
    model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    rows = np.flatnonzero(part)
    steps = len(rows) // SETTING.batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * steps)
    for epoch in range(EPOCHS):
        total = 0.0
        order = np.random.default_rng([5, epoch]).permutation(len(rows))
        for ids in np.array_split(order, steps):
            batch = rows[ids]
            loss = functional.cross_entropy(model(data.images[batch]), data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(ids) / len(rows)
    right = (model(data.test_images).argmax(1) == data.test_labels).float().mean()
    return 100.0 * float(right), total


def test_each_of_several_is_trained_as_it_would_be_alone(data):
    parts = np.zeros((3, N), dtype=bool)
    for k, part in enumerate(parts):
        part[np.random.default_rng(k).permutation(N)[:40]] = True
    accuracy, loss = train(SETTING, data, 5, parts)
    for k, part in enumerate(parts):
        assert (float(accuracy[k]), float(loss[k])) == pytest.approx(plain(data, part), rel=1e-4)
    assert len(set(loss.tolist())) == 3


def test_a_recorder_changes_nothing_and_has_every_visit(data):
    whole = np.ones((1, N), dtype=bool)
    recorder = Recorder(EPOCHS, N)
    recorded = train(SETTING, data, 5, whole, [recorder])
    assert [float(a) for a in recorded] == [float(a) for a in train(SETTING, data, 5, whole)]
    assert recorder.label.shape == (EPOCHS, N) and (recorder.label > 0).all()
    # Ten classes, of which three are there: the two largest chances are at most 1 together.
    assert (recorder.label + recorder.other <= 1.01).all() and (recorder.other > 0).all()
    assert recorder.label[-1].mean() > recorder.label[0].mean() + 0.1


def test_a_guide_weighs_the_losses(data):
    class Nothing(Recorder):
        def weights(self, ids):
            return torch.zeros(len(ids))

    whole = np.ones((2, N), dtype=bool)
    idle, plain = Nothing(EPOCHS, N), Recorder(EPOCHS, N)
    _, loss = train(SETTING, data, 5, whole, [idle, plain])
    np.testing.assert_allclose(idle.label[-1], idle.label[0], atol=2e-3)  # weight decay alone
    assert np.abs(plain.label[-1] - plain.label[0]).max() > 0.1
    expected = -np.log(idle.label[-1].astype(np.float64)).mean()
    assert float(loss[0]) == pytest.approx(expected, rel=0.01) and loss[1] < loss[0]
