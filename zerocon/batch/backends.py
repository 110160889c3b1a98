"""Backends of a run: this process, several on this machine, or the actors of a Ray cluster."""

from __future__ import annotations

import queue
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, redirect_stdout
from importlib import import_module
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any

from zerocon import api
from zerocon.batch.commit import recover
from zerocon.batch.executor import BatchExecutor, ExecutedJob, NoResult, SourceImage, reason
from zerocon.batch.job import Job
from zerocon.batch.journal import ENDED, Journal
from zerocon.batch.launcher import launch
from zerocon.batch.parameters import RunParameters
from zerocon.batch.worker import PAUSE, JobExecutor, JobResult, Worker
from zerocon.cache import Cache
from zerocon.errors import MissingPackageError, ZeroconError
from zerocon.model import Model

Results = Generator[JobResult]


def run_local(
    journal: Journal,
    run: int,
    model: Model,
    batch_size: int,
    on_warning: Callable[[str], None] | None = None,
) -> Results:
    """Work in this process, ``batch_size`` images at a time."""
    parameters = RunParameters.from_json(journal.parameters(run))
    executor = _executor(model, parameters, on_warning)
    return Worker.of(journal, run, executor, batch_size)()


def run_processes(journal: Journal, run: int, command: Sequence[str], count: int) -> Results:
    """Work in ``count`` processes of ``command``; this one only reads the journal.

    A process that dies is started again, and its jobs go to the first worker that asks.

    Raises:
        ZeroconError: If the processes give up.
    """
    finished = set(journal.names(run, *ENDED))
    module, *arguments = command
    processes = launch(module, arguments, count)
    try:
        status: int | None = None
        while status is None:
            status = processes.poll()
            for name in journal.names(run, *ENDED):
                if name not in finished and (record := journal.record(name)):
                    finished.add(name)
                    yield JobResult(record)
            sleep(PAUSE)
    finally:
        if processes.poll() is None:
            processes.send_signal(signal.SIGTERM)
            processes.wait()
        recover(journal)
    if status:
        raise ZeroconError(f"the worker processes ended with exit status {status}; see above")


def run_on_ray(journal: Journal, run: int, batch_size: int, workers: int) -> Results:
    """Work in actors of the Ray cluster that is running, or of a new one on this machine.

    ``workers`` 0 is one actor per GPU of the cluster, or else per CPU core. Journal, images and
    results stay here: actors receive the content of an image and return that of the result. Only
    files of directions and masks must be where actors can read them. An actor that dies is started
    again and its call repeated.

    Raises:
        MissingPackageError: If Ray is not installed.
    """
    try:
        ray: Any = import_module("ray")  # an optional dependency, types included
    except ImportError:
        raise MissingPackageError(
            'Ray is not installed; install it with: pip install ".[ray]"'
        ) from None
    if not ray.is_initialized():
        with TemporaryDirectory() as empty:
            # else actors would import any torch.py of the working directory
            safe = {"working_dir": empty}
            ray.init(log_to_driver=False, configure_logging=False, runtime_env=safe)
    parameters = RunParameters.from_json(journal.parameters(run))
    actors = _actors(ray, parameters, workers)
    executors = [_remote(ray, actor) for actor in actors]
    try:
        with redirect_stdout(sys.stderr):  # where Ray reports actors that died
            yield from run_threads(journal, run, executors, batch_size)
    finally:
        for actor in actors:
            ray.kill(actor)


class RayExecutor:
    """A ``BatchExecutor`` in another process, built from the parameters of a run."""

    def __init__(self, parameters: RunParameters) -> None:
        model = api.load(parameters.model, **parameters.load)
        self.executor = _executor(model, parameters)

    def execute(self, jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | NoResult]:
        """Execute jobs; errors are converted to ones that can be pickled."""
        return [
            result
            if isinstance(result, ExecutedJob) or isinstance(result.error, ZeroconError)
            else NoResult(ZeroconError(reason(result.error)), result.caption)
            for result in self.executor(jobs)
        ]


def run_threads(
    journal: Journal, run: int, executors: Sequence[JobExecutor], batch_size: int
) -> Results:
    """Work with several executors at once, one worker and one thread for each."""
    results, stop = queue.Queue[JobResult | BaseException | None](), threading.Event()

    def work(execute: JobExecutor) -> None:
        try:
            with closing(Worker.of(journal, run, execute, batch_size)()) as worker:
                for result in worker:
                    results.put(result)
                    if stop.is_set():
                        break
        except BaseException as error:
            results.put(error)
        finally:
            results.put(None)

    threads = [threading.Thread(target=work, args=(execute,)) for execute in executors]
    for thread in threads:
        thread.start()
    try:
        working = len(threads)
        while working:
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            working -= result is None
            if result is not None:
                yield result
    finally:
        stop.set()
        for thread in threads:  # they finish the jobs that they are executing
            thread.join()


def _actors(ray: Any, parameters: RunParameters, workers: int) -> list[Any]:
    """Start actors: so many, or one per GPU of the cluster, or else one per CPU core."""
    resources: Any = ray.cluster_resources()
    gpus, cpus = (int(resources.get(name, 0)) for name in ("GPU", "CPU"))
    needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": int(gpus > 0)}
    actor: Any = ray.remote(max_restarts=-1, max_task_retries=-1, **needs)(RayExecutor)
    return [actor.remote(parameters) for _ in range(workers or gpus or cpus)]


def _remote(ray: Any, actor: Any) -> JobExecutor:
    def execute(jobs: Sequence[tuple[Job, SourceImage]]) -> list[ExecutedJob | NoResult]:
        results: list[ExecutedJob | NoResult] = ray.get(actor.execute.remote(list(jobs)))
        return results

    return execute


def _executor(
    model: Model, parameters: RunParameters, on_warning: Callable[[str], None] | None = None
) -> BatchExecutor:
    cache = Cache(on_warning=on_warning) if parameters.cache else None
    return BatchExecutor(
        model,
        metadata=parameters.metadata,
        cache=cache,
        segmenter=parameters.segmenter,
        reading=parameters.reading,
    )
