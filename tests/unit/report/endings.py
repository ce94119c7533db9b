"""Three session results: released, reverted, revert failed."""

from __future__ import annotations

from cutover.core.result import Reason, Running, SessionResult, Status

RELEASED = SessionResult(
    status=Status.RELEASED,
    project="recall",
    exit_code=0,
    running=(
        Running("green", "sha-9b7d001", "runs", live=True, digest="sha256:" + "9b" * 32),
        Running("blue", "sha-4f1c2aa", "kept warm until 18:00", digest="sha256:" + "4f" * 32),
    ),
    observed_s_ago=0.2,
    report="reports/latest/report.html",
    passed=57,
    rollback_s=0.0016,
    failed_requests=0,
)
ROLLED_BACK = SessionResult(
    status=Status.ROLLED_BACK,
    project="recall",
    exit_code=1,
    running=(
        Running("blue", "sha-4f1c2aa", "runs", live=True, digest="sha256:" + "4f" * 32),
        Running("green", "sha-9b7d001", "stopped", digest="sha256:" + "9b" * 32),
    ),
    observed_s_ago=1.0,
    reasons=(
        Reason(
            "checks/test_errors.py::test_5xx_rate[live]",
            "4.8 % of requests failed on green (app: the proxy got 500 from green-api, 31 times, "
            "29 on POST /memories)",
        ),
    ),
    report="reports/latest/report.html",
    next_steps=("fix and run the same command again; nothing is locked, nothing is half done",),
    failed_requests=31,
    failed_s=12.6,
)
ROLLBACK_FAILED = SessionResult(
    status=Status.ROLLBACK_FAILED,
    project="recall",
    exit_code=11,
    running=(
        Running("green", "sha-9b7d001", "fails 1 of 14 checks", live=True),
        Running("blue", "sha-4f1c2aa", "stopped"),
    ),
    observed_s_ago=2.0,
    as_before=False,
    tried=("undo step 2 of 3: docker compose … up --wait api → exit 1: no space left on device",),
    differs="traffic goes to green, it went to blue",
    users="not served by green (sha-9b7d001): ready: expected status 200, got 503",
    command="sh /var/lib/cutover/recall/revert.sh /var/lib/cutover/recall 20250904T011000Z",
    command_where="on web-1, as deploy; safe to run again",
    report="reports/latest/report.html",
    release_open=True,
)
