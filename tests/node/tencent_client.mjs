// A client that is not ours: Tencent Cloud's SDK for Node drives the embedded Lighthouse.
//
// node tencent_client.mjs --lighthouse URL --clock URL; one line a check, `N passed, N failed` at the end.
import { parseArgs } from "node:util";
import tencentcloud from "tencentcloud-sdk-nodejs/tencentcloud/services/lighthouse/index.js";

const { values: given } = parseArgs({ options: { lighthouse: { type: "string" }, clock: { type: "string" } } });
const { Client } = tencentcloud.lighthouse.v20200324;
let passed = 0;
let failed = 0;

function check(what, good) {
  good ? (passed += 1) : (failed += 1);
  console.log(good ? "ok    " : "FAILED", what);
}

function client({ region = "ap-guangzhou", secretId = "AKIDEMBEDDED", secretKey = "embedded" } = {}) {
  const endpoint = given.lighthouse.replace("http://", "");
  const httpProfile = { protocol: "http://", endpoint, reqTimeout: 10 };
  return new Client({ credential: { secretId, secretKey }, region, profile: { httpProfile } });
}

async function refused(code, operation, body = {}, of = {}) {
  try {
    await client(of)[operation](body);
    check(`${operation} is refused with ${code}`, false);
  } catch (error) {
    check(`${operation} is refused with ${code} (${error.code})`, error.code === code);
  }
}

async function knobs(values) {
  await fetch(`${given.clock}/lighthouse/knobs`, { method: "PUT", body: JSON.stringify(values) });
}

async function until(what, holds, seconds = 30) {
  const end = Date.now() + seconds * 1000;
  let good = await holds();
  while (!good && Date.now() < end) {
    await new Promise((wake) => setTimeout(wake, 100));
    good = await holds();
  }
  check(what, good);
}

const api = client();
const regions = await api.DescribeRegions({});
check("the Regions are listed", regions.RegionSet.some((one) => one.Region === "ap-tokyo"));
const { InstanceIdSet } = await api.CreateInstances({
  BundleId: "bundle_starter_nmc_lin_med2_01",
  BlueprintId: "lhbp-f1lkcd41",
  InstanceChargePrepaid: { Period: 1 },
  InstanceName: "网站",
  Tags: [{ Key: "snapkeep", Value: "on" }],
});
const InstanceId = InstanceIdSet[0];
const shown = async () => (await api.DescribeInstances({ InstanceIds: [InstanceId] })).InstanceSet[0];
await until("the instance runs", async () => (await shown()).InstanceState === "RUNNING");
const instance = await shown();
check("it has its name and tags", instance.InstanceName === "网站" && instance.Tags[0].Value === "on");

const order = { InstanceId, SnapshotName: "a", Tags: [{ Key: "snapkeep:slot", Value: "2026-11-20T03:00:00Z" }] };
const { SnapshotId } = await api.CreateInstanceSnapshot(order);
await refused("UnsupportedOperation.LatestOperationUnfinished", "CreateInstanceSnapshot", order);
await refused("UnsupportedOperation.InvalidSnapshotState", "DeleteSnapshots", { SnapshotIds: [SnapshotId] });
const snapshots = async () =>
  (await api.DescribeSnapshots({ Filters: [{ Name: "instance-id", Values: [InstanceId] }] })).SnapshotSet;
await until("it becomes normal", async () => (await snapshots())[0].SnapshotState === "NORMAL");
const [snapshot] = await snapshots();
check("it has its disk and tags",
  snapshot.DiskId === instance.SystemDisk.DiskId && snapshot.Tags[0].Key === "snapkeep:slot");
const of_tag = { Filters: [{ Name: "tag:snapkeep:slot", Values: ["2026-11-20T03:00:00Z"] }] };
check("it is found by its tag", (await api.DescribeSnapshots(of_tag)).TotalCount === 1);
await api.DeleteSnapshots({ SnapshotIds: [SnapshotId] });
await until("it is gone some time after its deletion", async () => (await snapshots()).length === 0);

await refused("AuthFailure.SecretIdNotFound", "DescribeRegions", {}, { secretId: "AKIDNOBODY" });
await refused("AuthFailure.SignatureFailure", "DescribeRegions", {}, { secretKey: "another" });
await refused("UnsupportedRegion", "DescribeInstances", {}, { region: "ap-nowhere" });
await refused("ResourceNotFound.InstanceIdNotFound", "CreateInstanceSnapshot", { InstanceId: "lhins-00000000" });
await refused("ResourceNotFound.SnapshotIdNotFound", "DeleteSnapshots", { SnapshotIds: ["lhsnap-00000000"] });
await refused("InvalidParameterValue.SnapshotIdMalformed", "DeleteSnapshots", { SnapshotIds: ["a"] });
await refused("MissingParameter", "DeleteSnapshots");
await knobs({ snapshot_quota: 0 });
await refused("LimitExceeded.SnapshotQuotaLimitExceeded", "CreateInstanceSnapshot", order);
await knobs({ snapshot_quota: 500 });
for (const [kind, code] of [["throttle", "RequestLimitExceeded"], ["server_error", "InternalError"],
  ["denied", "UnauthorizedOperation.NoPermission"]]) {
  await knobs({ faults: [{ operation: "DescribeSnapshots", kind }] });
  await refused(code, "DescribeSnapshots");
}

console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
