"""Prints the rights that CloudFormation's resource handlers declare for the resource types on the command line.

`{"AWS::Lambda::Function": {"create": ["lambda:CreateFunction", ...], "update": [...], ...}, ...}`, from the
resource providers' own schemas, as cfn-lint distributes them. A type without handlers is absent.
"""

import json
import pathlib
import sys

import cfnlint

schemas = pathlib.Path(cfnlint.__file__).parent / "data/schemas"
files = json.loads((schemas / "providers/us-east-1.json").read_text(encoding="utf-8"))
result = {}
for kind in sys.argv[1:]:
    name = f"{files[kind]}.json"
    schema = json.loads((schemas / "resources" / name).read_text(encoding="utf-8"))
    handlers = schema.get("handlers", {})
    if handlers:
        result[kind] = {name: sorted(one["permissions"]) for name, one in handlers.items()}
json.dump(result, sys.stdout, indent=1)
