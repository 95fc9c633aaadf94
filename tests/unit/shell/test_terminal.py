"""The shell as a user meets it: a process at a terminal."""

from __future__ import annotations

import os
import sys

import pexpect
import pytest

import shop

READY = "\x1b[?2004h"
"""What the prompt sends to the terminal when it begins to read."""


@pytest.fixture
def terminal(own_shop, tmp_path):
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path),
        "TERM": "xterm",
        "PROMPT_TOOLKIT_NO_CPR": "1",
    }
    environment |= {"GRADBASE_PAGER": ""}
    command = ["-W", "error", "-m", "gradbase", "shell", str(own_shop)]
    child = pexpect.spawn(
        sys.executable,
        command,
        env=environment,
        encoding="utf-8",
        timeout=120,
        dimensions=(40, 120),
    )
    yield child
    child.close(force=True)


def test_a_session(terminal):
    """Many lines, the history, an error, Ctrl-C in a query, in a training and at the prompt, Ctrl-D."""

    def type_(keys):
        terminal.expect_exact(READY)
        terminal.send(keys)

    type_("SELECT 40 +\r2 AS answer;\r")
    terminal.expect(r"42[\s\S]*\(1 row\)")
    type_("\x1b[A")
    terminal.expect("answer")
    terminal.send("\r")
    terminal.expect(r"42[\s\S]*\(1 row\)")

    type_("SELECT PREDICT(chrun, *) FROM customers;\r")
    terminal.expect("BindError: there is no model `chrun`")
    terminal.expect("did you mean `churn`")

    type_("SELECT sum(a.range * b.range % 7) FROM range(1000000) a, range(1000000) b;\r")
    terminal.expect_exact("\x1b[?2004l")
    terminal.expect(pexpect.TIMEOUT, timeout=0.5)
    terminal.sendintr()
    terminal.expect("the statement was cancelled")

    type_(shop.create_model("m", max_epochs=1_000_000) + ";\r")
    terminal.expect("running")  # its progress
    terminal.sendintr()
    terminal.expect("no model was made")

    type_("SELECT nonsense\x03")
    type_("SELECT count(PREDICT(churn, *)) AS n FROM customers;\r")
    terminal.expect(rf"{shop.ROWS}[\s\S]*\(1 row\)")

    type_("\x04")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
