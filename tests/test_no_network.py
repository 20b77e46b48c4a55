"""The tests themselves are kept from the network."""

from __future__ import annotations

import socket
import urllib.request

import pytest


def test_names_and_addresses_elsewhere_are_refused() -> None:
    with pytest.raises(AssertionError, match="reached for the network"):
        socket.create_connection(("example.org", 80), timeout=1)
    with socket.socket() as one, pytest.raises(AssertionError, match="reached for the network"):
        one.connect(("192.0.2.1", 80))
    with pytest.raises(AssertionError, match="reached for the network"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_this_machine_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
