import signal

import pytest
import torch

from adapruner_det import Selection
from adapruner_det.detection import compat
from tests.detection.toy import register, toy_cfg
from tests.detection.training.runs import Signalling, add_before_the_last, prune, start, visits


def train_in_one_of_two_processes(rank, folder):
    import torch.distributed as dist

    from tests.detection.toy import squares

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    compat.create_local_process_group(2)
    register("toy", squares(f"{folder}/images{rank}"), evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", f"{folder}/out", "SOLVER.MAX_ITER", 13)
    trainer = start(cfg)
    torch.manual_seed(rank)
    if rank == 1:  # the signal reaches one process, which is not the one that saves
        add_before_the_last(trainer, Signalling(9, signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    trainer = prune(cfg, resume=True)
    assert trainer.start_iter == 10  # no multiple of the period at which the mask is gathered
    columns = {**trainer.selection.columns, "expected": visits(trainer.data_loader, 13)}
    torch.save({k: v.tolist() for k, v in columns.items()}, f"{folder}/rank{rank}.pth")
    torch.save(trainer.model.module.state_dict(), f"{folder}/weights{rank}.pth")
    torch.save(torch.rand(3), f"{folder}/drawn{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_one_mask_and_one_model_and_save_and_resume(tmp_path):
    torch.multiprocessing.spawn(train_in_one_of_two_processes, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1))
    assert first == second
    assert first["times_seen"] == first["expected"]
    selection = Selection.load(tmp_path / "out" / "selection.json")
    assert selection.columns["kept"].tolist() == first["kept"]
    assert selection.num_kept == 7
    mine, other = (torch.load(tmp_path / f"weights{rank}.pth") for rank in (0, 1))
    parameters = [name for name in mine if "running" not in name]
    assert all(torch.equal(mine[name], other[name]) for name in parameters)
    mine, other = (torch.load(tmp_path / f"drawn{rank}.pth") for rank in (0, 1))
    assert not torch.equal(mine, other)
