"""What the run does for a load whose one dialog has people of all workers: it tells the workers of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from loadtest.worker_handle import WorkerHandle
from loadtest.worker_messages import AnyOrder, Enter, Finished, Gather, Meet, Reach


async def gather_all(workers: Sequence[WorkerHandle]) -> None:
    """Have the first worker create the dialog of everybody's people, and the others enter it."""
    met = await asyncio.gather(*(_order(worker, Meet()) for worker in workers))
    principals = [principal for each in met for principal in each.principals]
    made = await _order(workers[0], Gather(principals))
    await asyncio.gather(*(_order(worker, Enter(made.dialog, made.head)) for worker in workers))


async def reach_all(workers: Sequence[WorkerHandle]) -> None:
    """Wait until everybody has what the first worker's writer was acked."""
    reached = await _order(workers[0], Reach(0))
    await asyncio.gather(*(_order(worker, Reach(reached.head)) for worker in workers[1:]))


async def _order(worker: WorkerHandle, order: AnyOrder) -> Finished:
    answer = await worker.order(order)
    assert isinstance(answer, Finished)
    return answer
