"""A run by jobs of submitit on this machine, of which some are killed, ends in the bytes of a run without."""

import pytest
from tiny_task import Killer, lasting, ran, write_tiny

pytest.importorskip("submitit")
QUICK = (
    "training.steps=6", "training.checkpoint_every=2", "epsilons.fractions=[0.5]", "evaluate.stops=0",
    "evaluate.audits=[{kind: membership}]",
)  # fmt: skip


def test_jobs_that_die_end_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNKIT_PLUGINS", "unlearnkit_slurm")
    tiny = write_tiny(tmp_path)
    serial, killer = ran(tiny, tmp_path / "serial", *QUICK), Killer()
    run = ran(tiny, tmp_path / "run", *QUICK, by="slurm:workers=2,cluster=local", tell=killer)
    assert "solve" in killer.killed
    assert lasting(run) == lasting(serial)
