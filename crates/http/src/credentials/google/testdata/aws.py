#!/usr/bin/env python3
"""Prints the signature of a request for AWS's GetCallerIdentity, by botocore, for the test in `../aws.rs`.

    pip install botocore && python3 aws.py
"""
import datetime

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

AUDIENCE = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/aws"
TIME = datetime.datetime(2026, 11, 22, 21, 4, 5, tzinfo=datetime.timezone.utc)

botocore.auth.get_current_datetime = lambda *_, **__: TIME.replace(tzinfo=None)
for session in ("session+token/s3cr3t==", None):
    url = "https://sts.eu-west-1.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
    request = AWSRequest(method="POST", url=url, headers={"x-goog-cloud-target-resource": AUDIENCE})
    keys = Credentials("AKIDEXAMPLE", "s3cr3t-key", session)
    botocore.auth.SigV4Auth(keys, "sts", "eu-west-1").add_auth(request)
    print(request.headers["Authorization"])
    print(request.headers["X-Amz-Date"])
