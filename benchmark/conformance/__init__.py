"""What :mod:`..check` asks of an adapter, one subject a module."""
