"""A LazyConfig as people write it: it registers its own COCO data."""

import os
from pathlib import Path

import torch
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.datasets import register_coco_instances
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.backbone.resnet import BasicBlock, BasicStem, ResNet
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.meta_arch.retinanet import RetinaNet, RetinaNetHead
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import OmegaConf

with Path(os.environ["HOME"], "times-executed").open("a") as counter:
    counter.write("x")
register_coco_instances("lazy_set", {}, "data/train.json", "data/images")

model = L(RetinaNet)(
    backbone=L(ResNet)(
        stem=L(BasicStem)(in_channels=3, out_channels=16, norm="BN"),
        stages=[
            L(ResNet.make_stage)(
                block_class=BasicBlock,
                num_blocks=1,
                stride_per_block=[2],
                in_channels=16,
                out_channels=32,
                norm="BN",
            )
        ],
        out_features=["res2"],
    ),
    head=L(RetinaNetHead)(
        input_shape=[L(ShapeSpec)(channels=32)],
        num_classes="${..num_classes}",
        conv_dims=[16],
        prior_prob=0.01,
        num_anchors=3,
    ),
    anchor_generator=L(DefaultAnchorGenerator)(
        sizes=[[32]], aspect_ratios=[0.5, 1.0, 2.0], strides=[8], offset=0.0
    ),
    box2box_transform=L(Box2BoxTransform)(weights=[1.0, 1.0, 1.0, 1.0]),
    anchor_matcher=L(Matcher)(
        thresholds=[0.4, 0.5], labels=[0, -1, 1], allow_low_quality_matches=True
    ),
    num_classes=2,
    head_in_features=["res2"],
    pixel_mean=[110.0, 110.0, 110.0],
    pixel_std=[57.0, 57.0, 57.0],
)
dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="lazy_set"),
    mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR"),
    total_batch_size=4,
    num_workers=0,
)
optimizer = L(torch.optim.SGD)(params=L(get_default_optimizer_params)(), lr=0.01, momentum=0.9)
lr_multiplier = L(MultiStepParamScheduler)(values=[1.0, 0.1], milestones=[8], num_updates=10)
train = {
    "output_dir": "out",
    "init_checkpoint": "",
    "max_iter": 10,
    "amp": {"enabled": False},
    "checkpointer": {"period": 100000},
    "eval_period": 0,
    "device": "cpu",
    "seed": 0,
}
ADAPRUNER = {"WARMUP_EPOCHS": 1, "KEEP_RATIO": 0.7}
