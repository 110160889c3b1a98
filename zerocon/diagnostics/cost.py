"""Cost of an edit before it runs: U-Net evaluations, floating-point operations, memory.

Evaluations are counted by running the inversion and editing loops with a stub in place of the
model. Operations and memory are counted by calling the networks: small ones themselves, of large
ones copies with fake tensors, which have shapes but no data.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, fields, replace
from time import perf_counter
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from zerocon.activations import Observation, Observer
from zerocon.attention_control import AttentionControl
from zerocon.conditioning import Conditioning
from zerocon.diffusion import Schedule
from zerocon.editing import Plan, edit
from zerocon.evaluation_count import Evaluations, count, count_evaluations
from zerocon.guidance import Contrastive, Guidance
from zerocon.image.transforms import WorkingSize
from zerocon.model.attention import LayerOutputs, call_unet, change_layers, watch
from zerocon.settings import Settings
from zerocon.tensor_types import Latents, PerImage
from zerocon.trajectory import Inversion, LayersByLevel

SMALL = 1e10  # parameters times positions of the latents; mini has 2e9, Stable Diffusion 4e12


@dataclass(frozen=True)
class CostEstimate:
    """Estimated cost of editing one image. Memory is that of tensors, without the runtime's own.

    Attributes:
        evaluations: U-Net evaluations, forward and backward.
        operations: Floating-point operations of the U-Net.
        weights: Bytes of U-Net, VAE and text encoder.
        companions: Bytes of captioner, CLIP and segmentation model, as far as they are loaded.
        apart: Whether those leave the device's memory before the U-Net works.
        cached: Bytes of the source's trajectory and cached activations.
        working: Bytes of temporary tensors, at the highest point.
    """

    evaluations: Evaluations
    operations: float
    weights: int
    cached: int
    working: int
    companions: int = 0
    apart: bool = False

    @property
    def peak(self) -> int:
        """Total bytes at the highest point."""
        editing = self.cached + self.working
        if self.apart:
            return self.weights + max(self.companions, editing)
        return self.weights + self.companions + editing

    def __repr__(self) -> str:
        return (
            f"CostEstimate({self.evaluations.total:.1f} U-Net evaluations, "
            f"{self.operations / 1e12:.3g} TFLOP, {self.peak / 1e9:.2f} GB)"
        )


def estimate_cost(
    model: Any,
    settings: Settings,
    size: tuple[int, int],
    *,
    inverted: bool = False,
    watched: LayersByLevel = (),
    changes: Collection[str] = (),
) -> CostEstimate:
    """Estimate the cost of an edit of one image.

    Args:
        model: A loaded model.
        settings: Settings of the edit.
        size: (width, height) of the source image.
        inverted: Whether its inversion exists already.
        watched: Layers whose activations that inversion holds at each level.
        changes: Kinds of change of the edit.
    """
    plan, networks = Plan.of(settings, [changes]), (model.unet, model.vae, model.text_encoder)
    schedule = model.schedule(settings.steps)
    facts: Any = {"inverted": inverted, "watched": watched, "changes": changes}
    spent = evaluations(schedule, settings, **facts)
    height, width, shape = padded_sizes(model, model.working_size.with_size(settings.size), size)
    real = is_small(model, shape)
    with model.lock, nullcontext() if real else FakeTensorMode():
        unet, vae = networks[:2] if real else map(fake_copy, networks[:2])
        network = MeasuredUNet(unet, model, shape)
        each = network.operations()
        inverting, activations = network.observe(plan)
        guiding = network.guide(plan) if plan.guidance else 0
        stepping = network.step(plan)
        pixels = torch.zeros(1, 3, height, width, dtype=model.vae.dtype, device=model.device)
        coding = coding_bytes(vae, pixels)
    image = 3 * height * width * 4
    trajectory = 2 * (settings.steps + 1) * torch.Size(shape).numel() * 4  # x and eps, float32
    return CostEstimate(
        evaluations=spent,
        operations=each * spent.total,
        weights=weight_bytes(*networks),
        cached=trajectory + activations,
        # the source's pixels are held throughout, those of the edit while the source is decoded
        working=image + max(inverting, guiding, stepping, image + coding),
        companions=sum(each.bytes for each in model.runtime.companions),
        apart=model.device.type != "cpu",
    )


def is_small(model: Any, shape: tuple[int, int, int]) -> bool:
    """Whether real calls are faster than those on fake tensors, of 0.1 ms for each operator."""
    changed = model.runtime.tiled or model.runtime.checkpointed
    parameters = sum(each.numel() for each in model.unet.parameters())
    work = parameters * shape[1] * shape[2]
    return model.device.type == "cpu" and not changed and work < SMALL


def operations(model: Any, size: tuple[int, int]) -> float:
    """Floating-point operations of one U-Net evaluation on an image of ``size`` (width, height)."""
    with FakeTensorMode():
        shape = padded_sizes(model, model.working_size, size)[2]
        return MeasuredUNet(fake_copy(model.unet), model, shape).operations()


def evaluations(
    schedule: Schedule,
    settings: Settings,
    *,
    inverted: bool = False,
    watched: LayersByLevel = (),
    changes: Collection[str] = (),
) -> Evaluations:
    """U-Net evaluations of an edit of one image, its inversion included.

    ``inverted``, ``watched`` and ``changes`` as in ``estimate_cost``.
    """
    if settings.guidance_scale is None:  # its value does not change the cost
        settings = replace(settings, guidance_scale=1.0)
    actual, stub = Plan.of(settings, [changes]), cast(Any, _StubModel())
    guidance = (_StubGuidance(),) * len(actual.guidance)
    images = tuple(
        replace(each, attention=each.attention and _StubAttention(each.attention))
        for each in actual.images
    )
    plan = replace(actual, guidance=guidance, images=images)
    c, x = Conditioning(torch.zeros(1, 1, 1), ((0,),), ""), torch.zeros(1, 4, 8, 8)
    with count_evaluations() as spent:
        path = actual.inverter(Observer(stub, c), x, schedule, (settings.seed,))
        inversion = Inversion.from_observations(
            path, schedule=schedule, captions=("",), model="", recipe={},
            layer_patterns=plan.cached_layers(schedule.steps),
        )  # fmt: skip
        if inverted:
            needed = () if actual.keeps_source else actual.cached_layers(schedule.steps)
            kept = watched or (frozenset(),) * len(needed)
            pairs = zip(needed, kept, strict=False)
            spent.forwards = sum(not each <= layers for each, layers in pairs)
        for _ in () if actual.keeps_source else edit(stub, inversion, c, c, plan):
            pass
    return spent


@torch.no_grad()
def time_evaluation(model: Any, size: tuple[int, int]) -> float:
    """Return the seconds of one evaluation at ``size`` (width, height): the second of two."""
    width, height = size
    x = model.encode(torch.zeros(1, 3, height, width))
    c, t = model.embed([""]), model.schedule(2).times[1]
    model.eps(x, t, c)
    start = perf_counter()
    model.eps(x, t, c)
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return perf_counter() - start


def highest(call: Callable[[], object]) -> int:
    """Bytes of the tensors that a call allocates, at the highest point."""
    with torch.no_grad(), _AllocationCounter() as counter:
        call()
    return int(counter.highest)


def weight_bytes(*networks: nn.Module) -> int:
    """Bytes of the weights of networks."""
    return sum(p.nbytes for each in networks for p in each.parameters())


def coding_bytes(vae: Any, pixels: Tensor) -> int:
    """Bytes at the highest point of encoding an image and decoding it."""
    return highest(lambda: vae.decode(vae.encode(pixels).latent_dist.mode()))


class _StubModel:
    """A model that predicts zeros; its evaluations are counted as usual."""

    unet = nn.ModuleDict({"attn1": nn.Identity()})

    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        count(x)
        return 0 * x


@dataclass(frozen=True)
class _StubGuidance:
    """A guidance without layers, whose gradient is that of a sum."""

    weight: float = 1.0
    layer_patterns: Collection[str] = frozenset()

    def __call__(self, source: Observation, edited: Observation) -> PerImage:
        return edited.eps.sum((1, 2, 3))


@dataclass(frozen=True)
class _StubAttention:
    """Acts at the steps of another control, on the layer of ``_StubModel``, without effect."""

    actual: AttentionControl
    layer_patterns: Collection[str] = frozenset()

    def layers_at(self, progress: float) -> Collection[str]:
        return {"attn1"} if self.actual.layers_at(progress) else ()

    def __call__(self, layer: str, source: Tensor, edited: Tensor, ids: object) -> Tensor:
        return edited


@dataclass(frozen=True)
class MeasuredUNet:
    """A U-Net of fake tensors, and the shape of its latents (channels, rows, columns)."""

    unet: Any
    model: Any
    shape: tuple[int, int, int]

    def __call__(self, rows: int, *, grad: bool = False) -> tuple[Latents, Latents]:
        """Input and output of one call with a batch of ``rows``."""
        options = {"dtype": self.unet.dtype, "device": self.model.device}
        tokens = self.model.tokenizer.model_max_length, self.unet.config.cross_attention_dim
        x = torch.zeros(rows, *self.shape, **options).requires_grad_(grad)
        c = Conditioning(torch.zeros(rows, *tokens, **options), ((),) * rows, "")
        return x, call_unet(self.unet, x, 0, c)

    def operations(self) -> float:
        """Operations of one call with one image; attention is counted as matrix products."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            with sdpa_kernel(SDPBackend.MATH):
                self(1)
        return float(counter.get_total_flops())

    def observe(self, plan: Plan) -> tuple[int, int]:
        """Bytes of an inversion: of one step at the highest point, and of all activations kept."""
        if not plan.layer_patterns:
            return highest(lambda: self(1)), 0
        layers = plan.cached_layers()
        most, every = max(layers, key=len), frozenset[str]().union(*layers)
        with watch(self.unet, plan.layer_patterns, keep=most) as observed:
            peak = highest(lambda: self(1))
        if every != most:  # no level keeps all of them
            with watch(self.unet, plan.layer_patterns, keep=every) as observed, torch.no_grad():
                self(1)
        latents = torch.empty(1, *self.shape)
        source = self._observation(latents, latents, observed)
        levels = Counter(filter(None, layers)).items()
        return peak, sum(count * _activation_bytes(source.only(each)) for each, count in levels)

    def step(self, plan: Plan) -> int:
        """Bytes at the highest point of a step's prediction; changed layers are copied."""
        rows, layers = 2 + (not plan.settings.cache_source), plan.attention_layers
        if not layers:
            return highest(lambda: self(rows))

        def change(_: str, output: Tensor) -> Tensor:
            return torch.cat([_replaced(part) for part in output.chunk(rows)])

        with change_layers(self.unet, layers, change):
            return highest(lambda: self(rows))

    def guide(self, plan: Plan) -> int:
        """Bytes at the highest point of one guided step; see ``_measured_loss`` for the losses."""
        first = int(not plan.settings.cache_source)  # row of the edited image
        rows = first + (2 if plan.settings.guidance_prompt == "both" else 1)
        losses = [_measured_loss(each) for each in plan.guidance]

        def step() -> Tensor:
            with torch.enable_grad(), watch(self.unet, plan.guidance_layers) as observed:
                batch = self._observation(*self(rows, grad=True), observed)
                source = batch.rows(slice(1)).detach()
                views = [batch.rows(slice(i, i + 1)) for i in range(first, rows)]
                loss = torch.stack([loss(source, view) for loss in losses for view in views]).sum()
                return torch.autograd.grad(loss, batch.x)[0]

        return highest(step)

    @staticmethod
    def _observation(x: Latents, eps: Latents, outputs: LayerOutputs) -> Observation:
        rows = len(x)
        return Observation(x, eps, ((),) * rows, (0,) * rows, outputs.maps, outputs.features)


def _activation_bytes(observation: Observation) -> int:
    parts = (*observation.maps.values(), *observation.features.values())
    return sum(part.nbytes for part in parts)


class _FirstPatches(Contrastive):
    """Compares the first patches: those that are drawn are cached, and would be fake tensors."""

    def _positions(self, seed: int, name: str, h: int, w: int, device: torch.device) -> Tensor:
        return torch.arange(min(h * w, self.patches), device=device)


def _measured_loss(guidance: Guidance) -> Callable[[Observation, Observation], PerImage]:
    """A loss with the tensors of another one: the contrastive loss, else a sum of squares.

    A loss of another package may depend on values, which fake tensors do not have.
    """
    if type(guidance) is Contrastive:
        return _FirstPatches(
            **{each.name: getattr(guidance, each.name) for each in fields(guidance)}
        )

    def squares(source: Observation, edited: Observation) -> PerImage:
        edited = edited.only(guidance.layer_patterns)
        pairs = [(source.maps[name], part) for name, part in edited.maps.items()]
        pairs += [(source.features[name], part) for name, part in edited.features.items()]
        pairs = pairs or [(source.eps, edited.eps)]  # of a loss without layers
        terms = [(part - given).float().square().sum() for given, part in pairs]
        return torch.stack(terms).sum().view(1)

    return squares


def _replaced(layer: Tensor) -> Tensor:
    """A copy with the temporaries of an attention control: those of maps are in float32."""
    if layer.ndim == 3:
        return layer
    source, maps = layer.float(), layer.float().clone()
    return (maps / maps.sum(-1, keepdim=True)).to(source.dtype).to(layer.dtype)


def padded_sizes(
    model: Any, working_size: WorkingSize, size: tuple[int, int]
) -> tuple[int, int, tuple[int, int, int]]:
    """Height and width of the padded image, and the shape of its latents."""
    width, height = working_size.padded(size)
    factor = model.vae_scale_factor
    shape = (int(model.unet.config.in_channels), height // factor, width // factor)
    return height, width, shape


def fake_copy(network: Any) -> Any:
    """The network with fake weights, created in its dtype since fake tensors cannot be cast."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(network.dtype)
    try:
        with torch.device(network.device):
            return type(network).from_config(network.config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


class _AllocationCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Tracks the memory of tensors while they exist; views share the memory of their base."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.current = self.highest = 0
        self.tracked: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self.tracked.add(tensor.untyped_storage())
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self.tracked:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, memory: torch.UntypedStorage) -> None:
        self.tracked.add(memory)
        size = memory.nbytes()
        self.current += size
        self.highest = max(self.highest, self.current)
        weakref.finalize(memory, self._remove, size)

    def _remove(self, size: int) -> None:
        self.current -= size
