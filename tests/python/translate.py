"""Translates a template as CloudFormation would, and prints it as JSON."""

import json
import sys
from unittest.mock import MagicMock

from cfnlint.decode.cfn_yaml import load
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

# The nodes know their lines; what is translated are plain values.
template = json.loads(json.dumps(load(sys.argv[1])))
if "Transform" not in template:
    json.dump(template, sys.stdout)
    sys.exit()
# Where the code is does not matter here, but a folder is no address.
template["Globals"]["Function"]["CodeUri"] = "s3://bucket/key"
for resource in template["Resources"].values():
    # How it is built, sam needs to know and CloudFormation does not.
    resource.pop("Metadata", None)
    resource["Properties"].pop("CodeUri", None)
parameters = {
    name: parameter.get("Default", "") for name, parameter in template["Parameters"].items()
}
translator = Translator({}, Parser(), boto_session=MagicMock(region_name="us-east-1"))
translated = translator.translate(template, parameters, feature_toggle=None)
json.dump(translated, sys.stdout)
