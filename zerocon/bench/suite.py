"""The timings of one device: a fixed list of cases in a limited time, the most important first."""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch

from zerocon import __version__, api
from zerocon.bench import speed
from zerocon.bench.baselines import ImageToImage, LEditsPP, Pix2PixZero
from zerocon.bench.random_weights import (
    SHAPES,
    ModelShape,
    random_captioner,
    random_model,
    random_scorer,
    random_unet,
)
from zerocon.bench.speed import Lap, Run, Timing
from zerocon.bench.tasks import choose
from zerocon.bench.unet_speed import LOOP_STEPS, UNET_CALL, UNET_LOOP, unet_operations, unet_runs
from zerocon.errors import MethodError
from zerocon.settings import PRESETS
from zerocon.world import caption

if TYPE_CHECKING:
    from zerocon.bench.inputs import SourceBatch
    from zerocon.model.stable_diffusion import StableDiffusion
    from zerocon.settings import Settings

WHOLE = "default with BLIP and CLIP"
COMPILATION = 90.0  # seconds of budget that a compiled case must find left
FEW_STEPS, FEW_IMAGES = 2, 2  # of warm-ups and of the tiny list


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        shape: Key of ``random_weights.SHAPES``.
        method: Key of ``runs``, or of ``unet_runs`` for a shape that zerocon does not support.
        images: Edited as one batch.
        compiled: Whether the U-Net is compiled.
        reserve: Seconds that must be left of the budget to begin.
        in_tiny: Whether the tiny list has it too.
    """

    shape: str
    method: str
    images: int = 1
    compiled: bool = False
    reserve: float = 10.0
    in_tiny: bool = True

    def tiny(self) -> Case:
        """The same with a small batch, and without reserve unless it compiles."""
        reserve = self.reserve if self.compiled else 0.0
        return Case(self.shape, self.method, min(self.images, FEW_IMAGES), self.compiled, reserve)


CASES = (
    Case("sd1", "default"),
    Case("sd1", "fast"),
    Case("sd1", WHOLE),
    Case("sd1", "default", images=8),
    Case("sd1", "default", compiled=True, reserve=COMPILATION),
    Case("sd1", "pix2pix-zero", reserve=40.0),
    Case("sd1", "paper", reserve=20.0),
    Case("sd1", "ledits++", reserve=20.0),
    Case("sd1", "img2img"),
    Case("sd1", "fast", images=8, in_tiny=False),
    Case("sdxl", UNET_CALL),
    Case("sdxl", UNET_LOOP),
    Case("sd1", "fast", compiled=True, reserve=COMPILATION, in_tiny=False),
    Case("sd1", "second edit"),
    Case("sd1", "img2img", images=8, reserve=20.0, in_tiny=False),
    Case("sdxl", UNET_CALL, images=8, in_tiny=False),
    Case("sd2", "default", reserve=20.0),
    Case("sd2", "fast", reserve=20.0, in_tiny=False),
    Case("sd1", "default", images=8, compiled=True, reserve=COMPILATION, in_tiny=False),
    Case("sdxl", UNET_LOOP, compiled=True, reserve=COMPILATION),
)


@dataclass(frozen=True)
class SuiteRow:
    """A case and its timing, or the reason why it has none."""

    case: Case
    timing: Timing | None
    reason: str = ""

    def times_limit(self, rate: float) -> float | None:
        """Seconds in units of those that the U-Net's operations take at ``rate``."""
        timing = self.timing
        return None if timing is None else timing.seconds * rate / timing.operations

    def to_json(self, rate: float) -> dict[str, Any]:
        """Case, timing and reason as JSON values."""
        case = {k: v for k, v in asdict(self.case).items() if k not in ("reserve", "in_tiny")}
        timing = {} if self.timing is None else asdict(self.timing)
        timing.pop("name", None)  # it is the case's method
        return case | timing | {"times_limit": self.times_limit(rate), "reason": self.reason}


@dataclass(frozen=True)
class Target:
    """A number that the measurements are compared with.

    Attributes:
        text: What is wanted.
        value: What was measured; None if it was not.
        met: Whether the value is as wanted; None without one.
    """

    text: str
    value: float | None
    met: bool | None


class Suite:
    """Times cases on one device, and generates the models that they need."""

    def __init__(
        self,
        device: torch.device,
        dtype: torch.dtype,
        *,
        tiny: bool = False,
        methods: Collection[str] = (),
    ) -> None:
        """Measure the device's rate.

        Args:
            device: Where the cases run.
            dtype: Of the weights.
            tiny: Time the same cases with small networks, few steps and small batches.
            methods: Time only the cases of these methods; all if empty.

        Raises:
            MethodError: There is no such method.
        """
        names = dict.fromkeys(case.method for case in CASES)
        for name in methods:
            if name not in names:
                raise MethodError(f'no method "{name}" in the list; there are: {", ".join(names)}')
        self.device, self.dtype, self.is_tiny = device, dtype, tiny
        cases = tuple(case.tiny() for case in CASES if case.in_tiny) if tiny else CASES
        self.cases = tuple(case for case in cases if not methods or case.method in methods)
        self.rate = speed.rate(device, dtype)
        self._steps = FEW_STEPS if tiny else None  # None: as many as each method takes
        self._operations: dict[str, float] = {}  # of one evaluation, by shape
        self._model: tuple[Any, Any] = (None, None)  # what was generated last, and for what

    @property
    def facts(self) -> dict[str, Any]:
        """The device and the versions, as JSON values."""
        cuda = self.device.type == "cuda"
        properties = torch.cuda.get_device_properties(self.device) if cuda else None
        return {
            "device": str(self.device),
            "card": properties.name if properties else None,
            "card_memory": properties.total_memory if properties else None,
            "dtype": str(self.dtype).removeprefix("torch."),
            "tiny": self.is_tiny,
            "rate": self.rate,
            "cuda": torch.version.cuda if cuda else None,
            "zerocon": __version__,
            **{name: version(name) for name in ("torch", "diffusers", "transformers")},
        }

    def run(self, budget: float) -> Iterator[SuiteRow]:
        """Time the cases in order; those for which the ``budget`` in seconds has no time left,
        and those that fail, get a reason."""
        start = perf_counter()
        for case in self.cases:
            left = budget - (perf_counter() - start)
            if left <= case.reserve:
                reason = f"{max(left, 0):.0f} s of the budget left, {case.reserve:.0f} s needed"
                yield SuiteRow(case, None, reason)
                continue
            try:
                row = SuiteRow(case, self._time(case))
            except Exception as error:  # of one pipeline or shape: the others are timed still
                row = SuiteRow(case, None, f"{type(error).__name__}: {error}".splitlines()[0])
            yield row

    def _time(self, case: Case) -> Timing:
        shape = SHAPES[case.shape].tiny() if self.is_tiny else SHAPES[case.shape]
        time = self._time_edit if shape.supported else self._time_unet
        return time(case, shape)

    def _time_edit(self, case: Case, shape: ModelShape) -> Timing:
        model = self._generate(case, shape)
        batch = speed.sources(model, case.images)
        run, short = (
            partial(runs(model, steps)[case.method], batch) for steps in (self._steps, FEW_STEPS)
        )
        runtime = model.runtime
        with runtime.using(runtime.compile) if case.compiled else nullcontext():
            # a short run would not make all calls that are to be compiled
            return self._measure(case, shape, run, run if case.compiled else short)

    def _time_unet(self, case: Case, shape: ModelShape) -> Timing:
        unet = self._keep(case.shape, lambda: random_unet(shape, self.device, self.dtype))
        network = torch.compile(unet) if case.compiled else unet
        steps = self._steps or LOOP_STEPS
        run = unet_runs(network, shape, self.device, case.images, steps)[case.method]
        return self._measure(case, shape, run, run)

    def _measure(
        self, case: Case, shape: ModelShape, run: Callable[[], Lap], warm_up: Callable[[], Lap]
    ) -> Timing:
        if case.shape not in self._operations:
            self._operations[case.shape] = unet_operations(shape)
        return speed.measure(
            case.method,
            run,
            self._operations[case.shape],
            self.device,
            warm_up=None if self.is_tiny and not case.compiled else warm_up,
        )

    def _generate(self, case: Case, shape: ModelShape) -> StableDiffusion:
        """The model of a case; only with ``WHOLE`` it has a captioner and CLIP."""
        options: dict[str, Any] = {}
        if case.method == WHOLE:
            text = caption(choose("validation", 1)[0].source)
            options["captioner"] = partial(random_captioner, self.device, text, tiny=self.is_tiny)
            options["scorer"] = partial(random_scorer, self.device, tiny=self.is_tiny)
        return self._keep(  # type: ignore[no-any-return]
            (case.shape, bool(options)),
            lambda: random_model(shape, self.device, self.dtype, **options),
        )

    def _keep(self, key: object, generate: Callable[[], Any]) -> Any:
        """What was generated last, if for the same key; there is memory for one."""
        if self._model[0] != key:
            self._model = (None, None)
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            self._model = (key, generate())
        return self._model[1]


def runs(model: StableDiffusion, steps: int | None) -> Mapping[str, Run]:
    """The methods that can be timed on a model, with so many steps instead of each one's number."""
    given = {} if steps is None else {"steps": steps}

    def settings(preset: Mapping[str, Any]) -> Settings:
        return model.settings.overlay(preset).overlay(given)

    return {
        "default": speed.timed_edit(model, settings({})),
        "second edit": speed.timed_edit(model, settings({}), inverted=True),
        "fast": speed.timed_edit(model, settings(PRESETS["fast"])),
        "paper": speed.timed_edit(model, settings(PRESETS["paper"])),
        WHOLE: whole_edit(model, settings({})),
        "pix2pix-zero": speed.timed_baseline(model, Pix2PixZero(**given)),
        "ledits++": speed.timed_baseline(model, LEditsPP(**given)),
        "img2img": speed.timed_baseline(model, ImageToImage(**given)),
    }


def whole_edit(model: StableDiffusion, settings: Settings) -> Run:
    """Edits one after the other, from the image to the reviewed result, captions included."""

    def run(batch: SourceBatch) -> Lap:
        speed.wait(model.device)
        start = perf_counter()
        edits = [
            api.edit(source.image, model=model, settings=settings, **source.task.prompt)
            for source in batch.sources
        ]
        speed.wait(model.device)
        return (perf_counter() - start) / len(edits), edits[0].evaluations.total

    return run


def targets(suite: Suite, rows: Sequence[SuiteRow]) -> list[Target]:
    """The measurements that matter most, next to what is wanted of them of a GPU.

    Without values on a CPU and for tiny networks, of which nothing is wanted.
    """
    if suite.is_tiny or suite.device.type == "cpu":
        rows = ()

    def find(method: str, *, many: bool = False, compiled: bool = False) -> SuiteRow | None:
        wanted = ("sd1", method, many, compiled)
        for row in rows:
            case = row.case
            if (case.shape, case.method, case.images > 1, case.compiled) == wanted:
                return row
        return None

    def timing(row: SuiteRow | None) -> Timing | None:
        return None if row is None else row.timing

    one, many = timing(find("default")), timing(find("default", many=True))
    compiled, whole = find("default", compiled=True), timing(find(WHOLE))
    limit = None if compiled is None else compiled.times_limit(suite.rate)
    memory = None if whole is None or whole.memory is None else whole.memory / 1e9
    gain = None if one is None or many is None else one.seconds / many.seconds
    return [
        _target("one image, compiled: at most 2.5 times the FLOP limit", limit, most=2.5),
        _target("one image with BLIP and CLIP: at most 8 GB", memory, most=8.0),
        _target("a batch: at least 1.5 times the throughput of single images", gain, least=1.5),
    ]


def _target(
    text: str, value: float | None, *, least: float = 0.0, most: float = float("inf")
) -> Target:
    return Target(text, value, None if value is None else least <= value <= most)


def to_json(suite: Suite, rows: Sequence[SuiteRow]) -> dict[str, Any]:
    """The rows so far with the device's facts, as JSON values (``zerocon.speed-suite/1``).

    Cases that have no row yet have one without a timing, in case that the run is interrupted.
    """
    rows = [*rows, *[SuiteRow(case, None, "not reached") for case in suite.cases[len(rows) :]]]
    return {
        "schema": "zerocon.speed-suite/1",
        **suite.facts,
        "rows": [row.to_json(suite.rate) for row in rows],
        "targets": [asdict(each) for each in targets(suite, rows)],
    }
