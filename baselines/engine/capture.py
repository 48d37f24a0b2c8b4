"""Sequences of updates as CUDA graphs: one launch instead of thousands."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import torch

Sequence = tuple[Hashable, ...]


class CapturedUpdates:
    """Runs sequences of updates, each as one CUDA graph once it has been run before.

    The first time a sequence comes up it runs as it is, on a side stream: libraries allocate what
    they need, and the updates count. The second time it is captured, and from then on replayed.

    Args:
        update: Takes one update of a phase, without host synchronisation, on tensors that stay.
        device: The GPU.
    """

    def __init__(self, update: Callable[[Hashable], None], device: torch.device):
        self._update = update
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._seen: set[Sequence] = set()
        self._graphs: dict[Sequence, torch.cuda.CUDAGraph] = {}

    def run(self, phases: Sequence) -> None:
        """Takes the updates of these phases, one after the other."""
        if phases not in self._seen:
            self._run_aside(phases)
            self._seen.add(phases)
            return
        if phases not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.device(self._device), torch.cuda.graph(graph):
                for phase in phases:
                    self._update(phase)
            self._graphs[phases] = graph
        self._graphs[phases].replay()

    def _run_aside(self, phases: Sequence) -> None:
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            for phase in phases:
                self._update(phase)
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
