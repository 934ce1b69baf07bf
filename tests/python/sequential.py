"""Snapshots every tagged instance, one call after the other: what people write themselves."""

import sys
import time

import boto3

lightsail = boto3.client("lightsail", region_name=sys.argv[1], endpoint_url=sys.argv[2])
began = time.monotonic()
taken = 0
for page in lightsail.get_paginator("get_instances").paginate():
    for instance in page["instances"]:
        tags = {tag["key"] for tag in instance["tags"]}
        if "snapkeep" in tags:
            name = f"{instance['name']}-{sys.argv[3]}"
            lightsail.create_instance_snapshot(
                instanceName=instance["name"], instanceSnapshotName=name
            )
            taken += 1
print(taken, round(time.monotonic() - began, 2))
