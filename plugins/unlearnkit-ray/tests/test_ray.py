"""A run by a cluster of Ray on this machine, of which workers are killed, ends in the bytes of a run without."""

import pytest
from tiny_task import QUICK, WAYS, Killer, lasting, ran, write_tiny

pytest.importorskip("ray")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_cluster_whose_workers_die_ends_in_the_same_bytes(tmp_path, monkeypatch, way):
    monkeypatch.setenv("UNLEARNKIT_PLUGINS", "unlearnkit_ray")
    tiny = write_tiny(tmp_path)
    serial, killer = ran(tiny, tmp_path / "serial", *QUICK, way), Killer()
    run = ran(tiny, tmp_path / "run", *QUICK, way, by="ray:workers=2", tell=killer)
    assert {*killer.killed} == {"solve", "evaluate", "audit"}
    assert lasting(run) == lasting(serial)
