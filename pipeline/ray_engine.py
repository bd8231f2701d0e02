"""The batch's photos on Ray Data: the same steps, in worker processes on one machine or a cluster.

Ray is the extra `scale`. Where RAY_ADDRESS names a cluster it is used, else one is started on this machine. Every
machine must see the photos under the same paths.
"""

import json
import logging
import os
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Iterable, Iterator

from common.errors import UserError
from pipeline.engines import Decide, Outcome, Worker
from pipeline.run import commenter_of

AT_ONCE = 8  # photos that a worker takes at a time
BLOCKS = 8  # parts of the work for each worker, at least: what a dead worker had in hand is done again
MOST_IN_BLOCK = 256


def need_ray() -> None:
    """Look for the library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import ray.data  # noqa: F401
    except ImportError:
        raise UserError('--engine ray needs Ray: `pip install "ray[data]"`, or use --engine local') from None


class RayEngine:
    """Worker processes with one thread and one copy of the models each.

    Duplicates are told in a first pass that only decodes; the second one comments the other photos. A worker that dies
    is started again and its photos are redone. Rows are those of the local engine.
    """

    def __init__(self, args: Namespace):
        self.args = args

    def __enter__(self) -> "RayEngine":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this computer
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is raised
        import ray.data

        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        own = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": self.args.workers, "include_dashboard": False}
        try:
            ray.init(logging_level="error", log_to_driver=False, **own)
        except Exception as error:  # Ray raises plain Exceptions where a part of it does not come up
            ray.shutdown()
            raise UserError(f"Ray did not start: {' '.join(str(error).split())[:200]}") from None
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        return self

    def __exit__(self, *_) -> None:
        import ray

        ray.shutdown()

    def outcomes(self, names: Iterable[str], decide: Decide) -> Iterator[Outcome]:
        """See `pipeline.engines.Engine`."""
        names = list(names)
        if self.args.keep_duplicates:
            yield from self._map(Commenting, names)
            return
        known = []
        for outcome in self._map(Opening, names):
            decide(outcome)
            known.append(outcome)
        rows = self._map(Commenting, [o.name for o in known if not o.original])
        for outcome in known:
            if not outcome.original:
                outcome.row = next(rows).row
            yield outcome

    def _map(self, step: type["Step"], names: list[str]) -> Iterator[Outcome]:
        """Each name's outcome of a step, in order, as they are done."""
        if not names:
            return
        import ray

        blocks = min(len(names), max(BLOCKS * self.args.workers, -(-len(names) // MOST_IN_BLOCK)))
        data = ray.data.from_items([{"name": json.dumps(name)} for name in names], override_num_blocks=blocks)
        done = data.map_batches(
            step,
            fn_constructor_args=(self.args,),
            batch_size=AT_ONCE,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=self.args.workers),
        )
        for row in done.iter_rows():
            size = row["size"] and tuple(json.loads(row["size"]))
            yield Outcome(json.loads(row["name"]), row["digest"] or None, size or None, None, json.loads(row["row"]))


class Step(ABC):
    """What an actor does with a batch of names; all columns are text, which Ray passes on unchanged."""

    def __init__(self, args: Namespace):
        commenter = commenter_of(args, workers=1)
        self.worker = Worker(commenter, args.count, args.seed, hashes=not args.keep_duplicates)

    def __call__(self, batch: dict) -> dict:
        done = [self.outcome(json.loads(name)) for name in batch["name"]]
        return {
            "name": [json.dumps(o.name) for o in done],
            "digest": [o.digest or "" for o in done],
            "size": [json.dumps(o.size) if o.size else "" for o in done],
            "row": [json.dumps(o.row) for o in done],
        }

    @abstractmethod
    def outcome(self, name: str) -> Outcome:
        """One photo's."""


class Opening(Step):
    """Decodes and hashes; loads no model."""

    def outcome(self, name: str) -> Outcome:
        return self.worker.open(name)[0]


class Commenting(Step):
    """Comments."""

    def __init__(self, args: Namespace):
        super().__init__(args)
        self.worker.commenter.load()
        self.worker.hashes = False

    def outcome(self, name: str) -> Outcome:
        return self.worker.finish(self.worker.open(name))
