"""The folder: its plan is fixed by whoever comes first, and another folder is reported."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyberun_async.batch import LedgerDamagedError, LedgerWriteError
from cyberun_async.cluster import ClusterError
from cyberun_async.cluster._folder import Plan, confirm, known, settle


def test_the_first_plan_stays(tmp_path: Path) -> None:
    """Whatever number of shards a later run wants, it gets the first one's."""
    plan = settle(str(tmp_path), 7)

    assert plan.shards == 7
    assert settle(str(tmp_path), 9) == known(str(tmp_path)) == plan
    assert [path.name for path in tmp_path.iterdir()] == ["batch.json"]


def test_many_at_once_agree(tmp_path: Path) -> None:
    """Programs that come at the same moment get one plan."""
    with ThreadPoolExecutor(8) as pool:
        plans = set(pool.map(lambda shards: settle(str(tmp_path), shards), range(1, 33)))

    assert len(plans) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["batch.json"]


def test_another_folder_of_the_same_name_is_reported(tmp_path: Path) -> None:
    """Where the folder is not shared, a shard would begin anew: it does not begin at all."""
    here, there, nowhere = tmp_path / "here", tmp_path / "there", tmp_path / "nowhere"
    for folder in (here, there, nowhere):
        folder.mkdir()
    plan = settle(str(here), 3)
    settle(str(there), 3)
    confirm(here, plan)

    for folder in (there, nowhere):
        with pytest.raises(ClusterError, match="is not shared"):
            confirm(folder, plan)


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"version": 1, "shards": 3}', '{"version": 2, "folder_id": "x", "shards": 3}'],
    ids=["empty", "odd", "cut", "newer"],
)
def test_a_plan_that_cannot_be_read_is_reported(tmp_path: Path, content: str) -> None:
    """Nothing is guessed: with another number of shards, jobs would be submitted again."""
    (tmp_path / "batch.json").write_text(content)

    with pytest.raises(LedgerDamagedError):
        settle(str(tmp_path), 3)


def test_ledgers_without_a_plan_are_refused(tmp_path: Path) -> None:
    """A folder that lost its plan does not begin anew, which would submit all jobs again."""
    (tmp_path / "shard-00000.0001.sqlite").touch()

    with pytest.raises(LedgerDamagedError, match="restore it to continue"):
        settle(str(tmp_path), 3)
    assert not (tmp_path / "batch.json").exists()


def test_a_folder_that_is_missing_is_reported(tmp_path: Path) -> None:
    """It is not made, as on another machine it would be another one."""
    with pytest.raises(LedgerWriteError, match="give a folder that all workers share"):
        settle(str(tmp_path / "missing"), 3)


def test_the_plan_is_plain(tmp_path: Path) -> None:
    """A person can read what a folder is."""
    plan = settle(str(tmp_path), 4)

    written = json.loads((tmp_path / "batch.json").read_text())
    assert written == {"version": 1, "folder_id": plan.folder_id, "shards": 4}
    assert Plan(written["folder_id"], written["shards"]) == plan
