import torch
from detectron2.engine import DefaultTrainer, SimpleTrainer
from torch import nn

from adapruner_det.detection import compat


def test_whether_detectron2_saves_the_optimizer_is_told_by_what_it_does():
    class Bare(DefaultTrainer):
        def __init__(self):
            self.iter, self._hooks = 0, []
            self._trainer = type("Inner", (), {"state_dict": lambda self: {}})()

    assert ("_trainer" in Bare().state_dict()) is compat.SAVES_OPTIMIZER


def test_a_trainer_reads_its_new_loader_from_the_beginning():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))
            self.read = []

        def forward(self, data):
            self.read.append(data)
            return {"loss": self.weight * 1.0}

    model = Model()
    trainer = SimpleTrainer(model, [1, 2, 3], torch.optim.SGD(model.parameters(), lr=0.1))
    trainer._write_metrics = lambda *args, **kwargs: None  # needs a running trainer
    trainer.iter = 0
    trainer.run_step()
    loader = [7, 8, 9]
    compat.set_data_loader(trainer, loader)
    for _ in range(2):
        trainer.run_step()
    assert trainer.data_loader is loader
    assert model.read == [1, 7, 8]
