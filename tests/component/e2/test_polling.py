"""How gRPC polls is set when the package is imported; a gRPC that does not know the settings would say so."""

import os
import subprocess
import sys

import pytest

OPEN = "import ric, grpc, os; grpc.insecure_channel('127.0.0.1:1').close(); print(os.environ['GRPC_EXPERIMENTS'])"


@pytest.mark.parametrize("given", [None, "-event_engine_client"], ids=["unset", "the user's own"])
def test_polling_grpc_knows_the_settings_and_the_users_own_stand(given: str | None) -> None:
    environ = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    environ |= {} if given is None else {"GRPC_EXPERIMENTS": given}
    done = subprocess.run([sys.executable, "-c", OPEN], env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "-event_engine_client" in done.stdout if given is None else done.stdout.strip() == given
