"""Leases: one holder at a time, and whoever was overtaken finds out."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyberun_async.batch import LedgerError, LedgerWriteError
from cyberun_async.cluster import LeaseLostError
from cyberun_async.cluster._lease import Lease, claim, epochs


HOLDER = "tcp://127.0.0.1:1"
OTHER = "tcp://127.0.0.1:2"


def test_the_first_claim_holds(tmp_path: Path) -> None:
    """The first epoch is 1, and its lease says who has it."""
    lease = claim(tmp_path, 3, HOLDER)
    lease.check()

    assert lease == Lease(tmp_path, 3, 1)
    reported = json.loads(lease.path.read_text())
    assert (reported["worker"], reported["process"]) == ("tcp://127.0.0.1:1", os.getpid())


def test_a_newer_epoch_ends_the_older(tmp_path: Path) -> None:
    """The older holder learns by whom it was overtaken; the newer one continues."""
    old = claim(tmp_path, 0, HOLDER)
    new = claim(tmp_path, 0, OTHER)
    new.check()

    assert new.epoch == 2
    with pytest.raises(LeaseLostError, match=r"epoch 2 on tcp://127\.0\.0\.1:2") as caught:
        old.check()
    assert caught.value.epoch == 1
    assert isinstance(caught.value, LedgerError)


def test_shards_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A lease of one shard says nothing about another."""
    first = claim(tmp_path, 1, HOLDER)
    claim(tmp_path, 11, OTHER)
    first.check()

    assert epochs(tmp_path, 1, ".lease") == [1]


def test_many_claims_at_once_leave_one_holder(tmp_path: Path) -> None:
    """Each claimant gets an epoch of its own, and only the highest holds."""
    with ThreadPoolExecutor(8) as pool:
        leases = list(pool.map(lambda _: claim(tmp_path, 0, HOLDER), range(40)))
    newest = max(leases, key=lambda each: each.epoch)
    newest.check()

    assert sorted(each.epoch for each in leases) == list(range(1, 41))
    for each in leases:
        if each != newest:
            with pytest.raises(LeaseLostError):
                each.check()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"ended_by": "epoch 2"}'], ids=["empty", "cut", "odd", "ended"]
)
def test_in_doubt_a_lease_has_ended(tmp_path: Path, content: bytes) -> None:
    """A lease that is cut or was overwritten lets nothing through, newer file or not."""
    lease = claim(tmp_path, 0, HOLDER)
    lease.path.write_bytes(content)

    with pytest.raises(LeaseLostError):
        lease.check()


def test_a_lease_that_is_gone_has_ended(tmp_path: Path) -> None:
    """Whoever removes the folder's files stops the work."""
    lease = claim(tmp_path, 0, HOLDER)
    lease.path.unlink()

    with pytest.raises(LeaseLostError, match="cannot be read"):
        lease.check()


def test_a_newer_file_alone_ends_a_lease(tmp_path: Path) -> None:
    """A claimant that died before it ended the older lease has the shard all the same."""
    lease = claim(tmp_path, 0, HOLDER)
    Lease(tmp_path, 0, 2).path.touch()

    with pytest.raises(LeaseLostError, match="newer"):
        lease.check()


def test_whether_there_is_a_newer_one_has_to_be_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that does not tell is one in doubt."""
    lease = claim(tmp_path, 0, HOLDER)

    def stat(path: Path, **_: bool) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(LeaseLostError, match=r"cannot be seen \(Permission denied\)"):
        lease.check()


def test_a_claim_ends_all_before_it(tmp_path: Path) -> None:
    """Also where the claimant between died before it ended the lease before."""
    oldest = claim(tmp_path, 0, HOLDER)
    between = Lease(tmp_path, 0, 2)
    between.path.write_bytes(oldest.path.read_bytes())
    claim(tmp_path, 0, OTHER)
    between.path.unlink()  # as where it comes to be seen late

    with pytest.raises(LeaseLostError, match="epoch 3 on"):
        oldest.check()


def test_a_lease_comes_to_be_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that cannot be written, as on a full disk, leaves nothing behind."""

    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(LedgerWriteError, match="No space left"):
        claim(tmp_path, 0, HOLDER)

    assert list(tmp_path.iterdir()) == []


def test_an_epoch_that_has_a_ledger_is_not_claimed_again(tmp_path: Path) -> None:
    """Leases that were removed do not let a shard begin anew beside its ledgers."""
    lease = claim(tmp_path, 0, HOLDER)
    lease.ledger.touch()
    lease.path.unlink()

    assert claim(tmp_path, 0, HOLDER).epoch == 2


def test_a_folder_that_is_missing_is_reported(tmp_path: Path) -> None:
    """A folder that not all workers share is a typed error."""
    with pytest.raises(LedgerWriteError, match="cannot be claimed: No such file"):
        claim(tmp_path / "elsewhere", 0, HOLDER)
