"""The code of the README runs, one block after the other, against the nodes of `seshat dev`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def free_ports() -> int:
    """The first of three free ports in a row."""
    while True:
        with socket.socket() as first:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
        try:
            for other in range(port, port + 3):
                with socket.socket() as it:
                    it.bind(("127.0.0.1", other))
        except (OSError, OverflowError):
            continue
        return port


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    binary = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "debug" / "seshat"
    first = free_ports()
    options = ["--base-port", str(first), "--internal-base-port", str(free_ports())]
    nodes = subprocess.Popen([binary, "dev", *options], stdout=subprocess.PIPE, text=True)
    assert nodes.stdout is not None
    for line in nodes.stdout:
        if "Ctrl-C" in line:
            break
    yield first
    nodes.terminate()
    nodes.wait()
    nodes.stdout.close()


@pytest.mark.parametrize("block", BLOCKS, ids=[str(number) for number in range(len(BLOCKS))])
def test_the_code_of_the_readme_runs(block: str, port: int) -> None:
    code = re.sub(r":63(79|80|81)\b", lambda found: f":{port + int(found[1]) - 79}", block)
    assert str(port) in code or "127.0.0.1:1" in code
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_readme_has_code() -> None:
    assert len(BLOCKS) > 5
