"""Generates the other stacks from template.yaml.

Without arguments: infra/cargo-lambda.yaml. `cargo lambda deploy` creates the functions itself, so this stack has
everything but them: their roles, rules, logs and what fails. `--check` only says whether the file is up to date.

`--release x86_64` or `--release arm64` prints the template of a release: the functions are zips beside it, built for that
architecture, and nothing is left to build.
"""

import copy
import io
import re
import sys
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap as Map
from ruamel.yaml.comments import CommentedSeq, TaggedScalar
from ruamel.yaml.scalarstring import DoubleQuotedScalarString as Quoted
from ruamel.yaml.tag import Tag

ROOT = Path(__file__).parent.parent
SOURCE, TARGET = ROOT / "template.yaml", ROOT / "infra/cargo-lambda.yaml"
HEADER = """\
# Generated from template.yaml by infra/generate.py; change that file, and run `just stacks`.
"""
DESCRIPTION = (
    "snapkeep for `cargo lambda deploy`: everything of template.yaml but the functions, which that command creates. "
    "Deploy it twice: first for the roles and the ledger, then with Functions=yes once the functions exist."
)

yaml = YAML()
yaml.width = 10_000
# A word such as "off" is a text only in quotes: CloudFormation reads YAML 1.1.
yaml.preserve_quotes = True
yaml.indent(mapping=2, sequence=4, offset=2)


def tagged(tag, value):
    """A short form such as `!Sub value`."""
    scalar = TaggedScalar(value, style='"' if tag == "!Sub" else None)
    scalar.yaml_set_ctag(Tag(suffix=tag))
    return scalar


def sub(text):
    return tagged("!Sub", text)


def ref(name):
    return tagged("!Ref", name)


def att(name):
    return tagged("!GetAtt", name)


def inline(**members):
    """A mapping on one line."""
    mapping = Map(members)
    mapping.fa.set_flow_style()
    return mapping


def name_of(function, suffix=""):
    return sub(f"${{AWS::StackName}}-{function.lower()}{suffix}")


def role(function, own):
    """The role that SAM would make from the function's policies."""
    statements = copy.deepcopy(own["Policies"][0]["Statement"])
    failed = Map(Sid="LeaveWhatFailed", Effect="Allow", Action="sqs:SendMessage")
    failed["Resource"] = att("DeadLetters.Arn")
    statements.insert(0, failed)
    trust = Map(Effect="Allow", Principal=inline(Service="lambda.amazonaws.com"), Action="sts:AssumeRole")
    basic = "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
    policy = Map(PolicyName=function.lower())
    policy["PolicyDocument"] = Map(Version="2012-10-17", Statement=statements)
    properties = Map(AssumeRolePolicyDocument=Map(Version="2012-10-17", Statement=[trust]))
    properties["ManagedPolicyArns"] = [sub(basic)]
    properties["Policies"] = [policy]
    return Map(Type="AWS::IAM::Role", Properties=properties)


def rule(function, suffix, event, when):
    """A rule that invokes the function, and the permission to do so."""
    name = function.lower()
    arn = "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-" + name
    target = Map(Id=name, Arn=sub(arn))
    for member in ["RetryPolicy", "DeadLetterConfig"]:
        target[member] = copy.deepcopy(event[member])
    properties = Map(Name=name_of(function, suffix))
    properties.update(when)
    properties["Targets"] = [target]
    return when_made("AWS::Events::Rule", properties)


def may(function, by):
    properties = Map(Action="lambda:InvokeFunction", FunctionName=name_of(function))
    properties.update(Principal="events.amazonaws.com", SourceArn=att(f"{by}.Arn"))
    return when_made("AWS::Lambda::Permission", properties)


def when_made(kind, properties):
    """What needs the function to exist."""
    return Map(Type=kind, Condition="HasFunctions", Properties=properties)


def later(function, config):
    properties = Map(FunctionName=name_of(function), Qualifier="$LATEST")
    for member in ["MaximumRetryAttempts", "MaximumEventAgeInSeconds"]:
        properties[member] = config[member]
    failed = inline(Destination=att("DeadLetters.Arn"))
    properties["DestinationConfig"] = Map(OnFailure=failed)
    return when_made("AWS::Lambda::EventInvokeConfig", properties)


def without_functions(resources, config):
    """The resources, with what belongs to a function in its place."""
    result = Map()
    for name, resource in resources.items():
        if resource["Type"] != "AWS::Serverless::Function":
            result[name] = resource
            continue
        own = resource["Properties"]
        tick, go_on = (own["Events"][event]["Properties"] for event in ["Tick", "GoOn"])
        result[f"{name}Role"] = role(name, own)
        result[f"{name}Tick"] = rule(name, "", tick, {"ScheduleExpression": tick["Schedule"]})
        result[f"{name}MayTick"] = may(name, f"{name}Tick")
        pattern = {"EventBusName": ref("EventBus"), "EventPattern": copy.deepcopy(go_on["Pattern"])}
        result[f"{name}GoOn"] = rule(name, "-go-on", go_on, pattern)
        result[f"{name}MayGoOn"] = may(name, f"{name}GoOn")
        result[f"{name}Later"] = later(name, config)
    return result


def rename_functions(node, functions):
    """Puts a function's name where the template refers to it."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in list(items):
        if isinstance(value, TaggedScalar) and value.tag.value == "!Ref" and value.value in functions:
            node[key] = name_of(value.value)
        elif isinstance(value, (dict, list)):
            rename_functions(value, functions)


def used(node, found):
    """Every name that the stack refers to."""
    if isinstance(node, TaggedScalar):
        found.update(re.findall(r"[A-Za-z0-9]+", str(node.value)))
    elif isinstance(node, dict):
        if isinstance(node.get("Condition"), str):
            found.add(node["Condition"])
        for value in node.values():
            used(value, found)
    elif isinstance(node, (list, CommentedSeq)):
        tag = getattr(node, "tag", None)
        if tag is not None and tag.value == "!If":
            found.add(str(node[0]))
        for value in node:
            used(value, found)
    return found


def generate():
    stack = yaml.load(SOURCE.read_text(encoding="utf-8"))
    resources = stack["Resources"]
    functions = [name for name, one in resources.items() if one["Type"] == "AWS::Serverless::Function"]
    config = stack["Globals"]["Function"]["EventInvokeConfig"]
    resources = without_functions(resources, config)
    for function in functions:
        logs = resources[f"{function}Logs"]["Properties"]
        logs.insert(0, "LogGroupName", sub("/aws/lambda/${AWS::StackName}-" + function.lower()))
        resources[f"{function}NotRunning"].insert(1, "Condition", "HasFunctions")
    # The rules are not always there, so the queue knows them by their names; on a bus of your own, its name comes first.
    condition = resources["DeadLettersPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]["Condition"]
    condition.clear()
    arn = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/"
    names = [sub(arn + bus + "${AWS::StackName}-*") for bus in ["", "${EventBus}/"]]
    condition["ArnLike"] = Map({"aws:SourceArn": names})

    known = "SNAPKEEP_LEDGER_TABLE=${Ledger},SNAPKEEP_DEPLOYMENT=${AWS::StackName}-${AWS::Region}-${AWS::AccountId}"
    known += ",SNAPKEEP_TOPIC=${Alarms},SNAPKEEP_EVENT_BUS=${EventBus}"
    # cargo-lambda takes no empty variable.
    choice = CommentedSeq(["HasOtherAccounts", sub(known + ",SNAPKEEP_ROLE_ARNS=${RoleArns}"), sub(known)])
    choice.yaml_set_ctag(Tag(suffix="!If"))
    outputs = stack["Outputs"]
    outputs.insert(0, "Environment", Map(Description="The value for `cargo lambda deploy --env-var`.", Value=choice))
    rename_functions(resources, functions)
    rename_functions(outputs, functions)

    names = used([resources, outputs], set())
    conditions = Map({k: v for k, v in stack["Conditions"].items() if k in names})
    names = used([resources, outputs, conditions], set())
    equals = CommentedSeq([ref("Functions"), Quoted("yes")])
    equals.fa.set_flow_style()
    equals.yaml_set_ctag(Tag(suffix="!Equals"))
    conditions.insert(0, "HasFunctions", equals)
    parameters = Map({k: v for k, v in stack["Parameters"].items() if k in names})
    no, yes = Quoted("no"), Quoted("yes")
    made = Map(Type="String", Default=no, AllowedValues=[no, yes])
    made["Description"] = "Whether `cargo lambda deploy` has created the functions, so that rules may invoke them."
    parameters.insert(0, "Functions", made)

    groups = stack["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    first = Map(Label=inline(default="Progress"), Parameters=["Functions"])
    kept = [first]
    for group in groups:
        group["Parameters"] = [name for name in group["Parameters"] if name in parameters]
        if group["Parameters"]:
            kept.append(group)
    result = Map(AWSTemplateFormatVersion=stack["AWSTemplateFormatVersion"], Description=DESCRIPTION)
    result["Metadata"] = Map({"AWS::CloudFormation::Interface": Map(ParameterGroups=kept)})
    result.update(Parameters=parameters, Rules=stack["Rules"], Conditions=conditions)
    result.update(Resources=resources, Outputs=outputs)
    text = io.StringIO()
    yaml.dump(result, text)
    return HEADER + text.getvalue()


def release(architecture):
    stack = yaml.load(SOURCE.read_text(encoding="utf-8"))
    del stack["Globals"]["Function"]["CodeUri"]
    for resource in stack["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            binary = resource.pop("Metadata")["BuildProperties"]["Binary"]
            resource["Properties"].insert(0, "CodeUri", f"{binary}.zip")
    built = stack["Parameters"]["Architecture"]
    built["Default"] = architecture
    built["AllowedValues"] = [architecture]
    built["Description"] = "What the functions of this release are built for."
    text = io.StringIO()
    yaml.dump(stack, text)
    return text.getvalue()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--release"]:
        sys.stdout.write(release(sys.argv[2]))
        sys.exit()
    generated = generate()
    if sys.argv[1:] == ["--check"]:
        if generated != TARGET.read_text(encoding="utf-8"):
            sys.exit("infra/cargo-lambda.yaml is stale: run `just stacks`")
    else:
        TARGET.write_text(generated, encoding="utf-8")
