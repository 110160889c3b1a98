"""Attention control: what injection puts in place, when, for which images, and at what cost."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from conftest import gradient
from PIL import Image

import zerocon
from zerocon.api import edit_batch
from zerocon.attention_control import Injection, replace_shared
from zerocon.cli import main
from zerocon.diagnostics.cost import estimate_cost, evaluations
from zerocon.diagnostics.effects import find_ineffective
from zerocon.editing import edit
from zerocon.evaluation_count import Evaluations, count_evaluations
from zerocon.guidance import Contrastive, CrossAttention
from zerocon.image.transforms import prepare
from zerocon.model.attention import change_layers, is_watched, watch
from zerocon.registry import resolve
from zerocon.request import parse_request
from zerocon.settings import Settings

BOTH = (CrossAttention(0.1), Contrastive(5.0))
INJECTIONS = [
    Injection(),
    Injection(self=1.0, cross=1.0, values=True),
    Injection(self=0.0, cross=1.0),
    Injection(self=1.0, cross=0.0, layers="decoder"),
]


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny.model()


def make_plan(attention: Any, guidance: Any = (), seeds: Any = (0,), **settings: Any) -> Any:
    return tiny.plan(5.0, guidance, seeds, attention, **settings)


def run(model: Any, x: Any, c: Any, edited: Any, plan: Any, steps: int = 4) -> torch.Tensor:
    inversion = tiny.invert(model, x, c, plan.cached_layers(steps), steps)
    *_, out = edit(model, inversion, c, edited, plan)
    return out.latents


def state(unet: Any) -> Any:
    hooks = [len(module._forward_hooks) for module in unet.modules()]
    return {n: id(p) for n, p in unet.attn_processors.items()}, hooks, is_watched(unet)


# the identity


@pytest.mark.parametrize("guidance", [(), BOTH])
@pytest.mark.parametrize("attention", INJECTIONS)
def test_a_direction_of_zero_returns_the_source(model: Any, attention: Any, guidance: Any) -> None:
    x, c = torch.randn(2, 4, 8, 6), model.embed(["a cat", "the red bus"])
    seeds = (0, 1)
    plan = make_plan(attention, guidance, seeds, cache_source=False)
    assert torch.equal(run(model, x, c, c, plan), x)
    cached = run(model, x, c, c, make_plan(attention, guidance, seeds))
    assert (cached - x).abs().max() < 1e-4


@pytest.mark.parametrize("attention", [(), ("injection",)])
def test_no_step_is_computed_at_strength_zero(model: Any, attention: tuple[str, ...]) -> None:
    settings = replace(tiny.SETTINGS, steps=3, strength=0.0, attention=attention)
    image = gradient(48, 64)
    edited = zerocon.edit(image, model=model, to="dog", settings=settings)
    assert edited.image.tobytes() == image.tobytes()
    assert (edited.evaluations.forwards, edited.evaluations.backwards) == (4, 0)


def test_a_control_that_never_acts_gives_the_same_bits(model: Any) -> None:
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    for guidance in ((), BOTH):
        free = run(model, x, c, edited, make_plan(None, guidance))
        never = Injection(self=0.0, cross=0.0)
        assert torch.equal(run(model, x, c, edited, make_plan(never, guidance)), free)


# what is put in place


def test_queries_and_keys_are_the_sources_and_values_the_edited_ones(model: Any) -> None:
    """Against attention that is written out, with the weights of one layer."""
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn1"
    layer = model.unet.get_submodule(name)
    c, projections = model.embed(["a cat"]), {f"*.attn1.{each}" for each in ("to_q", "to_k")}
    source, x = torch.randn(2, 1, 4, 8, 8)
    with torch.no_grad(), watch(model.unet, projections) as seen:
        model.eps(source, 500, c)
    recorded, values = dict(seen.features), {}
    hook = layer.to_v.register_forward_hook(lambda _, __, output: values.update(v=output))

    def change(layer_name: str, output: torch.Tensor) -> torch.Tensor:
        return Injection()(layer_name, recorded[layer_name], output, [((1,), (1,))])

    with torch.no_grad(), change_layers(model.unet, projections, change):
        with watch(model.unet, {name}) as outputs:
            model.eps(x, 500, c)
    hook.remove()

    def heads(part: torch.Tensor) -> torch.Tensor:
        return part.unflatten(-1, (layer.heads, -1)).transpose(1, 2)

    q, k = heads(recorded[f"{name}.to_q"]), heads(recorded[f"{name}.to_k"])
    maps = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    expected = layer.to_out[0]((maps @ heads(values["v"])).transpose(1, 2).flatten(2))
    assert torch.allclose(outputs.features[name], expected, atol=1e-5)


def test_with_its_values_a_layers_output_is_the_sources(model: Any) -> None:
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    outputs: list[Any] = []
    name = "up_blocks.1.attentions.0.transformer_blocks.0.attn1"
    layer = model.unet.get_submodule(name)
    inversion = tiny.invert(model, x, c, frozenset(), 4)
    hook = layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    for values in (True, False):
        plan = make_plan(Injection(self=1.0, cross=0.0, values=values), cache_source=False)
        outputs.clear()
        list(edit(model, inversion, c, edited, plan))
        same = [torch.equal(rows[0], row) for rows in outputs[1:] for row in rows[1:]]
        assert len(same) == 6 and (all(same) if values else not any(same))
    hook.remove()


def test_shared_columns_are_the_sources_and_rows_sum_to_one() -> None:
    source, edited = torch.rand(2, 1, 2, 3, 6).softmax(-1)
    # 0, 7 and 1 are shared, and one padding
    before, after = ((0, 7, 8, 1),), ((0, 9, 7, 5, 1),)
    changed = replace_shared(source, edited, before, after)
    expected = edited.clone()
    for left, right in ((0, 0), (1, 2), (3, 4), (4, 5)):
        expected[..., right] = source[..., left]
    assert torch.allclose(changed, expected / expected.sum(-1, keepdim=True))
    assert torch.allclose(changed.sum(-1), torch.ones(()))
    assert torch.equal(replace_shared(source, edited, before, before), source)


def test_shared_columns_are_those_of_each_image() -> None:
    """In one batch: a sentence that stays, one that grows, one of which nothing stays."""
    source, edited = torch.rand(2, 3, 2, 5, 6).softmax(-1)
    before = ((0, 7, 1), (0, 7, 8, 1), (2, 3, 4, 5, 6, 7))
    after = ((0, 7, 1), (0, 9, 7, 5, 1), (12, 13, 14, 15, 16, 17))
    changed = replace_shared(source, edited, before, after)
    assert torch.equal(changed[0], source[0])
    assert torch.equal(changed[1:2], replace_shared(*rows_of(1, source, edited, before, after)))
    assert torch.allclose(changed[2], edited[2])
    assert not torch.allclose(changed[1], edited[1], atol=1e-2)


def rows_of(i: int, *parts: Any) -> list[Any]:
    return [part[i : i + 1] for part in parts]


def test_a_word_that_changes_keeps_its_own_attention() -> None:
    """Captions of one length: the column of the new word is the edited image's."""
    source, edited = torch.rand(2, 1, 1, 4, 4).softmax(-1)
    changed = replace_shared(source, edited, ((0, 7, 1),), ((0, 8, 1),))
    ratio = changed[..., 1] / edited[..., 1]
    assert torch.allclose(changed[..., 0] / source[..., 0], ratio)


@pytest.mark.parametrize("cache_source", [True, False])
def test_the_maps_of_an_edit_have_the_sources_columns(model: Any, cache_source: bool) -> None:
    """Both halves: under the source caption all columns, under the target caption the shared."""
    x = torch.randn(1, 4, 8, 8)
    c, edited = model.embed(["a cat"]), model.embed(["a dog"])
    calls: list[Any] = []

    @dataclass(frozen=True)
    class Spy(Injection):
        def __call__(self, layer: str, source: Any, edited: Any, ids: Any) -> Any:
            changed = super().__call__(layer, source, edited, ids)
            calls.append((layer, source, changed, ids))
            return changed

    run(model, x, c, edited, make_plan(Spy(self=1.0, cross=1.0), cache_source=cache_source))
    maps = [call for call in calls if call[0].endswith("attn2")]
    assert len(maps) == 4 * 2 * sum(n.endswith("attn2") for n, _ in model.unet.named_modules())
    for _, source, changed, (pair,) in maps:
        assert pair in ((c.ids[0], c.ids[0]), (c.ids[0], edited.ids[0]))
        assert torch.equal(source, changed) == (pair[0] == pair[1])
        assert torch.allclose(changed.sum(-1), torch.ones(()), atol=1e-5)
    for layer, source, changed, _ in calls:
        assert layer.endswith("attn2") or torch.equal(source, changed)


# at which steps


def test_each_part_acts_until_its_share_of_the_steps() -> None:
    injection = Injection(self=0.8, cross=0.5, layers="decoder")
    kinds = [
        "".join(sorted({name.rpartition("attn")[2][:1] for name in injection.layers_at(i / 10)}))
        for i in range(10)
    ]
    assert kinds == ["12"] * 5 + ["1"] * 3 + [""] * 2
    assert injection.layer_patterns == {
        "up_blocks.*.attn1.to_q", "up_blocks.*.attn1.to_k", "*.attn2",
    }  # fmt: skip
    assert Injection(cross=0.0, values=True).layer_patterns == {
        "*.attn1.to_q", "*.attn1.to_k", "*.attn1.to_v",
    }  # fmt: skip


def test_an_edit_differs_from_a_free_one_from_its_first_controlled_step_on(model: Any) -> None:
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    inversion = tiny.invert(model, x, c, Injection().layer_patterns)
    free = [step.latents for step in edit(model, inversion, c, edited, make_plan(None))]

    @dataclass(frozen=True)
    class Late(Injection):
        def layers_at(self, progress: float) -> Any:
            return super().layers_at(0.0) if progress >= 0.5 else frozenset()

        layer_patterns = Injection().layer_patterns

    late = [step.latents for step in edit(model, inversion, c, edited, make_plan(Late()))]
    assert [torch.equal(*pair) for pair in zip(free, late, strict=True)] == [True, True] + 2 * [
        False
    ]


def test_a_controlled_step_predicts_anew(model: Any) -> None:
    """The guidance pass is without control; with it there is nothing to reuse."""
    settings = {"steps": 4, "reuse_prediction": True, "attention": ("injection:self=0.5,cross=0",)}
    spent = evaluations(
        model.schedule(4),
        tiny.PLAIN.overlay({"guidance": ("cross-attention", "contrastive"), **settings}),
    )
    assert spent == Evaluations(5 + 4 + 2 * 2 + 2 * 1, 4)


# images of a batch, precision, compiled networks


def test_each_image_of_a_batch_has_the_control_and_begin_of_its_kind_of_change(model: Any) -> None:
    image, other = gradient(48, 64), gradient(64, 48).transpose(Image.Transpose.ROTATE_90)
    by_kind = replace(
        tiny.PLAIN,
        attention=("injection:self=0.5,cross=1", "time=injection:self=1,cross=0,values=true"),
        begin="0,time=0.5",
        composite="model",
    )
    asks = [(image, "dog", "a cat"), (other, "at night", "a bus")]

    def requests(settings: Settings) -> list[Any]:
        return [
            parse_request(each, model, to=to, caption=caption, settings=settings)
            for each, to, caption in asks
        ]

    assert [{*each.kinds} for each in requests(by_kind)] == [{"object"}, {"time"}]
    differences: list[list[bool]] = []

    def record(step: Any) -> None:
        differences.append([bool(each.any()) for each in step.difference])

    together = edit_batch(
        [image, other], requests(by_kind), model=model, settings=by_kind, on_step=record
    )
    assert differences == [[True, False]] * 2 + [[True, True]] * 2

    def alone(settings: Settings) -> list[np.ndarray[Any, Any]]:
        pairs = zip([image, other], requests(settings), strict=True)
        edits = [
            edit_batch([each], [ask], model=model, settings=settings)[0] for each, ask in pairs
        ]
        return [np.int16(each.image) for each in edits]

    for each, single in zip(together, alone(by_kind), strict=True):
        assert np.abs(np.int16(each.image) - single).max() <= 2
    # both settings matter to the second image, and those of its kind not to the first
    first, second = alone(by_kind)
    for name, value in (("attention", by_kind.attention[:1]), ("begin", 0.0)):
        one, two = alone(replace(by_kind, **{name: value}))
        assert (one == first).all() and np.abs(two - second).max() > 2, name


@pytest.mark.parametrize("attention", INJECTIONS)
@pytest.mark.parametrize("cache_source", [True, False])
def test_images_of_a_batch_do_not_see_each_other(
    model: Any, attention: Any, cache_source: bool
) -> None:
    """The same bits with any other image; alone the networks round as without control."""
    x, captions = torch.randn(3, 4, 8, 6), ("a cat", "the bus", "one tree")
    c, edited = model.embed(captions), model.embed(("a dog", "the big bus", "a hut"))
    plan = make_plan(attention, (), (3, 1), cache_source=cache_source)

    def rows(*numbers: int) -> torch.Tensor:
        parts = [slice(i, i + 1) for i in numbers]
        texts = [type(c).cat([text.rows(part) for part in parts]) for text in (c, edited)]
        chosen = replace(plan, images=plan.images[: len(numbers)])
        return run(model, torch.cat([x[part] for part in parts]), *texts, chosen)

    with_second, with_third, alone = rows(0, 1), rows(0, 2), rows(0)
    assert torch.equal(with_second[0], with_third[0])
    assert not torch.equal(with_second[1], with_third[1])
    assert torch.allclose(alone[0], with_second[0], atol=1e-4)


def test_cached_and_recomputed_source_agree(model: Any) -> None:
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a big dog"])
    for guidance in ((), BOTH):
        cached, again = (
            run(model, x, c, edited, make_plan(Injection(), guidance, cache_source=cache_source))
            for cache_source in (True, False)
        )
        assert torch.allclose(cached, again, atol=1e-3)


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("cache_source", [True, False])
def test_a_half_precision_network(second: bool, cache_source: bool) -> None:
    model = tiny.model(second=second)
    model.unet.to(torch.bfloat16)
    side = 12 if second else 8
    x, c, edited = torch.randn(1, 4, side, side), model.embed(["a cat"]), model.embed(["a big dog"])
    plan = make_plan(Injection(), cache_source=cache_source)
    out = run(model, x, c, edited, plan)
    assert out.dtype == torch.float32 and out.isfinite().all()
    assert not torch.equal(out, run(model, x, c, edited, make_plan(None)))
    if not cache_source:
        assert torch.equal(run(model, x, c, c, plan), x)


def test_controlled_calls_are_not_compiled() -> None:
    """A compiled network would not see the change; the other calls stay compiled."""
    model, calls = tiny.model(), []
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    plan = make_plan(Injection(self=0.5, cross=0.5), cache_source=False)
    inversion = tiny.invert(model, x, c)
    plain = [step.latents for step in edit(model, inversion, c, edited, plan)]

    class Counted:
        parameters = model.unet.parameters

        def __call__(self, *args: Any, **options: Any) -> Any:
            calls.append(args)
            return model.unet(*args, **options)

    model.runtime._compiled = Counted()
    compiled = [step.latents for step in edit(model, inversion, c, edited, plan)]
    assert len(calls) == 2
    assert all(map(torch.equal, plain, compiled))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("cache_source", [True, False])
def test_the_network_is_as_before(model: Any, fails: bool, cache_source: bool) -> None:
    before = state(model.unet)
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])

    @dataclass(frozen=True)
    class Failing(Injection):
        def __call__(self, layer: str, source: Any, edited: Any, ids: Any) -> Any:
            if fails and layer.startswith("up_blocks"):
                raise KeyboardInterrupt
            return super().__call__(layer, source, edited, ids)

    try:
        run(model, x, c, edited, make_plan(Failing(), cache_source=cache_source))
        assert not fails
    except KeyboardInterrupt:
        assert fails
    assert state(model.unet) == before


def test_a_pattern_that_matches_no_layer_is_refused(model: Any) -> None:
    before = state(model.unet)
    with pytest.raises(ValueError, match="matches"):
        with change_layers(
            model.unet, {"*.attn2", "up_block.attn1.to_q"}, lambda _, output: output
        ):
            pass
    assert state(model.unet) == before


def test_projections_are_meant_only_by_their_names(model: Any) -> None:
    with torch.no_grad(), watch(model.unet, {"up_blocks.*"}) as seen:
        model.eps(torch.randn(1, 4, 8, 8), 500, model.embed(["a cat"]))
    assert {name[-5:] for name in (*seen.maps, *seen.features)} == {"attn1", "attn2"}


# begin


def test_the_difference_is_zero_until_the_edit_begins(model: Any) -> None:
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    inversion = tiny.invert(model, x, c)
    constrained: list[int] = []

    def record(source: Any, edited: Any, D: Any, level: int) -> Any:
        constrained.append(level)
        return D

    with count_evaluations() as spent:
        steps = list(edit(model, inversion, c, edited, make_plan(None, begin=0.5), record))
    assert [step.level for step in steps] == [3, 2, 1, 0] and constrained == [1, 0]
    assert [bool(step.difference.any()) for step in steps] == [False, False, True, True]
    assert torch.equal(steps[1].latents, inversion.latents[2]) and torch.equal(steps[0].clean, x)
    assert spent.forwards == 2 * 2


def test_an_edit_that_begins_late_is_that_of_a_shorter_trajectory(model: Any) -> None:
    """With a constant scale nothing but the first latents depends on the steps before."""
    x, c, edited = torch.randn(1, 4, 8, 8), model.embed(["a cat"]), model.embed(["a dog"])
    inversion = tiny.invert(model, x, c)
    schedule = replace(inversion.schedule, levels=inversion.schedule.levels[:3])
    short = replace(
        inversion, latents=inversion.latents[:3], eps=inversion.eps[:3], schedule=schedule
    )
    *_, late = edit(model, inversion, c, edited, make_plan(None, begin=0.5))
    *_, expected = edit(model, short, c, edited, make_plan(None))
    assert torch.equal(late.latents, expected.latents)


@pytest.mark.parametrize("lock", ["pixel", "latent"])
def test_an_edit_that_begins_late_with_a_lock(model: Any, lock: str) -> None:
    settings = replace(tiny.PLAIN, steps=6, begin=0.4, lock=lock)
    edited = zerocon.edit(gradient(48, 64), model=model, to="dog", settings=settings)
    assert edited.evaluations.forwards == 7 + 2 * 3
    assert edited.image.size == (48, 64)


@pytest.mark.parametrize("lock", ["pixel", "latent"])
@pytest.mark.parametrize("begin", [0.1, "0,object=0.9"])
@pytest.mark.parametrize(("steps", "edited_steps"), [(1, (1, 1)), (2, (2, 2)), (5, (4, 2))])
def test_the_last_two_steps_always_edit(
    model: Any, lock: str, begin: float | str, steps: int, edited_steps: tuple[int, int]
) -> None:
    settings, image = replace(tiny.PLAIN, steps=steps, begin=begin, lock=lock), gradient(48, 64)
    edited = zerocon.edit(image, model=model, to="dog", settings=settings)
    expected = edited_steps[begin != 0.1]
    assert edited.evaluations.forwards == steps + 1 + 2 * expected
    assert edited.image.tobytes() != image.tobytes()
    counted = evaluations(model.schedule(steps), settings, changes=edited.request.kinds)
    assert counted == edited.evaluations


# cost and memory


@pytest.mark.parametrize("cache_source", [True, False])
@pytest.mark.parametrize(
    "changes", [{}, {"begin": 0.4}, {"guidance": ("cross-attention",), "reuse_prediction": True}]
)
def test_estimated_evaluations_are_those_of_the_edit(
    model: Any, changes: dict[str, Any], cache_source: bool
) -> None:
    base = {"steps": 5, "guidance": (), "attention": ("injection",), "cache_source": cache_source}
    settings, image = tiny.PLAIN.overlay(base | changes), gradient(48, 64)
    ask = {"model": model, "to": "dog", "caption": "a cat", "settings": settings}
    first = zerocon.edit(image, **ask)
    later = zerocon.edit(image, **ask, inversion=first.inversion)
    schedule, kept = model.schedule(5), first.inversion.layer_patterns
    assert evaluations(schedule, settings) == first.evaluations
    assert evaluations(schedule, settings, inverted=True, watched=kept) == later.evaluations
    assert first.image.tobytes() == later.image.tobytes()


def test_what_is_kept_of_the_source_is_in_the_forecast(model: Any) -> None:
    def cost(**settings: Any) -> Any:
        return estimate_cost(model, replace(tiny.PLAIN, steps=6).overlay(settings), (64, 64))

    free, keys = cost(), cost(attention=("injection:self=0.8,cross=0",))
    values, cross = (
        cost(attention=("injection:self=0.8,cross=0,values=true",)),
        cost(attention=("injection",)),
    )
    assert free.cached < keys.cached < values.cached and keys.cached < cross.cached
    # queries and keys: two tensors of the shape of the layers' inputs, float32; 5 of 6 levels
    sizes = [64 * 16, 16 * 32, 16 * 32, 16 * 32, 64 * 16, 64 * 16, 64 * 16]
    with torch.no_grad(), watch(model.unet, {"*.attn1.to_q"}) as seen:
        model.eps(torch.randn(1, 4, 8, 8), 500, model.embed(["a cat"]))
    kept = sum(part.numel() for part in seen.features.values())
    assert kept <= sum(sizes) and keys.cached - free.cached == 5 * 2 * kept * 4
    assert cost(attention=("injection",), cache_source=False).cached == free.cached


def test_out_of_memory_the_source_is_recomputed(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(tiny.PLAIN, steps=3, attention=("injection",))
    image = gradient(48, 64)
    warnings: list[str] = []
    original = type(model).eps

    def scarce(self: Any, x: Any, t: float, c: Any) -> Any:
        if len(x) == 2:  # the cached source's rows; the recomputed one has three
            raise MemoryError
        return original(self, x, t, c)

    monkeypatch.setattr(type(model), "eps", scarce)
    edited = zerocon.edit(
        image, model=model, to="dog", caption="a cat", settings=settings, on_warning=warnings.append
    )
    assert "recomputing the source" in warnings[0]
    assert all(line.startswith("probably damaged") for line in warnings[1:])  # random weights
    recomputed = replace(settings, cache_source=False)
    again = zerocon.edit(image, model=model, to="dog", caption="a cat", settings=recomputed)
    assert edited.image.tobytes() == again.image.tobytes()


# the setting


def test_options_as_text() -> None:
    text = "injection:self=0.6,cross=0.2,layers=decoder,values=true"
    assert resolve("attention", text) == Injection(0.6, 0.2, "decoder", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("inject", 'no attention "inject"; there are: injection'),
        ("injection:own=1", 'attention injection has no option "own"; there are: self, cross'),
        ("injection:self=1.5", "self must be a share of the steps from 0 to 1, not 1.5"),
        ("injection:cross=-1", "cross must be a share of the steps from 0 to 1, not -1.0"),
        ("injection:layers=finest", "attention injection: layers=finest: must be all or decoder"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    image = tmp_path / "cat.png"
    gradient(48, 64).save(image)
    done = CliRunner().invoke(main, ["edit", str(image), "--to", "dog", "--attention", text])
    assert done.exit_code == 2 and message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_control_by_name_keeps_the_options_of_the_model() -> None:
    measured = Settings(attention=("injection:self=0.6,cross=0.3",))
    assert measured.overlay({"attention": ("injection",)}) == measured
    assert measured.overlay({"attention": ("injection:self=1",)}).attention == (
        "injection:cross=0.3,self=1",
    )
    assert measured.overlay({"attention": ()}).attention == ()


def test_ineffective_settings(model: Any) -> None:
    image = prepare(gradient(48, 64), model.working_size)
    never = Settings(attention=("injection:self=0,cross=0",))
    assert "attention" in find_ineffective(never, image, 8)
    late = Settings(attention=("injection:self=0.3,cross=0.3",), begin=0.5)
    assert "attention" in find_ineffective(late, image, 8)
    always = Settings(attention=("injection:self=1",), guidance_range=(0.0, 0.5))
    assert "reuse_prediction" in find_ineffective(always, image, 8)
    sometimes = replace(always, attention=("injection:self=0.3,cross=0.3",), begin=0.0)
    effective = {"attention", "reuse_prediction"} - find_ineffective(sometimes, image, 8).keys()
    assert effective == {"attention", "reuse_prediction"}


# the model that ships


@pytest.fixture
def fox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZEROCON_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ZEROCON_NO_CACHE")
    return Path(__file__).parent.parent / "examples" / "fox.png"


def test_an_edit_with_mini_by_injection_alone(fox: Path, tmp_path: Path) -> None:
    """37 evaluations for the first edit of an image, 24 for a later one; replayed to the bit."""
    args = ["--model", "mini", "--steps", "12", "--guidance", "none", "--begin", "0"]
    args += ["--attention", "injection:self=1,cross=0.5"]
    counts = []
    for name, to in (("a", "bear"), ("b", "bear"), ("c", "lion")):
        output = ["-o", str(tmp_path / f"{name}.png"), "--format", "json"]
        done = CliRunner().invoke(main, ["edit", str(fox), "--to", to, *args, *output])
        assert done.exit_code == 0, done.output
        counts.append(json.loads(done.stdout)["evaluations"])
        assert json.loads(done.stdout)["settings"]["attention"] == ["injection:self=1,cross=0.5"]
    assert [count["forwards"] for count in counts] == [37, 24, 24]
    assert not any(count["backwards"] for count in counts)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    again = CliRunner().invoke(main, ["replay", str(tmp_path / "a.png"), "--source", str(fox)])
    assert again.exit_code == 0, again.output


def test_images_of_a_batch_do_not_see_each_other_with_mini(fox: Path) -> None:
    """The same pixels with any other image; alone, as without control, up to rounding."""
    model, image = zerocon.load("mini"), Image.open(fox).convert("RGB")
    settings = model.settings.overlay(
        {"steps": 4, "guidance": (), "begin": 0.0, "attention": ("injection",)}
    )
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    turned = image.transpose(Image.Transpose.ROTATE_180)
    ask = {"caption": "a fox in the snow", "to": "bear", "settings": settings}
    request = parse_request(image, model, **ask)

    def first(*images: Image.Image) -> Any:
        requests = [request] * len(images)
        return edit_batch(images, requests, model=model, settings=settings)[0].image

    with_mirrored, alone = first(image, mirrored), np.int16(first(image))
    assert with_mirrored.tobytes() == first(image, turned).tobytes()
    assert np.abs(np.int16(with_mirrored) - alone).max() <= 1
    assert (np.int16(with_mirrored) != alone).mean() < 0.001
