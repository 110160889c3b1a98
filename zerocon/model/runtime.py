"""Where and how networks compute: device, dtype, and options that can be switched on and off."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import RLock
from typing import Any, NamedTuple
from weakref import WeakSet

import torch

from zerocon.errors import DeviceNotFoundError, SettingError
from zerocon.model.attention import enable_checkpointing, weight_dtype
from zerocon.model.companion import Companion
from zerocon.model.determinism import deterministic
from zerocon.model.precision import cast, in_float32


class MemorySaving(NamedTuple):
    """One way to need less memory.

    Attributes:
        description: What it does, for a message.
        active: Saves memory inside its ``with`` block only.
    """

    description: str
    active: AbstractContextManager[None]


class Runtime:
    """Device, lock and compute options of a model's networks.

    Every option is off at first. ``tile``, ``offload``, ``checkpoint`` and ``compile`` switch one
    on or off; ``using`` does so for the length of a block.

    Attributes:
        device: Where the networks compute.
        lock: Re-entrant; held by every call of a network, since networks keep state.
        tiled: Whether the VAE works on overlapping tiles. Changes pixels.
        offloaded: Whether each network is kept in main memory until it is called.
        checkpointed: Whether activations are recomputed in the backward pass.
        upcasted: Whether the U-Net computes in float32 for a while.
        companions: Captioner, CLIP and segmentation model, as far as they are loaded.
        model_options: Load options that give another model than the files alone, by name.
    """

    def __init__(
        self, device: torch.device, *, unet: Any, vae: Any, text_encoders: Sequence[Any], tile: int
    ) -> None:
        """Move the networks to ``device``, frozen and in evaluation mode.

        Args:
            device: Where they compute.
            unet: diffusers' U-Net.
            vae: diffusers' autoencoder.
            text_encoders: transformers' text encoders.
            tile: Side of a tile of the VAE, in pixels.
        """
        self.device = device
        self.lock: AbstractContextManager[Any] = RLock()
        self.tiled = self.offloaded = self.checkpointed = self.upcasted = False
        self._unet, self._vae, self._tile = unet, vae, tile
        self._networks = (*text_encoders, unet, vae)  # in the order of their calls
        self._adopted: WeakSet[Any] = WeakSet()  # U-Nets made from the model's
        self._offload_hooks: list[Any] = []
        self._compiled: Any = None
        self.companions: list[Companion] = []
        self.model_options: dict[str, Any] = {}
        self._dtype = ""  # of the U-Net's weights, while it is upcasted
        if device.type == "cuda":  # read when the first matrix product is computed
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        for network in self._networks:
            network.to(device).eval().requires_grad_(False)

    @property
    def dtype(self) -> str:
        """The dtype of the networks' weights, for instance ``"float16"``."""
        return self._dtype if self.upcasted else self.unet_dtype

    @property
    def unet_dtype(self) -> str:
        """The dtype that the U-Net computes in: ``dtype``, or float32 while it is upcasted."""
        return str(weight_dtype(self._unet)).removeprefix("torch.")

    @property
    def compiled(self) -> bool:
        """Whether the U-Net is compiled."""
        return self._compiled is not None

    @property
    def compiled_unet(self) -> Any:
        """The compiled U-Net if there is one, else the U-Net itself."""
        return self._compiled if self.compiled else self._unet

    def compute_options(self) -> dict[str, Any]:
        """Everything about the computation that results may depend on, as JSON values."""
        upcasted = {"float32": "unet"} if self.upcasted else {}
        return {
            "device": self.device.type,
            "dtype": self.dtype,
            "tiled": self.tiled,
            "compiled": self.compiled,
            "offloaded": self.offloaded,
            "checkpointed": self.checkpointed,
            "threads": torch.get_num_threads(),
            **self.model_options,
            **upcasted,
        }

    def attach(self, companion: object) -> None:
        """Have a captioner, CLIP or segmentation model leave the device when the U-Net works."""
        if isinstance(companion, Companion):
            self.companions.append(companion)

    @contextmanager
    def working(self) -> Iterator[None]:
        """The block is the U-Net's work on an edit: companions leave the device before it."""
        for companion in self.companions:
            companion.release()
        with deterministic(self.device):
            yield

    def compile(self, on: bool = True) -> None:
        """Compile the U-Net for calls without gradients and without recorded layers.

        The first such call takes minutes, later ones of its shape less than before.
        """
        with self.lock:
            self._compiled = torch.compile(self._unet) if on else None

    def tile(self, on: bool = True) -> None:
        """Encode and decode in tiles that are blended where they overlap."""
        factor = 2 ** (len(self._vae.config.block_out_channels) - 1)
        with self.lock:
            if on:
                self._vae.enable_slicing()
                self._vae.enable_tiling()
                self._vae.tile_sample_min_size = self._tile
                self._vae.tile_latent_min_size = self._tile // factor
            else:
                self._vae.disable_slicing()
                self._vae.disable_tiling()
            self.tiled = on

    def offload(self, on: bool = True) -> None:
        """Keep each network in main memory until it is called."""
        with self.lock:
            if on and not self.offloaded:
                self._offload()
            elif not on:
                for hook in self._offload_hooks:
                    hook.remove()
                self._offload_hooks = []
                for network in (*self._networks, *self._adopted):
                    network.to(self.device)
            self.offloaded = on

    def park(self, on: bool = True) -> None:
        """Have companions compute in main memory, in float32."""
        for companion in self.companions:
            companion.park(on)

    def checkpoint(self, on: bool = True) -> None:
        """Keep only the inputs of the U-Net's blocks, and recompute the rest for the gradient."""
        with self.lock:
            if on:
                enable_checkpointing(self._unet)
            else:
                self._unet.disable_gradient_checkpointing()
            self.checkpointed = on

    @contextmanager
    def using(self, switch: Callable[[bool], None]) -> Iterator[None]:
        """Have an option on inside the block, and off again after it, also after an exception.

        The lock is held meanwhile: calls of other threads compute as before, and wait.

        Args:
            switch: A method of this object: ``tile``, ``offload``, ``checkpoint``, ``compile`` or
                ``park``. The option must be off.
        """
        with self.lock:
            try:
                switch(True)
                yield
            finally:
                switch(False)

    def adopt(self, unet: Any) -> None:
        """Have a U-Net that was made from the model's compute as that one does.

        On the same device, in the same dtype, and in float32 or from main memory whenever the
        model's own does so.
        """
        with self.lock:
            self._adopted.add(unet)
            unet.to(self.device)
            cast(unet, weight_dtype(self._unet))

    @contextmanager
    def upcast(self) -> Iterator[None]:
        """Have the U-Net compute in float32 inside the block; its weights are restored after it.

        Adopted ones do the same. The lock is held meanwhile. Without effect where it does so
        already.
        """
        with self.lock:
            if self.unet_dtype == "float32":
                yield
                return
            self._dtype = self.dtype
            with in_float32(self._unet):
                self.upcasted = True
                try:
                    for unet in self._adopted:
                        cast(unet, torch.float32)
                    yield
                finally:
                    self.upcasted = False
                    for unet in self._adopted:  # those adopted in the block too
                        cast(unet, getattr(torch, self._dtype))

    def parking(self) -> MemorySaving | None:
        """The way to need less memory that costs least, where a companion is on the device."""
        if not any(companion.on_device for companion in self.companions):
            return None
        return MemorySaving(
            "computing captions and similarities in main memory", self.using(self.park)
        )

    def memory_ladder(self, *, gradients: bool = True) -> Iterator[MemorySaving]:
        """Ways to need less memory that are not in use, the ones with the least cost first.

        ``parking`` comes before them. Those that save memory of gradients are left out where there
        are no ``gradients``.
        """
        if gradients and not self.checkpointed:
            yield MemorySaving(
                "recomputing activations in the backward pass", self.using(self.checkpoint)
            )
        if self.device.type != "cpu" and not self.offloaded:
            yield MemorySaving(
                "keeping networks in main memory until they are called", self.using(self.offload)
            )
        if not self.tiled:
            yield MemorySaving("encoding and decoding in tiles", self.using(self.tile))

    def _offload(self) -> None:
        from accelerate import cpu_offload_with_hook

        hook = None
        *others, vae = self._networks
        for network in (*others, *self._adopted, vae):  # each one's hook moves the one before back
            network.to("cpu")
            _, hook = cpu_offload_with_hook(network, self.device, prev_module_hook=hook)
            self._offload_hooks.append(hook)


def pick_device(device: str | None) -> torch.device:
    """The named device, by default the fastest kind that exists.

    Raises:
        SettingError: There is no such name.
        DeviceNotFoundError: The device is not on this machine.
    """
    exists = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    exists["cpu"] = True
    kinds = [kind for kind, available in exists.items() if available]
    if device is None:
        return torch.device(kinds[0])
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise SettingError(f'no device "{device}"; there are: {", ".join(kinds)}') from None
    count = torch.cuda.device_count() if chosen.type == "cuda" else 1
    if chosen.type not in kinds or (chosen.index or 0) >= count:
        raise DeviceNotFoundError(
            f'device "{device}" is not on this machine; there are: {", ".join(kinds)}'
        )
    return chosen


def pick_dtype(dtype: str | None, device: torch.device) -> torch.dtype:
    """The dtype named in a ``ModelSpec``, by default float32 on a CPU and float16 elsewhere."""
    if dtype is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen
