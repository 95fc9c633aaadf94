"""Constants of the host are measured once."""

from __future__ import annotations

import dataclasses

from gradbase.resources.calibration import Calibration
from gradbase.runtime import calibrate


def test_calibration_is_kept(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "calibration.json"
    found = calibrate.load_or_calibrate(path)
    assert all(v > 0 for v in dataclasses.astuple(found))
    assert 1e8 < found.gemm_flops < 1e14
    assert found.udf_rows <= calibrate._ROWS
    assert Calibration.load(path) == found
    monkeypatch.setattr(calibrate, "calibrate", lambda engine: 1 / 0)
    assert calibrate.load_or_calibrate(path) == found


def test_a_file_that_is_damaged_or_of_another_host_is_measured_again(tmp_path, monkeypatch):
    fresh = Calibration(cores=calibrate._cores())
    monkeypatch.setattr(calibrate, "calibrate", lambda engine: fresh)
    path = tmp_path / "calibration.json"
    path.write_text("{")
    assert calibrate.load_or_calibrate(path) == fresh
    Calibration(cores=4096).save(path)
    assert calibrate.load_or_calibrate(path) == fresh


def test_a_home_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(calibrate, "calibrate", lambda engine: Calibration())
    (tmp_path / "file").write_text("")
    assert calibrate.load_or_calibrate(tmp_path / "file" / "calibration.json") == Calibration()
