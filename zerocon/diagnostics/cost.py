"""What an edit will cost, from shapes alone: nothing is computed, nothing held in memory.

Evaluations are counted by walking the real loops over a network that says nothing; operations and
memory by calling the real networks on tensors that have shapes and no values.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from zerocon.conditioning import Conditioning
from zerocon.diffusion import Schedule
from zerocon.editing import Plan, edit
from zerocon.evaluations import Evaluations, count, count_evaluations
from zerocon.image.transforms import shrunk
from zerocon.model.attention import call_unet, watch
from zerocon.observation import Observation, Observer
from zerocon.settings import Settings
from zerocon.tensor_types import Latents, Scalar
from zerocon.trajectory import Inversion


@dataclass(frozen=True)
class CostEstimate:
    """The cost of editing one picture.

    ``operations`` are floating-point operations of the U-Net, in all. Bytes: ``weights`` of the
    networks, ``remembered`` what is kept of the source at every step, ``working`` the most that is
    needed beside both at one time. Tensors are counted, what a device needs for itself is not.
    """

    evaluations: Evaluations
    operations: float
    weights: int
    remembered: int
    working: int

    @property
    def peak(self) -> int:
        """Bytes in all, at the highest point."""
        return self.weights + self.remembered + self.working


def estimate_cost(
    model: Any,
    settings: Settings,
    size: tuple[int, int],
    *,
    inverted: bool = False,
    watched: Collection[str] = frozenset(),
) -> CostEstimate:
    """What an edit of a picture of ``size`` (width, height) will cost on ``model``.

    ``inverted`` if its path to noise is known already; ``watched`` are the layers of which is also
    known what they showed there.
    """
    plan, networks = Plan.of(settings), (model.unet, model.vae, model.text_encoder)
    schedule = model.schedule(settings.steps)
    spent = evaluations(schedule, settings, inverted=inverted, watched=watched)
    height, width, shape = _sizes(model, size)
    with FakeTensorMode():
        unet, vae = map(_shadow, networks[:2])
        network = _Network(unet, model, shape)
        each = network.operations()
        looked, kept = network.observer(plan.layer_patterns)
        guidance_range = network.guide(plan) if plan.guidance else 0
        stepped = highest(lambda: network(2 + (not plan.settings.cache_source)))
        pixels = torch.empty(1, 3, height, width, dtype=model.vae.dtype, device=model.device)
        coded = highest(lambda: vae.decode(vae.encode(pixels).latent_dist.mode()))
    path = 2 * (settings.steps + 1) * torch.Size(shape).numel() * 4  # x and eps, float32
    return CostEstimate(
        evaluations=spent,
        operations=each * spent.total,
        weights=sum(p.nbytes for each in networks for p in each.parameters()),
        remembered=path + (kept * settings.steps if plan.settings.cache_source else 0),
        working=max(looked, guidance_range, stepped, coded),
    )


def operations(model: Any, size: tuple[int, int]) -> float:
    """Floating-point operations of one evaluation of the U-Net on a picture of ``size``."""
    with FakeTensorMode():
        return _Network(_shadow(model.unet), model, _sizes(model, size)[2]).operations()


def evaluations(
    schedule: Schedule,
    settings: Settings,
    *,
    inverted: bool = False,
    watched: Collection[str] = frozenset(),
) -> Evaluations:
    """Passes of the U-Net that an edit of one picture takes, finding the path to noise included.

    ``inverted`` and ``watched`` as in ``estimate_cost``.
    """
    own, silence = Plan.of(settings), cast(Any, _Silence())
    plan = replace(own, guidance=(_Still(),) * len(own.guidance))
    c, x = Conditioning(torch.zeros(1, 1, 1), ((0,),), ""), torch.zeros(1, 4, 8, 8)
    with count_evaluations() as spent:
        path = own.inverter(Observer(silence, c), x, schedule, (settings.seed,))
        inversion = Inversion.from_observations(
            path, schedule=schedule, captions=("",), model="", recipe={}
        )
        if inverted:
            again = own.settings.cache_source and not own.layer_patterns <= frozenset(watched)
            spent.forwards = schedule.steps if again else 0
        for _ in edit(silence, inversion, c, c, plan):
            pass
    return spent


def highest(call: Callable[[], object]) -> int:
    """Bytes of new tensors, at the highest point of a call."""
    with torch.no_grad(), _Ledger() as ledger:
        call()
    return int(ledger.highest)


class _Silence:
    """A network that predicts no noise at all, and whose passes are counted like any other's."""

    def eps(self, x: Latents, t: float, c: Conditioning) -> Latents:
        count(x)
        return 0 * x


@dataclass(frozen=True)
class _Still:
    """A guidance that watches nothing and wants nothing."""

    weight: float = 1.0
    layer_patterns: Collection[str] = frozenset()

    def __call__(self, source: Observation, edited: Observation) -> Scalar:
        return edited.eps.sum()


@dataclass(frozen=True)
class _Network:
    """A U-Net without values, and what it is called with."""

    unet: Any
    model: Any
    shape: tuple[int, int, int]

    def __call__(self, rows: int, *, grad: bool = False) -> tuple[Latents, Latents]:
        """One call on so many pictures: what went in, and what came out."""
        kind = {"dtype": self.unet.dtype, "device": self.model.device}
        words = self.model.tokenizer.model_max_length, self.unet.config.cross_attention_dim
        x = torch.empty(rows, *self.shape, **kind).requires_grad_(grad)
        c = Conditioning(torch.empty(rows, *words, **kind), ((),) * rows, "")
        return x, call_unet(self.unet, x, 0, c)

    def operations(self) -> float:
        """Of one call on one picture; attention as what it is, whatever kernel will do it."""
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            with sdpa_kernel(SDPBackend.MATH):
                self(1)
        return float(counter.get_total_flops())

    def observer(self, layer_patterns: Collection[str]) -> tuple[int, int]:
        """Bytes of watching the source at one step: at the highest point, and kept."""
        if not layer_patterns:
            return highest(lambda: self(1)), 0
        with watch(self.unet, layer_patterns) as seen:
            most = highest(lambda: self(1))
        return most, sum(part.nbytes for part in (*seen.maps.values(), *seen.features.values()))

    def guide(self, plan: Plan) -> int:
        """Bytes at the highest point of one guided step, the losses as large as what they see."""
        rows = (2 if plan.settings.guidance_prompt == "both" else 1) + (
            not plan.settings.cache_source
        )

        def step() -> Tensor:
            with torch.enable_grad(), watch(self.unet, plan.layer_patterns) as seen:
                x, _ = self(rows, grad=True)
                parts = (*seen.maps.values(), *seen.features.values())
                loss = torch.stack([(p - p.detach()).float().square().sum() for p in parts]).sum()
                return torch.autograd.grad(loss, x)[0]

        return highest(step)


def _sizes(model: Any, size: tuple[int, int]) -> tuple[int, int, tuple[int, int, int]]:
    """Height and width of the padded picture, and the shape of its latents."""
    width, height = (-(-side // model.multiple) for side in shrunk(size, model.size))
    cell = 2 ** (len(model.unet.config.block_out_channels) - 1)  # latents to a ``multiple``
    shape = (int(model.unet.config.in_channels), height * cell, width * cell)
    return height * model.multiple, width * model.multiple, shape


def _shadow(network: Any) -> Any:
    """The same network without values; it is made in its dtype, since values cannot be cast."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(network.dtype)
    try:
        with torch.device(network.device):
            return type(network).from_config(network.config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(before)


class _Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the memory of tensors as they come and go; views have none of their own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.highest = 0
        self.known: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, function: Any, _: Any, given: Any = (), named: Any = None) -> Any:
        for tensor in tree_leaves((given, named)):
            if isinstance(tensor, Tensor):
                self.known.add(tensor.untyped_storage())
        made = function(*given, **(named or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self.known:
                self._enter(tensor.untyped_storage())
        return made

    def _enter(self, memory: torch.UntypedStorage) -> None:
        self.known.add(memory)
        size = memory.nbytes()
        self.now += size
        self.highest = max(self.highest, self.now)
        weakref.finalize(memory, self._leave, size)

    def _leave(self, size: int) -> None:
        self.now -= size
