"""Values of other libraries among the parameters: an error that says what to pass instead."""

import dataclasses
import enum
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import pytest

from cyberun_async import CyberunClient, InvalidInputError, ParameterDef, Workflow, validate
from cyberun_async.batch import Batch, InvalidJobsError, Job
from cyberun_async.testing import Simulator, virtual_backend


@pytest.fixture
def anyio_backend() -> Any:
    return virtual_backend()


class Scalar:
    """As NumPy makes them: a type that is called like Python's, and none of it."""

    shape: tuple[int, ...] = ()

    def item(self) -> bool:
        return True

    def tolist(self) -> bool:
        return True


Scalar.__name__ = Scalar.__qualname__ = "bool"
Scalar.__module__ = "numpy"


class Array(Scalar):
    shape = (3,)


class Model:
    def model_dump(self) -> dict[str, Any]:
        return {}


@attrs.frozen
class AttrsValue:
    a: int = 1


@dataclasses.dataclass
class DataValue:
    a: int = 1


class Colour(enum.Enum):
    RED = "red"


async def later() -> AsyncIterator[int]:
    yield 1


CASES: dict[str, tuple[Any, str]] = {
    "numpy-bool": (Scalar(), "pass its .item()"),
    "array": (Array(), "pass its .tolist()"),
    "enum": (Colour.RED, "pass its .value"),
    "date": (date(2026, 1, 1), "pass its .isoformat()"),
    "moment": (datetime(2026, 1, 1, tzinfo=UTC), "pass its .isoformat()"),
    "uuid": (UUID(int=1), "pass str() of it"),
    "decimal": (Decimal("1.5"), "pass float() or str() of it"),
    "fraction": (Fraction(1, 2), "pass float() or str() of it"),
    "set": ({1, 2}, "pass list() of it"),
    "generator": ((n for n in range(3)), "pass list() of it"),
    "model": (Model(), "pass its .model_dump(mode='json')"),
    "attrs": (AttrsValue(), "pass attrs.asdict() of it"),
    "dataclass": (DataValue(), "pass dataclasses.asdict() of it"),
    "asynchronous": (later(), "collect it into a list first"),
    "class": (int, "pass a value, not a class"),
    "bytes": (b"x", "upload it as a file"),
    "object": (object(), "pass a text, a number, a boolean, a list or a mapping"),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_value_that_is_no_json_says_what_to_pass(
    name: str, cyberun_simulator: Simulator, cyberun_client: CyberunClient
) -> None:
    """The error names the place, the type with its module, and what to pass in its place."""
    value, remedy = CASES[name]
    with pytest.raises(InvalidInputError) as caught:
        await cyberun_client.submit("text-to-image", {"prompt": {"deep": [value]}})

    said = str(caught.value)
    assert said.startswith("parameters.prompt.deep[0] is of type ")
    assert remedy in said
    assert cyberun_simulator.submissions == []


async def test_a_boolean_of_numpy_is_not_called_bool(cyberun_client: CyberunClient) -> None:
    """Its name alone would say that `bool` is not JSON."""
    with pytest.raises(InvalidInputError, match=r"of type numpy\.bool, which JSON cannot hold"):
        await cyberun_client.submit("text-to-image", {"upscale": Scalar()})


def test_the_check_of_a_definition_says_it_too() -> None:
    """A parameter that is to be True or False is reported of the scalar, not of `bool`."""
    flow = Workflow(
        id="1", slug="a", parameters=(ParameterDef(key="upscale", type="boolean"),)
    )  # fmt: skip
    with pytest.raises(InvalidInputError, match=r"not numpy.bool: pass its .item\(\)"):
        validate(flow, {"upscale": Scalar()})


async def test_a_job_of_a_batch_says_it_too(cyberun_client: CyberunClient, tmp_path: Path) -> None:
    """So does the fault of a job."""
    job = Job(key="a", workflow="text-to-image", parameters={"upscale": Scalar()})
    async with Batch(cyberun_client, tmp_path / "runs.sqlite") as batch:
        with pytest.raises(InvalidJobsError, match=r"numpy.bool, .*; pass its .item\(\)"):
            async for _ in batch.run([job]):
                pass
