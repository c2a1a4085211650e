"""
Write a pickle of every public class that can be pickled: ``python tests/contract/pickles/make.py``.

What lies there is never written again, since what a user's program has pickled cannot be
either: a class that has its file is left as it is, and a new one is added.
"""

import pickle
import sys
from pathlib import Path
from typing import Any, Final


HERE: Final = Path(__file__).parent
# The lowest protocol that every supported Python writes by itself.
PROTOCOL: Final = 4


def examples() -> dict[str, Any]:
    """Return an example of each class, by the public name of the class."""
    from cyberun_async import batch
    from tests.model import test_errors, test_models, test_values

    found: dict[str, Any] = {}
    every: list[Any] = [*test_values.EXAMPLES, *test_models.EXAMPLES, *test_errors.EXAMPLES]
    for example in every:
        kind = type(example)
        found.setdefault(f"{kind.__module__}.{kind.__qualname__}", example)
    handle: Any = found["cyberun_async.Outcome"].handle
    found["cyberun_async.TaskHandle"] = handle
    ledger = (batch.LedgerError, batch.LedgerBusyError, batch.LedgerDamagedError)
    for kind in (*ledger, batch.LedgerVersionError, batch.LedgerWriteError):
        found[f"{kind.__module__}.{kind.__name__}"] = kind(Path("runs.sqlite"), "cannot be used")
    for error in (
        batch.InvalidJobsError([found["cyberun_async.batch.JobFault"]]),
        batch.UncertainSubmissionsError([found["cyberun_async.batch.UnconfirmedSubmission"]]),
        batch.BatchStoppedError(found["cyberun_async.batch.JobOutcome"]),
    ):
        found[f"{type(error).__module__}.{type(error).__name__}"] = error
    return found


def main() -> None:
    for name, example in examples().items():
        path = HERE / f"{name}.pickle"
        if not path.exists():
            path.write_bytes(pickle.dumps(example, PROTOCOL))


if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parents[2]))
    main()
