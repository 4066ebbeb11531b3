"""Cases: values that cannot be meant, for every numeric key of both tasks."""

from __future__ import annotations

from .case import Case, Refused, either, refused, works
from .outcomes import samples
from .toys import TRAIN, image_folder, voc

VALUES = "settings out of range"
CONFIG = ("--config-file", "config.yaml")

#: How a line may name a key besides by its name.
ALIASES = {
    "KEEP_RATIO": "keep ratio",
    "ALPHA_START": "α",
    "ALPHA_END": "α",
    "CLASS_BAND": "band",
    "META_ARCHITECTURE": "META_ARCH",
    "ANCHORS": "ANCHOR",
}

#: Key → values that are refused by its name.
DETECTION: dict[str, tuple[str, ...]] = {
    "ADAPRUNER.KEEP_RATIO": ("0", "-0.5", "1.5", "90", "nan", "inf", "0,9", "[0.9]", "most"),
    "ADAPRUNER.WARMUP_EPOCHS": ("-2", "1.5", "1000000000"),
    "ADAPRUNER.ALPHA_START": ("0", "-1", "nan"),
    "ADAPRUNER.ALPHA_END": ("0.01", "inf", "nan"),
    "ADAPRUNER.PAPER_SCALE": ("-1", "nan"),
    "ADAPRUNER.CLASS_BAND": ("-0.1", "1.5", "nan"),
    "ADAPRUNER.CONTROLLER": ("Dual", "none"),
    "ADAPRUNER.NORMALIZE": ("mean",),
    "ADAPRUNER.SELECTION_LOSS": ("maybe",),
    "SOLVER.IMS_PER_BATCH": ("0", "-4", "2.5"),
    "SOLVER.MAX_ITER": ("0", "-10"),
    "SOLVER.BASE_LR": ("-0.1", "nan", "inf"),
    "SOLVER.MOMENTUM": ("-0.1", "1.5"),
    "SOLVER.WEIGHT_DECAY": ("-1", "nan"),
    "SOLVER.GAMMA": ("-1", "nan"),
    "SOLVER.WARMUP_ITERS": ("-1",),
    "SOLVER.WARMUP_FACTOR": ("-1",),
    "SOLVER.CHECKPOINT_PERIOD": ("0", "-5"),
    "SOLVER.STEPS": ("(-5,)",),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupNothing",),
    "DATALOADER.NUM_WORKERS": ("-1",),
    "DATALOADER.SAMPLER_TRAIN": ("RepeatFactorTrainingSampler", "Nothing"),
    "SEED": ("1.5", "100000000000000000000"),
    "MODEL.DEVICE": ("abacus",),
    "MODEL.META_ARCHITECTURE": ("Nothing",),
    "MODEL.BACKBONE.NAME": ("build_nothing",),
    "MODEL.DARKNET.WIDTH": ("0", "-1", "nan"),
    "MODEL.YOLO.INPUT_SIZE": ("0", "-32"),
    "MODEL.YOLO.MULTISCALE": ("[64,32,32]", "[64,96,0]", "[64]"),
    "MODEL.YOLO.ANCHORS": ("[]", "[[-1,4],[1,1],[1,1],[1,1],[1,1],[1,1]]"),
    "MODEL.YOLO.ANCHOR_MASKS": ("[[9],[0]]", "[]"),
    "MODEL.YOLO.PRIOR_PROB": ("0", "1", "nan"),
    "MODEL.YOLO.IGNORE_THRESH": ("-1", "2"),
    "MODEL.YOLO.LOSS_WEIGHTS.BOX": ("-1", "nan"),
    "MODEL.YOLO.NMS_THRESH_TEST": ("-1", "2"),
    "MODEL.YOLO.TOPK_CANDIDATES_TEST": ("-1",),
    "MODEL.PIXEL_STD": ("[0.0,0.0,0.0]", "[nan,nan,nan]"),
    "MODEL.PIXEL_MEAN": ("[1.0]",),
    "INPUT.RANDOM_FLIP": ("diagonal",),
    "INPUT.FORMAT": ("XYZ",),
    "INPUT.MIN_SIZE_TRAIN": ("(-1,)", "()"),
}
CLASSIFICATION: dict[str, tuple[str, ...]] = {
    "ADAPRUNER.KEEP_RATIO": ("0", "-0.5", "1.5", "nan", "inf", "0,9"),
    "ADAPRUNER.WARMUP_EPOCHS": ("-1", "1.5", "2"),
    "ADAPRUNER.ALPHA_START": ("0", "nan"),
    "ADAPRUNER.ALPHA_END": ("0.01", "inf"),
    "ADAPRUNER.PAPER_SCALE": ("-1", "nan"),
    "ADAPRUNER.CLASS_BAND": ("-0.1", "1.5"),
    "ADAPRUNER.CONTROLLER": ("none",),
    "ADAPRUNER.NORMALIZE": ("mean",),
    "DATA.NAME": ("imagenet", ""),
    "DATA.SIZE": ("0", "-16", "1000000"),
    "DATA.NUM_TRAIN": ("-1", "1000"),
    "DATA.WRONG_LABELS": ("-0.1", "1.5", "nan"),
    "DATA.HOLDOUT": ("-0.1", "1", "nan"),
    "DATA.SEED": ("-1",),
    "DATA.MEMORY_MB": ("-1",),
    "DATA.WORKERS": ("-1",),
    "DATA.GREY": ("maybe",),
    "AUGMENT.CROP": ("-1",),
    "AUGMENT.CUTOUT": ("-1",),
    "MODEL.NAME": ("resnet19",),
    "MODEL.WIDTH": ("0", "-4"),
    "MODEL.STEM": ("wide",),
    "SOLVER.EPOCHS": ("0", "-3", "1.5"),
    "SOLVER.BATCH_SIZE": ("0", "1", "-8"),
    "SOLVER.LR": ("-0.1", "nan", "inf"),
    "SOLVER.MOMENTUM": ("-0.1", "1.5"),
    "SOLVER.WEIGHT_DECAY": ("-1", "nan"),
    "SOLVER.CHECKPOINT_PERIOD": ("-1",),
    "SEED": ("-1", "1.5"),
    "DEVICE": ("abacus",),
}


def _named(key: str) -> str:
    name = key.rpartition(".")[2]
    return f"{name}|{ALIASES[name]}" if name in ALIASES else name


def _values() -> list[Case]:
    cases = []
    for toy, tool, short, table in (
        (voc, "prune_net.py", "det", DETECTION),
        (image_folder, "prune_cls.py", "cls", CLASSIFICATION),
    ):
        for key, values in table.items():
            for value in values:
                cases.append(
                    Case(
                        f"{short}-{key}-{value}".replace("/", "").lower() or key,
                        VALUES,
                        toy,
                        tool,
                        (*CONFIG, key, value),
                        refused(_named(key)),
                    )
                )
    diverged = (Refused(("diverge", "LR|learning rate"), may_write=True),)
    cases += [
        Case(
            "det-diverges",
            VALUES,
            voc,
            "prune_net.py",
            (*CONFIG, "SOLVER.BASE_LR", "1e30", "SOLVER.WARMUP_ITERS", "0"),
            diverged,
        ),
        Case(
            "cls-diverges",
            VALUES,
            image_folder,
            "prune_cls.py",
            (*CONFIG, "SOLVER.LR", "1e30"),
            diverged,
        ),
        Case(
            "det-batch-larger-than-data",
            VALUES,
            voc,
            "prune_net.py",
            (*CONFIG, "SOLVER.IMS_PER_BATCH", "64"),
            either(refused("IMS_PER_BATCH"), works(samples(TRAIN))),
        ),
        Case(
            "det-cuda-without-gpu",
            VALUES,
            voc,
            "prune_net.py",
            (*CONFIG, "MODEL.DEVICE", "cuda:7"),
            works(),
        ),
    ]
    return cases


CASES = _values()
