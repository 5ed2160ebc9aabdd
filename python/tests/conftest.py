import os
import subprocess
import sysconfig

import pytest

import tq4


@pytest.fixture(scope="session")
def command():
    return os.path.join(sysconfig.get_path("scripts"), "tq4")


@pytest.fixture(scope="session")
def fixtures(command, tmp_path_factory):
    """The models that `tq4 fixture` writes, `b4_g128` and so on."""
    directory = tmp_path_factory.mktemp("fixture") / "models"
    subprocess.run([command, "fixture", directory], check=True, capture_output=True)
    return directory


@pytest.fixture(scope="session")
def model(fixtures):
    return tq4.open(fixtures / "b4_g128")
