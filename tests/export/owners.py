"""Exports as the owners of their formats read them.

FiftyOne, Ultralytics and supervision are no requirement of this project. Each is looked for in the
Python that runs the tests, and in the one that $ADAPRUNER_TEST_READERS names; without either, what
needs it is skipped. This file is also the script that the other Python runs.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

SKIP = "{} is not installed here; ADAPRUNER_TEST_READERS can name a Python that has it"


def read(library, what, *arguments):
    """Image's path → [(class name, x0, y0, x1, y1) in pixels], or its class name."""
    import pytest

    python = sys.executable
    if importlib.util.find_spec(library) is None:
        python = os.environ.get("ADAPRUNER_TEST_READERS", "")
        probe = f"import importlib.util as u, sys; sys.exit(u.find_spec({library!r}) is None)"
        if not python or subprocess.run([python, "-c", probe]).returncode:
            pytest.skip(SKIP.format(library))
    words = [python, __file__, f"{library}_{what}", *map(str, arguments)]
    own = {"YOLO_CONFIG_DIR": str(Path(arguments[0]).parent), "FIFTYONE_DO_NOT_TRACK": "true"}
    own |= {"YOLO_OFFLINE": "true", "HOME": str(Path(arguments[0]).parent)}
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **own})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def supervision_coco(folder):
    import supervision

    found = supervision.DetectionDataset.from_coco(f"{folder}/images", f"{folder}/annotations.json")
    return _of_supervision(found)


def supervision_voc(folder):
    import supervision

    places = f"{folder}/JPEGImages", f"{folder}/Annotations"
    return _of_supervision(supervision.DetectionDataset.from_pascal_voc(*places))


def supervision_yolo(folder):
    import supervision

    places = f"{folder}/images", f"{folder}/labels", f"{folder}/data.yaml"
    return _of_supervision(supervision.DetectionDataset.from_yolo(*places))


def _of_supervision(dataset):
    found = {}
    for path in dataset.image_paths:
        own = dataset.annotations[path]
        names = [dataset.classes[i] for i in own.class_id] if len(own) else []
        found[path] = [[n, *box] for n, box in zip(names, own.xyxy.tolist(), strict=True)]
    return found


def ultralytics_yolo(folder):
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(f"{folder}/data.yaml", autodownload=False)
    found = {}
    for label in YOLODataset(img_path=data["train"], data=data, augment=False).labels:
        height, width = label["shape"]
        rows = []
        pairs = zip(label["cls"][:, 0].tolist(), label["bboxes"].tolist(), strict=True)
        for own, (x, y, w, h) in pairs:
            corners = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            sides = [width, height, width, height]
            box = [share * side for share, side in zip(corners, sides, strict=True)]
            rows.append([data["names"][int(own)], *box])
        found[label["im_file"]] = rows
    return found


def ultralytics_classes(folder):
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import ClassificationDataset

    dataset = ClassificationDataset(f"{folder}/train", get_cfg())
    return {str(sample[0]): dataset.base.classes[sample[1]] for sample in dataset.samples}


def fiftyone_detections(folder):
    from fiftyone.utils.data.importers import FiftyOneImageDetectionDatasetImporter
    from PIL import Image

    found = {}
    # Its Dataset needs a database; the importer is what Dataset.from_dir reads with.
    with FiftyOneImageDetectionDatasetImporter(folder, compute_metadata=True) as importer:
        for path, _, label in importer:
            width, height = Image.open(path).size
            rows = []
            for own in label.detections:
                x, y, w, h = own.bounding_box
                box = [x * width, y * height, (x + w) * width, (y + h) * height]
                rows.append([own.label, *box])
            found[path] = rows
    return found


def fiftyone_attributes(folder):
    from fiftyone.utils.data.importers import FiftyOneImageDetectionDatasetImporter

    names = ("key", "annotation_id", "iscrowd", "difficult")
    with FiftyOneImageDetectionDatasetImporter(folder) as importer:
        return {
            path: [
                {name: own[name] for name in names if name in own.field_names}
                for own in label.detections
            ]
            for path, _, label in importer
        }


def fiftyone_classes(folder):
    from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter

    with FiftyOneImageClassificationDatasetImporter(folder) as importer:
        return {path: label.label for path, _, label in importer}


if __name__ == "__main__":
    # The folder of this file has modules that are named as others.
    sys.path = [
        place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent
    ]
    print(json.dumps(globals()[sys.argv[1]](*sys.argv[2:])))
