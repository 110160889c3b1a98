"""Where and how networks compute."""

from __future__ import annotations

import torch

from zerocon.errors import DeviceNotFoundError, SettingError


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
