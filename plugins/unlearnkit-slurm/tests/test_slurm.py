"""A run by jobs of submitit on this machine, of which some are killed, ends in the bytes of a run without."""

import pytest
from tiny_task import QUICK, WAYS, Killer, lasting, ran, write_tiny

pytest.importorskip("submitit")


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_jobs_that_die_end_in_the_same_bytes(tmp_path, monkeypatch, way):
    monkeypatch.setenv("UNLEARNKIT_PLUGINS", "unlearnkit_slurm")
    tiny = write_tiny(tmp_path)
    serial, killer = ran(tiny, tmp_path / "serial", *QUICK, way), Killer()
    run = ran(tiny, tmp_path / "run", *QUICK, way, by="slurm:workers=2,cluster=local", tell=killer)
    assert "solve" in killer.killed
    assert lasting(run) == lasting(serial)
