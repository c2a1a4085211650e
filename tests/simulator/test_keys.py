"""Credentials: who is let in where."""

import httpx
import pytest

from cyberun_async.testing import Behaviour, Simulator


def code(sim: Simulator, path: str, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(
        sim.url + path, headers=named, trust_env=False, verify=False, timeout=10
    ).status_code


@pytest.mark.parametrize("path", ["/r/tasks", "/agents"])
def test_without_a_known_key_nobody_is_let_in(sim: Simulator, path: str) -> None:
    """No header, another scheme and an unknown key are answered with 401."""
    headers = [{}, {"Authorization": f"Basic {sim.key}"}, {"Authorization": "Bearer sk-unknown"}]

    assert [code(sim, path, **one) for one in headers] == [401, 401, 401]


def test_agent_keys_are_refused(sim: Simulator) -> None:
    """An agent's key opens nothing."""
    assert code(sim, "/r/tasks", Authorization=f"Bearer {sim.issue_key('ak')}") == 401


def test_a_jwt_needs_its_team(sim: Simulator) -> None:
    """A JWT without a team is 400, with a foreign one 403, with its own let in."""
    bearer = f"Bearer {sim.jwt}"

    assert sim.jwt.startswith("eyJ")
    assert code(sim, "/r/tasks", Authorization=bearer) == 400
    assert code(sim, "/r/tasks", Authorization=bearer, X_Team_ID="other") == 403
    assert code(sim, "/r/tasks", Authorization=bearer, X_Team_ID=sim.team_id) == 200


def test_keys_ignore_the_team_header(sim: Simulator) -> None:
    """`X-Team-ID` has no effect beside a key that is bound to a team."""
    for key in (sim.key, sim.device_key):
        assert code(sim, "/r/tasks", Authorization=f"Bearer {key}", X_Team_ID="other") == 200


def test_integration_keys_do_not_manage(sim: Simulator) -> None:
    """Management takes device keys and JWTs, integration keys only if so switched."""
    keys = [(sim.key, 403), (sim.device_key, 200)]
    for key, expected in keys:
        assert code(sim, "/agents", Authorization=f"Bearer {key}") == expected
    sim.behaviour = Behaviour(management_takes_integration_keys=True)

    assert code(sim, "/agents", Authorization=f"Bearer {sim.key}") == 200


def test_a_revoked_key_is_refused_at_once(sim: Simulator) -> None:
    """Revoking one key leaves the others working."""
    other = sim.issue_key("sk")
    sim.revoke(sim.key)

    assert code(sim, "/r/tasks", Authorization=f"Bearer {sim.key}") == 401
    assert code(sim, "/r/tasks", Authorization=f"Bearer {other}") == 200


def test_a_seed_makes_the_same_keys() -> None:
    """Two simulators with one seed issue the same keys, without a seed others."""
    assert Simulator(seed=3).key == Simulator(seed=3).key
    assert Simulator().key != Simulator().key
