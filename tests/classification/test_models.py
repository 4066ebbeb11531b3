import urllib.error

import pytest
import torch
import torchvision

from adapruner_det.classification.models import RESNETS, SmallNet, build_model
from adapruner_det.errors import DataError
from tests.classification.tiny import same_state, tiny_config


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("resnet18", 11_173_962), ("resnet50", 23_520_842), ("wide_resnet50_2", 66_847_050)],
)
def test_resnets_for_cifar_have_the_known_size(name, parameters):
    with torch.device("meta"):
        model = build_model(tiny_config(MODEL__NAME=name), 3, 10)
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_cifar_stem_keeps_the_resolution_until_the_second_stage():
    model = build_model(tiny_config(MODEL__NAME="resnet18"), 1, 10).eval()
    sizes = []
    model.layer1.register_forward_hook(lambda *args: sizes.append(args[2].shape[-1]))
    model.layer4.register_forward_hook(lambda *args: sizes.append(args[2].shape[-1]))
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 10)
    assert sizes == [32, 4]


def test_the_imagenet_stem_is_torchvision_s_own():
    cfg = tiny_config(MODEL__NAME="resnet18", MODEL__STEM="imagenet")
    model, reference = build_model(cfg, 3, 7), torchvision.models.resnet18(num_classes=7)
    model.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(model.eval()(images), reference.eval()(images))
    with pytest.raises(DataError, match="takes 3 channels, the images have 1"):
        build_model(cfg, 1, 7)


def test_pretrained_weights_arrive_in_all_but_stem_and_head(monkeypatch):
    torch.manual_seed(1)
    source = torchvision.models.resnet18()

    def offline(name, weights):
        assert weights is torchvision.models.ResNet18_Weights.DEFAULT
        model = torchvision.models.resnet18()
        model.load_state_dict(source.state_dict())
        return model

    monkeypatch.setattr(torchvision.models, "get_model", offline)
    cfg = tiny_config(MODEL__NAME="resnet18", MODEL__PRETRAINED=True)
    state, given = build_model(cfg, 3, 5).state_dict(), source.state_dict()
    differing = [key for key in state if not torch.equal(state[key], given[key])]
    assert differing == ["conv1.weight", "fc.weight", "fc.bias"]


def test_the_small_cnn_takes_any_size_and_channels():
    for channels, side in ((1, 8), (3, 32), (3, 5)):
        assert SmallNet(channels, 4)(torch.zeros(2, channels, side, side)).shape == (2, 4)


def test_weights_of_a_run_load_and_a_head_of_another_size_starts_anew(tmp_path):
    path = tmp_path / "model.pt"
    source = build_model(tiny_config(), 3, 10)
    torch.save(source.state_dict(), path)
    same = build_model(tiny_config(MODEL__WEIGHTS=str(path)), 3, 10)
    assert same_state(same.state_dict(), source.state_dict())
    other = build_model(tiny_config(MODEL__WEIGHTS=str(path)), 3, 4)
    assert torch.equal(other[0].weight, source[0].weight) and other.fc.weight.shape[0] == 4


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(DataError, match="must be one of small, resnet18"):
        build_model(tiny_config(MODEL__NAME="vgg"), 3, 10)
    with pytest.raises(DataError, match="there are no weights at"):
        build_model(tiny_config(MODEL__WEIGHTS=str(tmp_path / "x.pt")), 3, 10)
    path = tmp_path / "model.pt"
    torch.save(SmallNet(3, 10, width=8).state_dict(), path)
    with pytest.raises(DataError, match="does not hold weights of this model"):
        build_model(tiny_config(MODEL__WEIGHTS=str(path)), 3, 10)
    path.write_bytes(b"no weights")
    with pytest.raises(DataError, match="does not hold weights of this model"):
        build_model(tiny_config(MODEL__WEIGHTS=str(path)), 3, 10)


class Hostile:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


def flipped(path):
    torch.save(build_model(tiny_config(), 3, 10).state_dict(), path)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def with_code(path):
    torch.save({"fc.weight": Hostile()}, path)


def of_nothing(path):
    torch.save([], path)


def with_words(path):
    torch.save({"fc.weight": "a", "fc.bias": "b"}, path)


def diverged(path):
    state = build_model(tiny_config(), 3, 10).state_dict()
    state["0.weight"][0] = float("nan")
    torch.save(state, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (flipped, "it is damaged"),
        (with_code, "it holds Python objects, which are not read"),
        (of_nothing, "does not hold weights of this model"),
        (with_words, "does not hold weights of this model"),
        (diverged, "holds weights that are NaN or infinite"),
    ],
)
def test_weights_that_cannot_be_used_are_one_line_and_run_no_code(
    tmp_path, write, message, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pt"
    write(path)
    with pytest.raises(DataError, match=message) as error:
        build_model(tiny_config(MODEL__WEIGHTS=str(path)), 3, 10)
    assert str(path) in str(error.value) and len(str(error.value)) < 500
    assert not (tmp_path / "ran").exists()


def test_pretrained_weights_that_cannot_be_fetched_are_one_line(monkeypatch):
    def offline(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "/nowhere")
    monkeypatch.setattr(torch.hub.os, "makedirs", lambda *args, **kwargs: None)
    cfg = tiny_config(MODEL__NAME="resnet18", MODEL__PRETRAINED=True)
    with pytest.raises(DataError, match=r"resnet18.*\.pth cannot be fetched: .*no route"):
        build_model(cfg, 3, 10)


def test_the_table_of_resnets_is_what_can_be_built():
    for name in RESNETS:
        with torch.device("meta"):
            assert build_model(tiny_config(MODEL__NAME=name), 3, 2).fc.out_features == 2
