"""A client that is not ours: boto3 drives the embedded Lightsail, event bus and topic.

python boto3_client.py --lightsail URL --events URL --clock URL; one line a check, `N passed, N failed` at the end.
"""

import argparse
import datetime
import json
import sys
import time
import urllib.error
import urllib.request

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, ParamValidationError

parser = argparse.ArgumentParser()
parser.add_argument("--lightsail", required=True)
parser.add_argument("--events", required=True)
parser.add_argument("--clock", required=True)
arguments = parser.parse_args()
url = arguments.lightsail
passed = failed = 0


def check(what, good):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok    " if good else "FAILED"), what)


def client(region="eu-west-1", service="lightsail", endpoint=url):
    return boto3.client(
        service, region_name=region, endpoint_url=endpoint,
        aws_access_key_id="any", aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 1, "mode": "standard"}),
    )


def refused(what, code, call, **arguments):
    try:
        call(**arguments)
        check(f"{what} is refused", False)
    except ClientError as error:
        check(f"{what}: {error.response['Error']['Code']}", error.response["Error"]["Code"] == code)
        return error


lightsail = client()
where = {"availabilityZone": "eu-west-1a", "blueprintId": "debian_12", "bundleId": "nano_3_0"}

# Launch and list.
for batch in range(9):
    names = [f"web-{batch}-{number}" for number in range(5)]
    answer = lightsail.create_instances(
        instanceNames=names, tags=[{"key": "snapkeep", "value": "gold"}, {"key": "alone"}], **where)
    check(f"batch {batch}: an operation a name", len(answer["operations"]) == 5)
pages = list(lightsail.get_paginator("get_instances").paginate())
instances = [instance for page in pages for instance in page["instances"]]
check("three pages of instances", len(pages) == 3)
check("every instance once", len({i["arn"] for i in instances}) == 45)
first = instances[0]
check("times are datetimes", isinstance(first["createdAt"], datetime.datetime))
check("a key-only tag has no value", {"key": "alone"} in first["tags"])
check("an ARN with a UUID", ":Instance/" in first["arn"] and first["name"] not in first["arn"])
check("another Region is empty", client("us-east-1").get_instances()["instances"] == [])
check("nineteen Regions", len(lightsail.get_regions()["regions"]) == 19)

# The instances start for a while; then one is snapshotted.
for _ in range(100):
    if lightsail.get_instance_state(instanceName="web-0-0")["state"]["name"] == "running":
        break
    time.sleep(0.1)
answer = lightsail.create_instance_snapshot(
    instanceName="web-0-0", instanceSnapshotName="s-1", tags=[{"key": "k", "value": "v"}])
operations = answer["operations"]
check("two operations, both started", [o["status"] for o in operations] == ["Started"] * 2)
check("of the snapshot and of the instance",
      [o["resourceType"] for o in operations] == ["InstanceSnapshot", "Instance"])
check("a request id", answer["ResponseMetadata"]["RequestId"])
snapshot = lightsail.get_instance_snapshot(instanceSnapshotName="s-1")["instanceSnapshot"]
check("pending at first", snapshot["state"] == "pending")
check("instance tags are not inherited", snapshot["tags"] == [{"key": "k", "value": "v"}])
check("it names its source",
      snapshot["fromInstanceArn"] == lightsail.get_instance(instanceName="web-0-0")["instance"]["arn"])
for _ in range(100):
    snapshot = lightsail.get_instance_snapshot(instanceSnapshotName="s-1")["instanceSnapshot"]
    if snapshot["state"] != "pending":
        break
    time.sleep(0.1)
check("available after a while", snapshot["state"] == "available")
operation = lightsail.get_operation(operationId=operations[0]["id"])["operation"]
check("its operation is over", operation["isTerminal"] and operation["status"] == "Succeeded")
for number in range(2, 66):
    lightsail.create_instance_snapshot(instanceName="web-0-0", instanceSnapshotName=f"s-{number}")
pages = list(lightsail.get_paginator("get_instance_snapshots").paginate())
names = {s["name"] for page in pages for s in page["instanceSnapshots"]}
check("four pages of snapshots, each once", len(pages) == 4 and len(names) == 65)

# Tags.
lightsail.tag_resource(resourceName="s-1", tags=[{"key": "k", "value": "w"}, {"key": "hold"}])
lightsail.untag_resource(resourceName="s-1", tagKeys=["hold"])
snapshot = lightsail.get_instance_snapshot(instanceSnapshotName="s-1")["instanceSnapshot"]
check("tags are overwritten and taken away", snapshot["tags"] == [{"key": "k", "value": "w"}])

# Restore, delete.
lightsail.create_instances_from_snapshot(
    instanceNames=["restored"], availabilityZone="eu-west-1a", bundleId="nano_3_0",
    instanceSnapshotName="s-1")
check("restored", lightsail.get_instance(instanceName="restored")["instance"]["bundleId"] == "nano_3_0")
answer = lightsail.delete_instance_snapshot(instanceSnapshotName="s-1")
check("deletion is over at once", [o["status"] for o in answer["operations"]] == ["Succeeded"])
lightsail.delete_instance(instanceName="web-0-0")
names = {s["fromInstanceName"] for p in lightsail.get_paginator("get_instance_snapshots").paginate()
         for s in p["instanceSnapshots"]}
check("snapshots survive their instance", names == {"web-0-0"})

# Errors, as boto3 sees them.
error = refused("a taken name", "InvalidInputException", lightsail.create_instance_snapshot,
                instanceName="web-1-1", instanceSnapshotName="s-2")
check("its body has a more exact code", error.response.get("code") == "NameExists")
refused("a missing snapshot", "NotFoundException", lightsail.get_instance_snapshot,
        instanceSnapshotName="s-1")
refused("a missing instance", "NotFoundException", lightsail.get_instance, instanceName="none")
refused("a bad name", "InvalidInputException", lightsail.create_instance_snapshot,
        instanceName="web-1-1", instanceSnapshotName="a b")
refused("a bad token", "InvalidInputException", lightsail.get_instances, pageToken="x")
refused("an operation that is not there", "UnknownOperationException", lightsail.get_disks)
try:
    lightsail.get_instance()
    check("a missing member is refused by boto3 itself", False)
except ParamValidationError:
    check("a missing member is refused by boto3 itself", True)


def raw(what, statuses, **request):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **request)) as answer:
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    check(f"{what}: {status}", status in statuses)


scope = "AWS4-HMAC-SHA256 Credential=any/20260101/eu-west-1/{}/aws4_request, SignedHeaders=host, Signature=" + "0" * 64
target = {"X-Amz-Target": "Lightsail_20161128.GetInstances", "Content-Type": "application/x-amz-json-1.1"}
signed = {**target, "Authorization": scope.format("lightsail")}
raw("unsigned", [403], data=b"{}", headers=target)
raw("garbage for a signature", [400, 403], data=b"{}", headers={**target, "Authorization": "Bearer x"})
raw("another service's signature", [400, 403], data=b"{}",
    headers={**target, "Authorization": scope.format("ec2")})
raw("a body that is no JSON", [400], data=b"{", headers=signed)
raw("a body that is no object", [400], data=b"[]", headers=signed)
raw("a body that is too large", [400, 413], data=b" " * 2_000_000, headers=signed)
raw("a wrong content type", [400, 404], data=b"{}", headers={**signed, "Content-Type": "application/json"})
raw("GET", [404, 405], headers=signed)
raw("a well-formed one, after all that", [200], data=b"{}", headers=signed)

# The event bus, the topic, and what they were told.
bus, topic = (client(service=service, endpoint=arguments.events) for service in ("events", "sns"))
entry = {"Source": "shop", "DetailType": "Order", "Detail": '{"n": 1}', "Resources": ["arn:x"],
         "Time": datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)}
answer = bus.put_events(Entries=[entry, {**entry, "Detail": "no"}, {"Source": "shop"}])
check("two of three events fail", answer["FailedEntryCount"] == 2)
check("and say why", [e.get("ErrorCode") for e in answer["Entries"]]
      == [None, "MalformedDetail", "InvalidArgument"])
refused("eleven events", "ValidationException", bus.put_events, Entries=[entry] * 11)
arn = "arn:aws:sns:eu-west-1:123456789012:people"
answer = topic.publish(
    TopicArn=arn, Subject="Hello", Message="a <b> & \u00e4\n",
    MessageAttributes={"code": {"DataType": "String", "StringValue": "x"}})
check("a message id", answer["MessageId"])
error = refused("a bad topic", "InvalidParameter", topic.publish, TopicArn="<people>", Message="a")
refused("a subject of two lines", "InvalidParameter", topic.publish, TopicArn=arn, Message="a",
        Subject="a\nb")
with urllib.request.urlopen(f"{arguments.clock}/notices") as response:
    notices = json.load(response)
check("both are in the mailbox", [n["kind"] for n in notices] == ["event", "mail"])
check("the event", (notices[0]["detail-type"], notices[0]["detail"]) == ("Order", {"n": 1}))
check("the mail", (notices[1]["subject"], notices[1]["message"], notices[1]["attributes"])
      == ("Hello", "a <b> & \u00e4\n", {"code": "x"}))

print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
