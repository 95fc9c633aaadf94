"""Every .slt file under every configuration; each rule off on a sample, in `make test-all` on all."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

import gradbase
from gradbase.optimizer.stages import all_rules
from gradbase.testing.slt import Config, load_configs, run_file

HERE = Path(__file__).parent
FILES = sorted(HERE.rglob("*.slt"))
RULES = [r.name for r in all_rules() if not r.mandatory]
CONFIGS = load_configs(HERE.parent / "configs", RULES)


def runs():
    for path in FILES:
        name = path.relative_to(HERE).with_suffix("").as_posix()
        # The rule whose turn it is for this file; the others are slow.
        sampled = RULES[zlib.crc32(name.encode()) % len(RULES)]
        for config in CONFIGS:
            of_rule = config.name.startswith("rule_off-")
            slow = config.slow or (of_rule and config.name != f"rule_off-{sampled}")
            # What is written there is about names, types and ranges, which no configuration changes.
            slow |= name.startswith("bigquery/") and config != Config()
            marks = [pytest.mark.slow] if slow else []
            yield pytest.param(path, config, id=f"{name}-{config.name}", marks=marks)


def connect(url):
    return gradbase.connect(url, progress=False)


@pytest.mark.parametrize(("path", "config"), list(runs()))
def test_slt(path, config, tmp_path):
    """Each record does what it says."""
    run_file(path, connect, config, tmp_path)
