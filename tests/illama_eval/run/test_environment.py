from __future__ import annotations

import re
from types import SimpleNamespace

import torch

from illama_eval.run import environment
from illama_eval.run.job import Progress

CPU = torch.device("cpu")


def test_a_run_names_its_code_versions_and_device() -> None:
    found = environment.describe(CPU)
    assert found["versions"]["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["tf32"] is None
    assert re.fullmatch(r"cpu \(\w+\)", found["device"])
    commit = found["code"]["commit"]
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}", commit)


def test_timing_is_images_by_seconds_and_stays_out_of_the_run() -> None:
    progress = Progress(batch_size=8, chunk=4, seconds=2.0)
    subject = SimpleNamespace(name="nano", device=CPU)
    run = environment.timing(subject, progress, 50, {"source": {"name": "demo"}, "device": "cpu"})
    assert run.value("run", "images_per_second").value == 25
    assert run.value("run", "peak_memory").value > 2**20
    assert {row.reason for row in run.rows} == {"a single measurement"}
    assert (run.header["batch_size"], run.header["images_per_pass"]) == (8, 4)
