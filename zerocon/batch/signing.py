"""Signatures of journals: those of this user are told from all others.

The key is 32 random bytes in the cache directory, readable by its owner only. Without one, or after
the cache directory was removed, journals are those of a stranger, which costs a longer command.
"""

from __future__ import annotations

import hmac
import os
import secrets
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from stat import S_ISREG

from zerocon.model.fingerprint import cache_folder
from zerocon.storage.atomic import writing

FILE, BYTES = "journal.key", 32


def sign(text: str) -> str | None:
    """The signature of a text; None where no key can be kept."""
    key = _key() or _new_key()
    return None if key is None else blake2b(text.encode(), key=key, digest_size=16).hexdigest()


def verify(text: str, signature: object) -> bool:
    """Whether ``sign`` made this signature of the text, with the key that is here now."""
    key = _key()
    if key is None or not isinstance(signature, str) or not signature.isascii():
        return False
    right = blake2b(text.encode(), key=key, digest_size=16).hexdigest()
    return hmac.compare_digest(right, signature)


def _path() -> Path | None:
    try:
        return cache_folder() / FILE
    except RuntimeError:  # there is no home directory
        return None


def _key() -> bytes | None:
    """The key, if no other user can have read or written it."""
    if (path := _path()) is None:
        return None
    try:
        stat = path.lstat()
        private = os.name == "nt" or (stat.st_uid == os.getuid() and not stat.st_mode & 0o077)
        usable = private and S_ISREG(stat.st_mode) and stat.st_size == BYTES
        key = path.read_bytes() if usable else b""
    except OSError:
        return None
    return key if len(key) == BYTES else None


def _new_key() -> bytes | None:
    """Write a key; that of another process that was faster is returned instead."""
    if (path := _path()) is None:
        return None
    with suppress(OSError, ValueError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # one that others could read or write is worth nothing, and is replaced
        with writing(path, overwrite=path.exists()) as temporary:
            temporary.chmod(0o600)
            temporary.write_bytes(secrets.token_bytes(BYTES))
    return _key()
