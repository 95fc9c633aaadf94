"""Tracing changes how torch.optim computes: it never overlaps the training of a module."""

from __future__ import annotations

import threading

from gradbase.selection.tracing import tracing, training


def in_thread(guard, log, name):
    def work():
        with guard():
            log.append(name)

    made = threading.Thread(target=work)
    made.start()
    return made


def test_training_steps_overlap_each_other():
    log = []
    with training():
        in_thread(training, log, "other").join(timeout=5)
    assert log == ["other"]


def test_tracing_waits_for_steps_under_way_and_new_steps_wait_for_it():
    log = []
    with training():
        traced = in_thread(tracing, log, "traced")
        traced.join(timeout=0.05)
        later = in_thread(training, log, "trained")
        later.join(timeout=0.05)
        assert log == []
    traced.join(timeout=5)
    later.join(timeout=5)
    assert log == ["traced", "trained"]
