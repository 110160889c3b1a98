"""Everything that is done to ``zerocon batch``, how often, and what must then hold."""

from __future__ import annotations

from stress import inputs, signals, storage
from stress.trials import KILL, Fault

WHOLE = "every result there once with the bytes of an undisturbed run, nothing left behind"
SAME = f"after the same command {WHOLE}"
STOPPED = f"exit code 130, nobody at work; {SAME}"
REFUSED = "exit code 2 in one line, no torn file"

FAULTS = {
    KILL: Fault(accidents.killed, 50, f"no torn file; {SAME}"),
    "SIGTERM": Fault(accidents.terminated, 10, STOPPED),
    "Ctrl-C": Fault(accidents.interrupted, 10, STOPPED),
    "disk full": Fault(damage.disk_full, 5, f"{REFUSED}; with space {WHOLE}"),
    "disk of the cache full": Fault(damage.cache_full, 1, f"a warning; {WHOLE}"),
    "output folder removed": Fault(damage.removed, 3, f"{REFUSED}, no new folder; {SAME}"),
    "output folder read-only": Fault(damage.readonly, 3, f"{REFUSED}; {SAME}"),
    "result cut off, changed or deleted": Fault(
        damage.damaged, 9, f"--resume makes just those again; {WHOLE}"
    ),
    "journal cut off or overwritten": Fault(
        damage.garbage, 12, "one clear line, or all as it was; no result changed"
    ),
    "cache entries changed": Fault(damage.cache_changed, 2, f"a warning; {WHOLE}"),
    "two batches at once": Fault(accidents.twice, 5, f"exit code 0, no edit twice; {WHOLE}"),
    "clock jumps back": Fault(accidents.clock, 2, f"no edit twice; {WHOLE}"),
    "bad picture": Fault(crowds.images, 100, "a reason with an id; the good ones edited"),
    "odd name": Fault(crowds.names, 30, "a result of the right bytes; too long: a reason"),
    "loop of links": Fault(crowds.loops, 1, WHOLE),
    "10000 edits, killed twice": Fault(
        crowds.manifest, 1, "planned in 60 s of a core and 2 GB; all orders known, no edit twice"
    ),
    "worker of --devices 2 killed": Fault(crowds.worker, 1, f"all told of once; {WHOLE}"),
    "leader of --devices 2 killed": Fault(crowds.leader, 1, SAME),
}
