"""YAML that a user or a stranger wrote: a mapping of plain values, without tags, repeated keys or merges."""

from __future__ import annotations

from typing import Any

import yaml

from .errors import WronglungError
from .small_file import read_small

_LONGEST = 1 << 16
"""Characters of a file."""
_DEEPEST = 50
"""Brackets in brackets; the time that they take grows with the square of their number."""


def read_yaml(path: Any) -> dict[str, Any]:
    """The mapping in a YAML file, a path or a package's resource; raises :class:`WronglungError` for anything else."""
    try:
        # At most four bytes make a character.
        text = read_small(path, 4 * _LONGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise WronglungError(f"{path}: is not YAML: is not UTF-8 ({error})") from error
    value = parse_yaml(text, str(path))
    if not isinstance(value, dict):
        raise WronglungError(f"{path}: must be a mapping of keys to values, not {type(value).__name__}")
    return value


def parse_yaml(text: str, where: str) -> Any:
    """The value that a YAML text holds; ``where`` is for messages. Raises :class:`WronglungError`."""
    if len(text) > _LONGEST:
        raise WronglungError(f"{where}: longer than {_LONGEST:,} characters")
    try:
        return yaml.load(text, Loader=_UniqueKeys)  # a SafeLoader
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # The loader lets out whatever a value does that is not of the type that its tag says.
        raise WronglungError(f"{where}: is not YAML: {' '.join(str(error).split())}") from error


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe subset, without its habit of letting the last of two equal keys win."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803
        if self.flow_level >= _DEEPEST:
            raise yaml.scanner.ScannerError(None, None, f"brackets more than {_DEEPEST} deep", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            # Nested, they multiply without end.
            raise yaml.constructor.ConstructorError(None, None, "merge keys (<<) are not read", node.start_mark)
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)
