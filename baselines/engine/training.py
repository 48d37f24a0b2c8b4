"""Trains a population from its plan to its run records; resumes where it was interrupted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import hetero_bench
from baselines.engine.checkpoint import restore
from baselines.engine.display import Display
from baselines.engine.evaluators import Evaluators
from baselines.engine.ledger import Ledger
from baselines.engine.members import make_members
from baselines.engine.method import Method, get_method, method_forms
from baselines.engine.plan import Plan
from baselines.engine.precision import Precision, default_precision
from baselines.engine.preparation import action_kind
from baselines.engine.session import Session, claim
from baselines.engine.tensorboard import Curves
from baselines.engine.trainer import Trainer
from hetero_bench.runs import Run

CHUNK = 50
"""Updates between two looks at the clock."""


def make_plan(
    method: Method | str,
    datasets: Sequence[hetero_bench.Dataset | str],
    seeds: Sequence[int],
    configs: Any = None,
    *,
    steps: int,
    device: str = "cpu",
    log_every: int = 500,
    eval_every: int | None = None,
    evaluation_episodes: int | None = None,
    precision: Precision | None = None,
) -> Plan:
    """Makes the plan of one population: datasets × configs × seeds.

    Args:
        method: A method or its name.
        datasets: Datasets or their ids, with equal observation shapes and action spaces.
        seeds: Member seeds.
        configs: The method's ``Config``, several of them for a sweep, a function that returns these
            for a dataset, or None for the method's defaults for each dataset.
        steps: Gradient steps.
        device: ``cpu`` or a torch device.
        log_every: Steps between two points of the training curves.
        eval_every: Steps between two evaluations; None for the final one only.
        evaluation_episodes: Episodes per evaluation; None for the dataset's number.
        precision: Of the networks' matrix products; by default fp32 on a CPU, tf32 on a GPU.

    Raises:
        ValueError: If the method is unknown or not for the datasets' kind of action, or anything is
            missing or out of range.
        UnknownDatasetError: If no dataset has an id.
    """
    if isinstance(method, str):
        method_forms(method)  # an unknown name is told before data is loaded
    loaded = [hetero_bench.load(each) if isinstance(each, str) else each for each in datasets]
    if isinstance(method, str):
        if not loaded:
            raise ValueError("a population needs at least one dataset; got none")
        method = get_method(method, action_kind(loaded[0]))

    def configs_of(dataset: hetero_bench.Dataset) -> list[Any]:
        given = configs(dataset) if callable(configs) else configs
        given = method.config_for(dataset.spec) if given is None else given
        several = list(given) if isinstance(given, Sequence) else [given]
        for config in several:
            if not isinstance(config, method.config):
                expected = f"{method.config.__module__}.{method.config.__qualname__}"
                raise TypeError(f"{method.name} is configured by {expected}; got {config!r}")
        return several

    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} is not available; expected cpu here")
    return Plan(
        method=method,
        members=tuple(make_members(loaded, configs_of, seeds)),
        steps=steps,
        log_every=log_every,
        eval_every=eval_every,
        evaluation_episodes=evaluation_episodes,
        device=device,
        precision=default_precision(device) if precision is None else precision,
    )


def train(
    method: Method | str,
    datasets: Sequence[hetero_bench.Dataset | str],
    seeds: Sequence[int],
    configs: Any = None,
    *,
    steps: int,
    out: str | os.PathLike[str] = "runs",
    overwrite: bool = False,
    quiet: bool = False,
    **options: Any,
) -> list[Run]:
    """Trains datasets × configs × seeds as one population and writes one run JSON per member.

    The same call continues a run that was interrupted, with the result it would have had, and
    returns the records of one that has finished.

    Args:
        method: A method or its name.
        datasets: Datasets or their ids, with equal observation shapes and action spaces.
        seeds: Member seeds.
        configs: See :func:`make_plan`.
        steps: Gradient steps.
        out: Folder for results; see :meth:`~baselines.engine.plan.Plan.run_path`.
        overwrite: Replace finished results, of this run or of others.
        quiet: Show no progress.
        **options: Further arguments of :func:`make_plan`.

    Returns:
        (P,) run records, seeds varying fastest, then configs.

    Raises:
        FileExistsError: If results of another run would be overwritten.
        RuntimeError: If another process is training the same population.
    """
    plan = make_plan(method, datasets, seeds, configs, steps=steps, **options)
    return execute(plan, out, overwrite=overwrite, quiet=quiet)


def execute(
    plan: Plan,
    out: str | os.PathLike[str] = "runs",
    *,
    overwrite: bool = False,
    quiet: bool = False,
    on_step: Callable[[int], None] | None = None,
    on_stale: Callable[[str], None] | None = None,
    tensorboard: bool = False,
    evaluation_workers: int = 0,
    checkpoint_seconds: float = 30.0,
) -> list[Run]:
    """Carries a plan out; see :func:`train`.

    Args:
        plan: The population.
        out: Folder for results.
        overwrite: Replace finished results, of this run or of others.
        quiet: Show no progress.
        on_step: Called with the number of gradient steps done, now and then.
        on_stale: Called with the differences, such as ``commit abc, now def``, if what is continued
            or returned was trained by other code. They are shown, too, unless ``quiet``.
        tensorboard: Write training curves for TensorBoard beside the run records, too.
        evaluation_workers: Processes that evaluate while training goes on, with equal results; 0
            trains and evaluates in turn. An environment of one's own they find if its entry point
            was registered as text, ``module:Class``.
        checkpoint_seconds: Time between two checkpoints; they are taken where metrics are logged
            and no evaluation of an earlier step is still going on.
    """
    out = Path(out)
    with claim(plan.checkpoint_path(out)):
        display = Display(plan.title, plan.steps, quiet=quiet, on_step=on_step)
        session = TrainingSession(plan, out, display, overwrite=overwrite)
        if session.stale is not None and on_stale is not None:
            on_stale(session.stale)
        if not session.complete:
            curves = Curves(plan, out, session.ledger.step) if tensorboard else None
            session.train(checkpoint_seconds, curves, evaluation_workers)
        return session.record()


class TrainingSession(Session):
    """Work on a plan."""

    def __init__(self, plan: Plan, out: Path, display: Display, *, overwrite: bool):
        super().__init__(plan, plan, Ledger.begin(plan, overwrites=overwrite), out, display)

    def train(
        self, checkpoint_seconds: float, curves: Curves | None, evaluation_workers: int
    ) -> None:
        """Trains to the end, with logs, evaluations and checkpoints on the way.

        Evaluations may take place while training goes on. A checkpoint is only taken where all
        those of earlier steps are in the ledger: those of its own step can be begun again from it,
        so that a run that is killed loses none.
        """
        plan, ledger, display = self.plan, self.ledger, self.display
        trainer = Trainer.of(plan)
        if self.saved is not None:
            restore(trainer.state_dict(), self.saved)
            self._say_resuming()
        refreshed = ledger.refresh_seconds
        clock = saved_at = time.perf_counter()
        evaluators = Evaluators(plan, evaluation_workers, display.paused)
        with display.running(ledger.step), evaluators:
            self._begin_evaluations(evaluators, trainer)
            while ledger.step < plan.steps:
                stop = plan.next_stop(ledger.step)
                for step in range(ledger.step, stop, CHUNK):
                    trainer.advance(min(CHUNK, stop - step))
                    display.update(min(step + CHUNK, stop))
                if plan.evaluates_at(stop):
                    self._take_evaluations(evaluators, curves, wait=True)
                entry = self._advanced(stop, trainer)
                if curves is not None:
                    curves.log(entry)
                self._begin_evaluations(evaluators, trainer)
                self._take_evaluations(evaluators, curves)
                now = time.perf_counter()
                ledger.wall_seconds += now - clock
                ledger.refresh_seconds = refreshed + trainer.refresh_seconds
                clock = now
                due = stop == plan.steps or now - saved_at >= checkpoint_seconds
                if due and evaluators.step in (None, stop):
                    self._save(trainer.state_dict())
                    saved_at = now
            if not self.complete:
                self._take_evaluations(evaluators, curves, wait=True)
                ledger.wall_seconds += time.perf_counter() - clock
                self._save(trainer.state_dict())
        if curves is not None:
            curves.close()
        if ledger.refresh_seconds > 0.0:
            share = ledger.refresh_seconds / ledger.wall_seconds
            display.say(f"{display.title}: {share:.1%} of the time went into refreshing")
