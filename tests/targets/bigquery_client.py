"""Run target-bigquery, or a query, with bigquery_server.py, which needs no credentials.

PYTHON_WITH_TARGET_BIGQUERY bigquery_client.py load OPTIONS…    target-bigquery, with its own options
PYTHON_WITH_TARGET_BIGQUERY bigquery_client.py ask              a query from stdin, its rows as JSON lines
"""

from __future__ import annotations

import json
import sys

import google.auth
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from target_bigquery.target import TargetBigQuery


def main() -> None:
    """Run the target or a query."""
    anonymous = AnonymousCredentials()  # type: ignore[no-untyped-call, unused-ignore]
    google.auth.default = lambda *_, **__: (anonymous, "warehouse")
    if sys.argv.pop(1) == "load":
        TargetBigQuery.cli()
    for row in bigquery.Client().query_and_wait(sys.stdin.read()):
        sys.stdout.write(json.dumps(dict(row), default=str) + "\n")


if __name__ == "__main__":
    main()
