"""Checks, where sam is installed, that the handbook quotes values with spaces as sam needs it.

sam keeps only the first word of a value with spaces that has no quotes of its own.
"""

import pathlib

from samcli.cli.types import CfnParameterOverridesType

EXAMPLE = """'Keep="last=3 daily=7 weekly=4"'"""
VALUE = {"Keep": "last=3 daily=7 weekly=4"}


def parsed(text):
    return CfnParameterOverridesType().convert(text, None, None)


assert parsed(EXAMPLE.strip("'")) == VALUE, parsed(EXAMPLE.strip("'"))
assert parsed("Keep=last=3 daily=7 weekly=4") != VALUE, "no quotes are needed any more"
for document in ["docs/DEPLOY.md", "samconfig.toml"]:
    assert EXAMPLE in pathlib.Path(document).read_text(encoding="utf-8"), document
