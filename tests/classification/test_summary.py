from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.classification.run import prune
from adapruner_det.classification.summary import class_kept_shares, summarize
from adapruner_det.selection import Selection
from tests.classification.tiny import tiny_config, tiny_set


def test_shares_are_counted_by_class():
    images = tiny_set(12)  # four of each class
    digests = images.digests()
    kept = np.array([True, True, False] * 3 + [False, True, False])
    columns = {"key": np.array(images.keys), "digest": digests, "kept": kept}
    selection = Selection("x", 0.6, 0, images.fingerprints(digests), columns)
    assert class_kept_shares(selection, images) == {"dark": 0.75, "light": 1.0, "red": 0.0}


@pytest.mark.parametrize(("ratio", "kept"), [(0.75, "27 of 36 images (75.00%)"), (1.0, "36 of 36")])
def test_the_summary_says_what_was_kept(ratio, kept):
    images = tiny_set()
    selection = prune(tiny_config(ADAPRUNER__KEEP_RATIO=ratio), images, save=False)
    text = summarize(selection, images, 1.0, "do this")
    assert kept in text and text.endswith("do this") and len(text.splitlines()) == 9
    dropped = set(images.keys) - selection.kept_keys
    assert any(key in text for key in dropped) or not dropped


def test_what_should_not_be_is_in_the_summary():
    images = tiny_set()
    selection = prune(tiny_config(ADAPRUNER__KEEP_RATIO=0.75), images, save=False)
    columns = {**selection.columns, "kept": (images.labels != 2).numpy()}
    columns["times_seen"] = np.where(np.arange(36) < 5, 0, columns["times_seen"])
    faulty = replace(selection, columns=columns, excluded={"tiny_train/x\n": "is broken"})
    lines = summarize(faulty, images, 1.0, "do this").splitlines()
    assert len(lines) == 12 and lines[-1].endswith("do this")
    assert "NO IMAGE KEPT OF  red" in lines and "left out          'tiny_train/x\\n'" in lines
    shown = ", ".join(images.keys[:3])
    assert f"loss never finite {shown} and 2 more" in lines
