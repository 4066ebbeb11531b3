"""What tests of all rooms share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# On a busy machine an example takes as long as it takes.
settings.register_profile("untimed", settings(), deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep what tests find of images out of the user's cache, also in processes they start."""
    os.environ["ADAPRUNER_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def shared_data(request):
    """The folder of real data, or the sub-folder that an indirect parameter names.

    It is $ADAPRUNER_TEST_DATA, or ../shared/data beside the repository.
    """
    folder = Path(os.environ.get("ADAPRUNER_TEST_DATA") or ROOT.parent / "shared" / "data")
    folder = folder / getattr(request, "param", "")
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder}; ADAPRUNER_TEST_DATA names another place")
    return folder


@pytest.fixture
def image_cache_file(tmp_path, monkeypatch):
    """A cache of images of each test's own; its file."""
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "images.sqlite"


@pytest.fixture
def reads(monkeypatch):
    """The paths of images that have been read, by a process that keeps nothing yet."""
    from adapruner_det import image_cache, image_check, images

    paths = []

    def watched(path):
        paths.append(path)
        return images.inspect(path)

    monkeypatch.setattr(image_cache, "_kept", {})
    monkeypatch.setattr(image_check, "inspect", watched)
    return paths
