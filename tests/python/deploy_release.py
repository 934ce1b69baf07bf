"""Deploys the stack of a release as its user does: unpacked in an empty folder, by `sam deploy`, on moto.

python deploy_release.py TOOLS: the folder of sam's programs. The functions are those that `sam build` left. moto takes the
change set and makes what it knows of; it does not translate serverless resources, which tests/e2e/stack.rs tries translated.
"""

import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

ROOT = Path(__file__).parent.parent.parent
tools = Path(sys.argv[1]).resolve()
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server.start()
_, port = server.get_host_and_port()
# By this name, moto finds the bucket in the URL that sam gives it for the template.
os.environ |= {
    "AWS_ENDPOINT_URL": f"http://localhost:{port}", "AWS_DEFAULT_REGION": "us-east-1", "SAM_CLI_TELEMETRY": "0",
    "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
}

with tempfile.TemporaryDirectory() as folder:
    unpacked = Path(folder)
    for function in ["create", "poll", "prune"]:
        with zipfile.ZipFile(unpacked / f"{function}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(ROOT / f".aws-sam/build/{function.capitalize()}/bootstrap", "bootstrap")
    template = subprocess.run(
        [tools / "python", ROOT / "infra/generate.py", "--release", "x86_64"], check=True, capture_output=True
    )
    (unpacked / "template.yaml").write_bytes(template.stdout)
    shutil.copy(ROOT / "samconfig.toml", unpacked)
    boto3.client("s3").create_bucket(Bucket="releases")
    deploy = [tools / "sam", "deploy", "--no-confirm-changeset", "--no-resolve-s3", "--s3-bucket", "releases",
              "--no-progressbar", "--parameter-overrides", "Keep=all"]
    for _ in ["create", "update"]:
        subprocess.run(deploy, cwd=unpacked, check=True, stdout=subprocess.DEVNULL)

[stack] = boto3.client("cloudformation").describe_stacks(StackName="snapkeep")["Stacks"]
assert stack["StackStatus"] == "UPDATE_COMPLETE", stack
given = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
assert (given["Keep"], given["DryRun"]) == ("all", "off"), given
uploaded = boto3.client("s3").list_objects_v2(Bucket="releases")["Contents"]
zips = [one for one in uploaded if one["Size"] > 1_000_000]
assert len(zips) == 3, [one["Key"] for one in uploaded]
server.stop()
print("sam deployed the stack of a release")
