"""Another implementation of AWS, moto, takes the translated template and listens to its notices.

Reads the template as the first line on standard input and prints one line of JSON when everything is
there; then answers each further line with the messages that came since: `{"topic": [...], "bus": [...],
"rules": {"CreateGoOn": [...], ...}}`. A line that is an event is put on the bus first. `rules` is what each rule of the
stack on that bus hands on, as moto matches the patterns.
"""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

REGION = "us-east-1"

template = json.loads(sys.stdin.readline())

server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"


def client(service):
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


client("s3").create_bucket(Bucket="bucket")
client("s3").put_object(Bucket="bucket", Key="key", Body=b"code")
# Not the default bus: there, moto would hand our events to the rules of the ticks, which have no pattern.
client("events").create_event_bus(Name="heard")
stacks = client("cloudformation")
stacks.create_stack(
    StackName="snapkeep",
    TemplateBody=json.dumps(template),
    Parameters=[
        {"ParameterKey": "Keep", "ParameterValue": "daily=7"},
        {"ParameterKey": "AlarmEmail", "ParameterValue": "me@example.com"},
        {"ParameterKey": "EventBus", "ParameterValue": "heard"},
    ],
    Capabilities=["CAPABILITY_IAM"],
)
stack = stacks.describe_stacks(StackName="snapkeep")["Stacks"][0]
assert stack["StackStatus"] == "CREATE_COMPLETE", stack
made = {
    resource["LogicalResourceId"]: resource["PhysicalResourceId"]
    for resource in stacks.describe_stack_resources(StackName="snapkeep")["StackResources"]
    # It says on standard error what it does not know.
    if "PhysicalResourceId" in resource
}

queues = client("sqs")


def queue(name):
    address = queues.create_queue(QueueName=name)["QueueUrl"]
    attributes = queues.get_queue_attributes(QueueUrl=address, AttributeNames=["QueueArn"])
    return address, attributes["Attributes"]["QueueArn"]


topic_queue, arn = queue("heard")
client("sns").subscribe(TopicArn=made["Alarms"], Protocol="sqs", Endpoint=arn)
bus_queue, arn = queue("events")
client("events").put_rule(
    Name="heard", EventBusName="heard", EventPattern=json.dumps({"source": ["snapkeep"]})
)
client("events").put_targets(
    Rule="heard", EventBusName="heard", Targets=[{"Id": "queue", "Arn": arn}]
)

# What the stack's own rules on this bus match goes to a queue for each of them: moto does not hand events to
# functions, and fails where it should.
rule_queues = {}
for logical in [name for name in made if name.endswith("GoOn")]:
    address, arn = queue(logical)
    rules = client("events").list_rules(EventBusName="heard")["Rules"]
    [rule] = [rule["Name"] for rule in rules if logical in rule["Name"]]
    on = {"Rule": rule, "EventBusName": "heard"}
    [target] = client("events").list_targets_by_rule(**on)["Targets"]
    function = made[logical.removesuffix("GoOn")]
    assert target["Arn"].endswith(f":function:{function}"), target
    client("events").remove_targets(Ids=[target["Id"]], **on)
    client("events").put_targets(Targets=[{"Id": "heard", "Arn": arn}], **on)
    rule_queues[logical] = address


def drain(address):
    bodies = []
    while messages := queues.receive_message(QueueUrl=address, MaxNumberOfMessages=10).get(
        "Messages"
    ):
        for message in messages:
            bodies.append(json.loads(message["Body"]))
            queues.delete_message(QueueUrl=address, ReceiptHandle=message["ReceiptHandle"])
    return bodies


functions = client("lambda").list_functions()["Functions"]
print(
    json.dumps(
        {
            "url": url,
            "outputs": {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]},
            "resources": made,
            "environments": {
                function["FunctionName"]: function["Environment"]["Variables"]
                for function in functions
            },
        }
    ),
    flush=True,
)
for line in sys.stdin:
    if line.strip():
        event = json.loads(line)
        entry = {
            "EventBusName": "heard",
            "Source": event["source"],
            "DetailType": event["detail-type"],
            "Detail": json.dumps(event["detail"]),
        }
        put = client("events").put_events(Entries=[entry])
        assert put["FailedEntryCount"] == 0, put
    handed_on = {logical: drain(address) for logical, address in rule_queues.items()}
    heard = {"topic": drain(topic_queue), "bus": drain(bus_queue), "rules": handed_on}
    print(json.dumps(heard), flush=True)
server.stop()
