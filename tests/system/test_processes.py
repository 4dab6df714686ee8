"""Programs that the package starts, and the terminal's Ctrl-C."""

import os
import runpy
import subprocess
import sys

import pytest

from amc_tf.system import processes


@pytest.mark.skipif(sys.platform == "win32", reason="asks for a POSIX process group")
def test_the_terminal_does_not_reach_what_is_started() -> None:
    """Its Ctrl-C is for the process group of the caller."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, **processes.OWN_GROUP) as child:
        assert os.getpgid(child.pid) != os.getpgid(0)
        child.communicate(b"\n")


def test_windows_has_a_flag_for_it(monkeypatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    assert runpy.run_path(processes.__file__)["OWN_GROUP"] == {"creationflags": 0x200}
