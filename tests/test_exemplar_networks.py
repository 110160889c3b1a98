"""The networks of prior-guided translation, and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from zerocon.errors import FileFormatError, ModelNotFoundError, NotFiniteError
from zerocon.exemplar.encoders import Matcher, MatcherConfig
from zerocon.exemplar.networks import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    Guide,
    Matched,
    PriorNetwork,
    TranslationConfig,
    TranslationNetwork,
    appearance_vector,
    load_weights,
    save_weights,
    unet_input,
)
from zerocon.model import ModelSpec, load

SMALL = MatcherConfig(stem=8, width=16, inner=8, dilations=(1,), features=8, pooled=8)
CONFIG = TranslationConfig(features=8, pooled=8, stem=8, width=16, inner=8, dilations=(1,))


@pytest.fixture(scope="module")
def unet() -> Any:
    return load(ModelSpec("mini", device="cpu", dtype="float32")).unet


@pytest.fixture(scope="module")
def trained(unet: Any) -> TranslationNetwork:
    """A network in which no tensor of the adapter is zero."""
    torch.manual_seed(0)
    network = TranslationNetwork(unet, CONFIG).eval().requires_grad_(False)
    for name, tensor in network.named_parameters():
        if not network.is_frozen(name):
            tensor += 0.02 * torch.randn_like(tensor)
    return network


@pytest.fixture
def folder(tmp_path: Path, unet: Any, trained: TranslationNetwork) -> Path:
    """The saved network with a matcher."""
    save_weights(tmp_path, trained, Matcher(SMALL))
    return tmp_path


def matched(rows: int = 16, columns: int = 16, batch: int = 2) -> Matched:
    return Matched(
        pixels=torch.rand(batch, 3, 8 * rows, 8 * columns) * 2 - 1,
        features=torch.randn(batch, rows * columns, CONFIG.features),
        warped=torch.randn(batch, 4, rows, columns),
        confidence=torch.rand(batch, 1, rows, columns),
        appearance=appearance_vector(
            torch.randn(batch, CONFIG.pooled), torch.randn(batch, 4, rows, columns)
        ),
    )


def guide(network: TranslationNetwork, inputs: Matched, c: float = 1, r: float = 1) -> Guide:
    ones = torch.ones(len(inputs.pixels))
    return network.guide(inputs, torch.randn(1, 32, 160), c * ones, r * ones)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (16, 24)])
def test_an_untrained_adapter_is_the_base_model_to_the_bit(
    unet: Any, rows: int, columns: int
) -> None:
    network = TranslationNetwork(unet, CONFIG).eval()
    inputs, z = matched(rows, columns), torch.randn(2, 4, rows, columns)
    with torch.no_grad():
        given = guide(network, inputs)
        predicted = network.unet(unet_input(z, given), 500, given.tokens).sample
        words = given.tokens[:, :-4]
        assert torch.equal(predicted, unet(z, 500, words).sample)


def test_the_trained_adapter_uses_each_of_its_inputs(trained: TranslationNetwork) -> None:
    z, given = torch.randn(2, 4, 16, 16), guide(trained, matched())

    def call(given: Guide) -> torch.Tensor:
        return trained.unet(unet_input(z, given), 500, given.tokens).sample

    image = given.tokens.clone()
    image[:, -1] += 1
    for other in (
        given._replace(prior=given.prior + 1),
        given._replace(warp=given.warp + 1),
        given._replace(structure=given.structure + 1),
        given._replace(tokens=image),
    ):
        assert (call(other) - call(given)).abs().max() > 1e-4


def test_extending_a_unet_does_not_change_it(unet: Any) -> None:
    before = {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    TranslationNetwork(unet, CONFIG)
    assert all(torch.equal(unet.state_dict()[name], tensor) for name, tensor in before.items())
    assert before.keys() == unet.state_dict().keys() and unet.config.in_channels == 4


def test_the_prior_is_bounded() -> None:
    network = PriorNetwork(CONFIG)
    for parameter in network.parameters():
        parameter.data *= 100
    P, _ = network(*(100 * part for part in matched()[:2]), 100 * torch.randn(2, 5, 16, 16))
    assert P.shape == (2, 4, 16, 16) and CONFIG.bound / 2 < P.abs().max() <= CONFIG.bound


def test_the_prior_sees_single_pixels_of_the_condition() -> None:
    network, inputs = PriorNetwork(CONFIG), matched()

    def change(row: int, column: int) -> torch.Tensor:
        pixels = inputs.pixels.clone()
        pixels[0, :, row, column] += 1
        warp = torch.zeros(2, 5, 16, 16)
        return network(pixels, inputs.features, warp)[0] - network(*inputs[:2], warp)[0]

    one, neighbor = change(43, 61), change(43, 62)  # in one cell of 8 x 8 pixels
    assert one[0].any() and not one[1].any()
    assert not one[0].allclose(neighbor[0], rtol=0.1)


def test_without_condition_nothing_of_it_is_left(trained: TranslationNetwork) -> None:
    first, second = matched(), matched()
    second = second._replace(appearance=first.appearance)
    torch.manual_seed(1)
    one = guide(trained, first, c=0)
    torch.manual_seed(1)
    other = guide(trained, second, c=0)
    assert not one.prior.any() and not one.warp.any() and not one.structure.any()
    assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


def test_without_exemplar_only_the_condition_is_left(trained: TranslationNetwork) -> None:
    first, second = matched(), matched()
    second = second._replace(pixels=first.pixels, features=first.features)
    torch.manual_seed(1)
    one = guide(trained, first, r=0)
    torch.manual_seed(1)
    other = guide(trained, second, r=0)
    assert one.prior.any() and not one.warp.any()
    assert all(torch.equal(*parts) for parts in zip(one, other, strict=True))


@pytest.mark.parametrize("gated", [False, True])
def test_the_warp_may_be_gated_by_its_confidence(unet: Any, gated: bool) -> None:
    inputs = matched()
    network = TranslationNetwork(unet, replace(CONFIG, gated=gated))
    warped, confidence = guide(network, inputs).warp.split([4, 1], 1)
    assert torch.equal(confidence, inputs.confidence)
    assert torch.equal(warped, inputs.warped * inputs.confidence if gated else inputs.warped)


def test_a_small_unet_in_place_of_the_base_model(unet: Any) -> None:
    small = TranslationNetwork(unet, TranslationConfig(channels=(16, 16)))
    assert sum(p.numel() for p in small.unet.parameters()) < 5e5
    assert not any(map(small.is_frozen, small.state_dict()))
    given = small.guide(
        matched()._replace(
            features=torch.randn(2, 256, 64),
            appearance=torch.randn(2, 128 + 8 + 64),
        ),
        torch.randn(1, 32, 160),
        torch.ones(2),
        torch.ones(2),
    )
    x = unet_input(torch.randn(2, 4, 16, 16), given)
    assert small.unet(x, 10, given.tokens).sample.shape == (2, 4, 16, 16)


def test_the_unet_may_get_the_prior_without_its_features(unet: Any) -> None:
    network = TranslationNetwork(unet, replace(CONFIG, structure=False))
    given = guide(network, matched())
    assert unet_input(given.prior, given).shape[1] == network.unet.config.in_channels == 13


def test_a_bridge_has_no_prior_network(unet: Any) -> None:
    network = TranslationNetwork(unet, TranslationConfig(bridge=True, channels=(16, 16)))
    start = torch.randn(2, 4, 16, 16)
    inputs = matched()._replace(start=start, appearance=torch.randn(2, 200))
    assert torch.equal(guide(network, inputs).prior, start)


# files


def test_saved_weights_are_loaded(folder: Path, unet: Any, trained: TranslationNetwork) -> None:
    network, matcher = load_weights(unet, folder)
    assert network.config == CONFIG and matcher.config == SMALL
    for name, tensor in trained.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor.half().float()), name
    assert not any(p.requires_grad for p in (*network.parameters(), *matcher.parameters()))


def test_loaded_networks_do_not_depend_on_the_weights_of_the_base(folder: Path, unet: Any) -> None:
    """The base model's U-Net can be trained on, and may compute in another dtype."""
    other = type(unet).from_config(unet.config).to(torch.bfloat16)
    expected, _ = load_weights(unet, folder)
    network, _ = load_weights(other, folder)
    for name, tensor in expected.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(network.state_dict()[name], tensor), name


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file(folder: Path, unet: Any, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match=f"no {name}"):
        load_weights(unet, folder)


def test_weights_of_another_architecture_are_refused(folder: Path, unet: Any) -> None:
    other = type(unet).from_config({**unet.config, "cross_attention_dim": 24})
    with pytest.raises(FileFormatError, match=r"the shape \(\d+, \d+\) for denoiser"):
        load_weights(other, folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("denoiser.prior.head.bias"), "no tensor denoiser.prior.head"),
        (lambda state: state.update(other=torch.zeros(1)), "unknown tensor other"),
        (
            lambda state: state.update({"denoiser.prior.head.bias": torch.zeros(3)}),
            r"the shape \(3,\) for denoiser",
        ),
    ],
)
def test_other_tensors_are_refused(folder: Path, unet: Any, change: Any, message: str) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    change(state)
    save_file(state, folder / WEIGHTS_FILE)
    with pytest.raises(FileFormatError, match=message):
        load_weights(unet, folder)


def test_weights_that_are_not_finite_are_refused(
    folder: Path, unet: Any, trained: TranslationNetwork
) -> None:
    state = load_file(folder / WEIGHTS_FILE)
    state["denoiser.prior.head.bias"][1] = torch.nan
    save_file(state, folder / WEIGHTS_FILE)
    with pytest.raises(NotFiniteError, match=r"prior\.head\.bias"):
        load_weights(unet, folder)
    large = TranslationNetwork(unet, CONFIG).requires_grad_(False)
    large.prior.head.bias += 1e5  # infinite in float16
    with pytest.raises(NotFiniteError, match="float16"):
        save_weights(folder, large, Matcher(SMALL))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot read"),
        ("[]", "not the configuration"),
        ('{"format": "x", "denoiser": {}, "matcher": {}}', "format x"),
    ],
)
def test_a_damaged_configuration(folder: Path, unet: Any, text: str, message: str) -> None:
    (folder / CONFIG_FILE).write_text(text)
    with pytest.raises(FileFormatError, match=message):
        load_weights(unet, folder)


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [("denoiser", "depth", 3), ("denoiser", "width", -1), ("matcher", "width", "wide")],
)
def test_a_configuration_of_another_version(
    folder: Path, unet: Any, part: str, field: str, value: object
) -> None:
    config = json.loads((folder / CONFIG_FILE).read_text())
    config[part][field] = value
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(FileFormatError, match="does not match this version"):
        load_weights(unet, folder)


def test_the_file_is_damaged(folder: Path, unet: Any) -> None:
    data = (folder / WEIGHTS_FILE).read_bytes()
    (folder / WEIGHTS_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(FileFormatError, match="cannot read"):
        load_weights(unet, folder)
