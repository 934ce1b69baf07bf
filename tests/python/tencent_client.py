"""A client that is not ours: Tencent Cloud's SDK for Python drives the embedded Lighthouse.

python tencent_client.py --lighthouse URL --clock URL; one line a check, `N passed, N failed` at the end.
"""

import argparse
import json
import sys
import time
import urllib.request

from tencentcloud.common import credential
from tencentcloud.common.exception.tencent_cloud_sdk_exception import TencentCloudSDKException
from tencentcloud.common.profile.client_profile import ClientProfile
from tencentcloud.common.profile.http_profile import HttpProfile
from tencentcloud.lighthouse.v20200324 import lighthouse_client, models

parser = argparse.ArgumentParser()
parser.add_argument("--lighthouse", required=True)
parser.add_argument("--clock", required=True)
arguments = parser.parse_args()
passed = failed = 0


def check(what, good):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(("ok    " if good else "FAILED"), what)


def client(region="ap-guangzhou", secret_id="AKIDEMBEDDED", secret_key="embedded", token=None):
    http = HttpProfile(protocol="http", endpoint=arguments.lighthouse.removeprefix("http://"), reqTimeout=10)
    keys = credential.Credential(secret_id, secret_key, token)
    return lighthouse_client.LighthouseClient(keys, region, ClientProfile(httpProfile=http))


def call(operation, body=None, **of):
    request = getattr(models, f"{operation}Request")()
    request.from_json_string(json.dumps(body or {}))
    return getattr(client(**of), operation)(request)


def refused(code, operation, body=None, **of):
    try:
        call(operation, body, **of)
        check(f"{operation} is refused with {code}", False)
    except TencentCloudSDKException as error:
        check(f"{operation} is refused with {code} ({error.code})", error.code == code)


def knobs(**values):
    body = json.dumps(values).encode()
    request = urllib.request.Request(f"{arguments.clock}/lighthouse/knobs", data=body, method="PUT")
    urllib.request.urlopen(request).close()


def until(what, holds, seconds=30):
    end = time.monotonic() + seconds
    while not (good := holds()) and time.monotonic() < end:
        time.sleep(0.1)
    check(what, good)


regions = call("DescribeRegions")
check("the Regions are listed", "ap-guangzhou" in [one.Region for one in regions.RegionSet])
check("their number is right", regions.TotalCount == len(regions.RegionSet))
check("bundles and blueprints are listed",
      call("DescribeBundles").BundleSet and call("DescribeBlueprints").BlueprintSet)

launch = {"BundleId": "bundle_starter_nmc_lin_med2_01", "BlueprintId": "lhbp-f1lkcd41",
          "InstanceChargePrepaid": {"Period": 1}, "InstanceName": "web-1", "Zones": ["ap-guangzhou-3"],
          "Tags": [{"Key": "snapkeep", "Value": ""}]}
[instance] = call("CreateInstances", launch).InstanceIdSet
refused("UnsupportedOperation.InvalidInstanceState", "CreateInstanceSnapshot", {"InstanceId": instance})


def shown():
    return call("DescribeInstances", {"InstanceIds": [instance]}).InstanceSet[0]


until("the instance runs", lambda: shown().InstanceState == "RUNNING")
one = shown()
check("it has its name, zone, disk and tags",
      (one.InstanceName, one.Zone, one.Tags[0].Key) == ("web-1", "ap-guangzhou-3", "snapkeep")
      and one.SystemDisk.DiskId.startswith("lhdisk-"))
named = call("DescribeInstances", {"Filters": [{"Name": "instance-name", "Values": ["web-1"]}]})
check("it is found by its name", named.TotalCount == 1)
elsewhere = call("DescribeInstances", region="ap-tokyo")
check("another Region has none", (elsewhere.TotalCount, elsewhere.InstanceSet) == (0, []))

snap = {"InstanceId": instance, "SnapshotName": "web-1-a", "Tags": [{"Key": "a", "Value": "b"}]}
first = call("CreateInstanceSnapshot", snap).SnapshotId
refused("UnsupportedOperation.LatestOperationUnfinished", "CreateInstanceSnapshot", snap)
refused("UnsupportedOperation.InvalidSnapshotState", "DeleteSnapshots", {"SnapshotIds": [first]})


def snapshot(of):
    found = call("DescribeSnapshots", {"SnapshotIds": [of]}).SnapshotSet
    return found[0] if found else None


made = snapshot(first)
check("a new snapshot is being made",
      (made.SnapshotState, made.LatestOperation, made.LatestOperationState)
      == ("CREATING", "CreateInstanceSnapshot", "OPERATING") and made.Percent < 100)
denied = call("DescribeSnapshotsDeniedActions", {"SnapshotIds": [first]}).SnapshotDeniedActionSet[0]
check("what it does not allow yet is told", "DeleteSnapshots" in [one.Action for one in denied.DeniedActions])
until("it becomes normal", lambda: snapshot(first).SnapshotState == "NORMAL")
made = snapshot(first)
check("it has its disk, name, size and tags",
      (made.DiskId, made.SnapshotName, made.DiskSize, made.Tags[0].Value)
      == (one.SystemDisk.DiskId, "web-1-a", 20, "b"))
second = call("CreateInstanceSnapshot", snap).SnapshotId
until("a second one may have the same name", lambda: snapshot(second).SnapshotState == "NORMAL")
of_name = {"Filters": [{"Name": "snapshot-name", "Values": ["web-1-a"]}]}
of_instance = {"Filters": [{"Name": "instance-id", "Values": [instance]}], "Limit": 1}
check("both are found by name", call("DescribeSnapshots", of_name).TotalCount == 2)
page = call("DescribeSnapshots", of_instance)
check("a page has no more than its limit, and the total", (len(page.SnapshotSet), page.TotalCount) == (1, 2))
rest = call("DescribeSnapshots", {**of_instance, "Offset": 1})
check("the next page has the other one", {page.SnapshotSet[0].SnapshotId, rest.SnapshotSet[0].SnapshotId} == {first, second})
quota = call("DescribeGeneralResourceQuotas", {"ResourceNames": ["SNAPSHOT"]}).GeneralResourceQuotaSet[0]
check("the quota counts both", quota.ResourceQuotaTotal - quota.ResourceQuotaAvailable == 2)
call("ModifySnapshotAttribute", {"SnapshotId": second, "SnapshotName": "renamed"})
check("a snapshot can be renamed", snapshot(second).SnapshotName == "renamed")
call("ApplyInstanceSnapshot", {"InstanceId": instance, "SnapshotId": second})
check("an instance is rolled back in place", snapshot(second).SnapshotState == "ROLLBACKING")

knobs(delete_seconds=600)
call("DeleteSnapshots", {"SnapshotIds": [first]})
refused("UnsupportedOperation.SnapshotBusy", "DeleteSnapshots", {"SnapshotIds": [first]})
until("a deleted snapshot is gone some time later", lambda: snapshot(first) is None)

refused("AuthFailure.SecretIdNotFound", "DescribeRegions", secret_id="AKIDNOBODY")
refused("AuthFailure.SignatureFailure", "DescribeRegions", secret_key="another")
refused("UnsupportedRegion", "DescribeInstances", region="ap-nowhere")
refused("ResourceNotFound.InstanceIdNotFound", "DescribeInstances", {"InstanceIds": ["lhins-00000000"]})
refused("InvalidParameterValue.InstanceIdMalformed", "CreateInstanceSnapshot", {"InstanceId": "web-1"})
refused("InvalidParameterValue.SnapshotNameTooLong", "CreateInstanceSnapshot", {**snap, "SnapshotName": "x" * 61})
refused("InvalidParameterValue.SnapshotIdMalformed", "DeleteSnapshots", {"SnapshotIds": ["a"]})
refused("InvalidParameterValue.Duplicated", "DeleteSnapshots", {"SnapshotIds": [second, second]})
refused("InvalidParameterValue.LimitExceeded", "DeleteSnapshots", {"SnapshotIds": [f"lhsnap-{n:08}" for n in range(11)]})
refused("ResourceNotFound.SnapshotIdNotFound", "DeleteSnapshots", {"SnapshotIds": ["lhsnap-00000000"]})
refused("MissingParameter", "CreateInstanceSnapshot", {})
refused("InvalidParameterValue.OutOfRange", "DescribeSnapshots", {"Limit": 101})
storage = call("CreateInstances", {**launch, "BundleId": "storage_bundle_01"}).InstanceIdSet[0]
refused("OperationDenied.OperationDeniedCreateSnapshotForStorageBundle", "CreateInstanceSnapshot", {"InstanceId": storage})
knobs(snapshot_quota=1)
refused("LimitExceeded.SnapshotQuotaLimitExceeded", "CreateInstanceSnapshot", snap)
knobs(snapshot_quota=500, snapshot_tags="refused")
refused("UnknownParameter", "CreateInstanceSnapshot", snap)
for kind, code in [("throttle", "RequestLimitExceeded"), ("server_error", "InternalError"),
                   ("denied", "UnauthorizedOperation.NoPermission"), ("dropped", "ClientNetworkError")]:
    knobs(faults=[{"operation": "DescribeSnapshots", "kind": kind}])
    refused(code, "DescribeSnapshots")
knobs(faults=[])

call("TerminateInstances", {"InstanceIds": [instance]})
check("a terminated instance is first about to be reclaimed", shown().InstanceState == "SHUTDOWN")
call("TerminateInstances", {"InstanceIds": [instance]})
refused("ResourceNotFound.InstanceIdNotFound", "DescribeInstances", {"InstanceIds": [instance]})

print(f"{passed} passed, {failed} failed")
sys.exit(1 if failed else 0)
