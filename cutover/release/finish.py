"""The end of a session: keep the release, revert it, or restore the last verified one; and the SessionResult."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cutover.core.change import SWITCH, Change
from cutover.core.config import Settings
from cutover.core.errors import ConfigError, CutoverError, EngineUnavailable, Failed, Locked, OperatorNeeded
from cutover.core.evidence import Evidence, count_outcomes
from cutover.core.masking import printable
from cutover.core.result import (
    FAILED,
    INTERNAL,
    INTERRUPTED,
    MAX_REASONS,
    NEEDS_OPERATOR,
    NOTHING,
    NOTHING_RAN,
    OK,
    UNASKED,
    USAGE,
    Outcomes,
    Reason,
    Running,
    SessionResult,
    Status,
    exit_code,
    is_verified,
    reasons_of,
    sentence_of,
    why_unverified,
)
from cutover.core.target import ReleaseRequest
from cutover.core.text import clock_of, now, seconds_of, stamp
from cutover.core.verdict import Outcome
from cutover.env.envfile import set_env_value
from cutover.release.changes import PreviousRelease, images_of_file, undo_lines
from cutover.release.colors import BeforeRelease, Situation, main_container, tag_of
from cutover.release.history import Hold, Moment, Record, Unrecorded
from cutover.release.notify import report_path, send_event
from cutover.release.plan import ReleasePlan
from cutover.release.running import previous_of
from cutover.release.state import State, did_revert, lock_owner, who
from cutover.release.transaction import REVERT_PATIENCE_S, Reporter, Transaction
from cutover.release.verify import (
    ASK_AGAIN,
    describe_color,
    describe_difference,
    describe_users,
    engine_causes,
    gate_of_old,
    verify_reverted,
    was_verified,
    what_runs,
)
from cutover.report.write import ReleaseFiles
from cutover.system import docker, process
from cutover.system.platform import project_of

if TYPE_CHECKING:
    from cutover.watch.traffic import UsersCost

SAVE_LOGS_S = 3.0
RESTORE_BUDGET_S = 30.0
RESTORE_WAIT_S = 60.0
EVENTS = {
    Status.RELEASED: "released",
    Status.HELD: "held",
    Status.ROLLED_BACK: "reverted",
    Status.ROLLBACK_FAILED: "operator_needed",
}
TRY_AGAIN = "fix and run the same command again; nothing is locked, nothing is half done"


@dataclass(frozen=True, slots=True)
class SessionEnd:
    """What is known at the end of a session; `finish` decides by it what becomes of the release."""

    situation: Situation
    plan: ReleasePlan
    tx: Transaction
    report: Reporter
    outcomes: Outcomes
    trouble: CutoverError | None = None
    """The error of the step that failed."""
    whole: bool = True
    """Whether no test was deselected, so that a pass proves the release."""
    causes: list[str] = field(default_factory=list)
    """What the engine knows of the release that failed, filled before it is reverted."""

    def finish(self) -> SessionResult:
        """Keep or revert the release; never raises: whatever breaks is a result that needs an operator."""
        code, request = exit_code(self.outcomes), self.situation.request
        if request.plan:
            return self._result(Status.PLAN, OK if code == NOTHING_RAN else code)
        try:
            result = self._decide(code)
        except Exception as error:  # noqa: BLE001  # the end of a session must say what runs, whatever broke
            result = self._operator_needed(f"{type(error).__name__}: {error}")
        if request.changes_something or self.tx.changed:
            status = str(result.status)
            if result.status is not Status.ROLLBACK_FAILED:  # that one is in the journal already
                failed = result.failed_requests
                tx, code = self.tx, result.exit_code
                tx.state.journal("end", release=tx.id or None, word=status, code=code, failed_requests=failed)
            event = EVENTS.get(result.status)
            if event is not None:
                situation = replace(self.situation, before=self.tx.before)
                send_event(situation, self.report, event, sentence_of(result), result.exit_code)
        return result

    def _decide(self, code: int) -> SessionResult:
        request, changed = self.situation.request, self.tx.changed
        if is_verified(self.outcomes):
            return self._keep() if request.hold_s is None or not changed else self._hold(request.hold_s)
        if changed:
            return self._revert(code) if request.rollback else self._keep_unverified(code)
        if isinstance(self.trouble, ConfigError):
            return self._result(Status.UNCHANGED, USAGE)
        if code == FAILED:
            only_gate = not request.changes_something and request.rollback and self.whole
            restored = self._restore_verified() if only_gate else None
            return restored or self._result(Status.GATE_FAILED, code)
        unchanged = code in {INTERRUPTED, INTERNAL, USAGE}
        return self._result(Status.UNCHANGED if unchanged else Status.INCONCLUSIVE, code)

    # --- keeping -------------------------------------------------------------------------------------------------
    def _keep(self) -> SessionResult:
        """Commit by one rename under the step lock; nothing is called released before."""
        tx, request, left = self.tx, self.situation.request, self._left_to_record()
        color = self.situation.target.color
        if not tx.commit(left):
            return self._reverted_by_another()
        if tx.changed:
            self._write_down(left)
        elif self.whole and color is not None and not request.changes_something and request.rollback:
            record_running(self.situation, float(self.report.evidence.facts["began"]))
        if self._switched:
            self._after_commit()
        done = tx.changed or request.changes_something
        return self._result(Status.RELEASED if done else Status.GATE_PASSED, OK)

    def _hold(self, seconds: float) -> SessionResult:
        """Leave the release open until its deadline; what cannot be held is reverted."""
        tx, left = self.tx, self._left_to_record()
        hold = Hold(left, Moment.now(), seconds, self.situation.before.live if self._switched else None)
        try:
            self._record_adopted()
            if not tx.state.hold(hold):
                return self._reverted_by_another()
        except (CutoverError, OSError, ValueError) as error:
            why = f"the release cannot be held, because that cannot be written down: {_why(error)}"
            return replace(self, trouble=Failed(why))._revert(FAILED)  # noqa: SLF001  # its own class
        until = hold.until(Moment.now())
        tx.state.journal("held", release=tx.id, **left.facts, until=stamp(until), seconds=seconds)
        shown, command = clock_of(stamp(until), now()), f"cutover confirm {tx.id}"
        unless = f"when it is reverted unless it is confirmed: {command}"
        self.report.line("T+15m", "hold", f"until {shown}, {unless}")
        return replace(self._result(Status.HELD, OK), held_until=shown, confirm_command=command)

    @property
    def _switched(self) -> bool:
        return self.situation.request.switch and SWITCH in self.tx.done

    def _left_to_record(self) -> Unrecorded:
        """What is to be written down once this is committed; what no user gets is staged, and resolves nothing."""
        situation, tx, live = self.situation, self.tx, self._live_from_now_on()
        facts = {"color": situation.target.color, "tag": situation.tag, "who": who()}
        record = replace(tx.record, verified=self.whole) if tx.record is not None else None
        return Unrecorded(tx.id, "released" if live is not None else "staged", facts, record, live)

    def _live_from_now_on(self) -> dict[str, Any] | None:
        """The further arguments of `keep_live`; None if the target is not live."""
        situation, plan = self.situation, self.plan
        to, live = situation.target.color, situation.before.live
        alone = live is None and situation.settings.proxy is None
        if to is None or not (self._switched or to == live or alone):
            return None
        previous = plan.old if self._switched else plan.deploy.previous if plan.deploy else None
        file = previous.file.name if previous else ""
        return {"to": to, "before": live, "file": file, "warm": self._switched}

    def _write_down(self, left: Unrecorded) -> None:
        """Write down what the commit has *left*; the release stays whatever cannot be written."""
        from cutover.release.prune import prune_releases
        from cutover.release.rollback import write_down

        begun, settings, state = time.monotonic(), self.situation.settings, self.tx.state
        try:
            if left.record is not None:
                self._record_adopted()
            write_down(settings, state, left)
            if left.record is not None:
                with contextlib.suppress(EngineUnavailable):
                    prune_releases(settings, state)
        except (CutoverError, OSError, ValueError) as error:
            kept, lost = "the next release or `cutover recover` writes it", "make room and release it again"
            later = kept if state.leave(left) else lost
            self.report.line("", "record", f"not written: {_why(error)}; {later}", begun, "unknown")

    def _record_adopted(self) -> None:
        from cutover.release.rollback import keep_adopted

        plan, situation = self.plan, self.situation
        if plan.deploy is not None and plan.deploy.previous is not None:
            keep_adopted(situation.settings, self.tx.state, plan.deploy.rendered.color, plan.deploy.previous)
        if plan.old is not None and situation.before.live is not None:
            keep_adopted(situation.settings, self.tx.state, situation.before.live, plan.old)

    def _after_commit(self) -> None:
        from cutover.release.switch import retire_old

        begun = time.monotonic()
        try:
            retire_old(self.situation, self.report)
        except (CutoverError, OSError, ValueError) as error:
            name, text = f"retire {self.situation.before.live}", f"not done: {error}; see cutover status"
            self.report.line("T+15m", name, text, begun, "unknown")

    def _keep_unverified(self, code: int) -> SessionResult:
        """--keep-on-failure: close the release as it is; guard and `cutover recover` leave a closed release alone."""
        left = Unrecorded(self.tx.id, "kept unverified", {"who": who()}, self.tx.record)
        if not self.tx.commit(left):
            return self._reverted_by_another()
        self._write_down(left)
        return self._result(Status.KEPT_UNVERIFIED, code)

    # --- reverting -----------------------------------------------------------------------------------------------
    def _revert(self, code: int) -> SessionResult:
        tx, settings, proxy = self.tx, self.situation.settings, self.situation.colors.proxy
        begun = time.monotonic()
        done = self._run_undo()
        if not done.ok:
            self.report.line("", "undo", f"failed: {done.last_line}", begun, "no")
            return self._operator_needed(done.last_line)
        ours = did_revert(done, tx.id)
        if ours:
            tx.state.journal("reverted", release=tx.id, who=who(), why=why_unverified(self.outcomes))
        after = verify_reverted(settings, proxy, tx)
        if after.trouble:
            self.report.line("", "undo", f"done, but {after.trouble}", begun, "no")
            return self._operator_needed(after.trouble, differs=True)
        before = tx.before
        paths, verified = self.situation.request.paths, was_verified(tx.state, before)
        asks = before.live and before.label
        asked = gate_of_old(settings, before, paths, verified=verified) if asks else None
        trouble, notes, gate = asked or ("", (), None)
        if trouble:
            return self._operator_needed(trouble, differs=True, only_recover=True)
        if isinstance(self.trouble, OperatorNeeded):
            return self._operator_needed(str(self.trouble), only_recover=True)
        for color in {*filter(None, (before.live,)), *tx.touched}:
            _refresh_record(settings, tx.state, color)
        said = [each.removeprefix("note: ") for each in done.out.splitlines() if each.startswith("note: ")]
        now_there = describe_color(settings, proxy, before.live or self.situation.target.color)
        passed = [gate.reason] if gate and gate.outcome is not Outcome.NO else []
        self.report.line("", "undo", "; ".join([self._undone(), now_there, *passed]), begun)
        with contextlib.suppress(CutoverError, OSError):
            from cutover.release.prune import unpin_images

            unpin_images(settings, tx.state)  # nobody goes back to a bad release
        result = self._result(Status.ROLLED_BACK, code) if ours else self._reverted_by_another()
        causes = tuple(Reason("", each) for each in self.causes if not _is_said(each, result.reasons))
        reasons, noted = (causes + result.reasons)[:MAX_REASONS], (*result.notes, *said, *after.notes, *notes)
        return replace(result, reasons=reasons, notes=noted)

    def _run_undo(self) -> process.CompletedCommand:
        # An engine that does not answer, or a huge log, must not keep users on a bad release: logs get 3 s.
        saving = threading.Thread(target=self._save_what_failed, daemon=True)
        saving.start()
        if not _flips(self.tx):  # else users wait for the switch back
            saving.join(SAVE_LOGS_S)
        begun = time.monotonic()

        def failed(why: str) -> None:
            text = f"failed: {why}; repeated until it works, for at most {REVERT_PATIENCE_S:.0f} s"
            self.report.line("", "undo", text, begun, "unknown")

        done = self.tx.revert(failed)
        saving.join(SAVE_LOGS_S)
        return done

    def _undone(self) -> str:
        if self.tx.restored is not None:
            return " and ".join(each.text for each in self.tx.changes)
        undone = dict.fromkeys(each.name for each in reversed(self.tx.changes) if each.undo)
        # Users of the report know the change "up" as the deploy.
        names = ("deploy" if name == "up" else name for name in undone)
        return f"{' and '.join(names) or 'nothing'} reverted"

    def _save_what_failed(self) -> None:
        """Save what the engine knows of the release before its containers are gone: how they ended, their logs."""
        color, file = self.situation.target.color, self.report.evidence.file
        if color is None:
            return
        settings = self.situation.settings
        with contextlib.suppress(EngineUnavailable):
            if self.tx.record is not None:
                found = docker.by_service(settings.compose_project(color), settings.services)
                tasks = _tasks_of(settings, color)
                self.causes.extend(engine_causes(self.tx.record, settings.service, found, tasks))
        if file is None:
            return
        with contextlib.suppress(EngineUnavailable, OSError):
            for service in (*settings.services, *settings.workers):  # the most important one first
                for each in docker.containers(settings.compose_project(color), service):
                    text = "\n".join(docker.logs(each.id, tail=settings.logs.max_lines))
                    path = file.parent / f"{color}-{service}-{each.short}.log"
                    path.write_text(printable(text) + "\n", encoding="utf-8")

    def _reverted_by_another(self) -> SessionResult:
        """Another process ran the revert during the session; whether it did what it should is verified as well."""
        by = self.tx.reverted_by()
        after = verify_reverted(self.situation.settings, self.situation.colors.proxy, self.tx)
        if after.trouble:
            return self._operator_needed(f"reverted by {by}, but {after.trouble}", differs=True)
        reasons = (Reason("", f"the release was reverted by {by}"),)
        return replace(self._result(Status.ROLLED_BACK, FAILED), reasons=reasons, notes=after.notes)

    def _operator_needed(
        self, why: str, *, differs: bool = False, only_recover: bool = False
    ) -> SessionResult:
        """An operator is needed: what runs now, whether users are served, what was tried, and the one command.

        *differs*: *why* is what differs from before the release, else a step that failed.
        *only_recover*: that users are served as before cannot be seen by who serves, so only that command resolves it.
        """
        result, state = self._result(Status.ROLLBACK_FAILED, NEEDS_OPERATOR), self.tx.state
        command = state.revert_command if state.open_release() else ASK_AGAIN
        where = f"on {os.uname().nodename}; safe to run again"
        facts = {"why": why, "run": command, "only_recover": only_recover}
        release, word = self.tx.id or None, str(result.status)
        state.journal("end", release=release, word=word, code=result.exit_code, **facts)
        text, users = why if differs else "", ""
        with contextlib.suppress(CutoverError, OSError):
            colors = self.situation.colors.refreshed()
            text, users = text or describe_difference(colors, state, self.tx.id), describe_users(colors)
        tried = () if differs else (why,)
        return replace(result, tried=tried, differs=text, users=users, command=command, command_where=where)

    # --- restoring -----------------------------------------------------------------------------------------------
    def _restore_verified(self) -> SessionResult | None:
        """After a failed gate on an unverified release, restore the last verified one; None if nothing changed."""
        from cutover.release.rollback import finish_record

        begun, state = time.monotonic(), self.tx.state
        try:
            if _last_verified(self.situation) is None:
                return None
            state.prepare()
            with state.locked(lock_owner(self.situation.request.summary)):
                if state.open_release() is not None:
                    return None  # of a session that died: its guard reverts more than this would
                if completed := finish_record(self.situation.settings, state):
                    self.report.line("", "recover", completed)
                # Another session may have released since then.
                if (record := _last_verified(self.situation)) is None:
                    return None
                _open_restore(self.tx, self.situation, record)
                result = self._revert(FAILED)
                if result.status is Status.ROLLED_BACK:
                    _name_restored(self.tx, self.situation.settings, record)
                return result
        except (ConfigError, Locked) as error:
            if self.tx.changed:
                raise
            self.report.line("", "put back", str(error), begun, "no")
            return None

    # --- the result ----------------------------------------------------------------------------------------------
    def _result(self, status: Status, code: int) -> SessionResult:
        settings, evidence, tx = self.situation.settings, self.report.evidence, self.tx
        good = status.kind == "good"
        observed = time.monotonic()
        running = what_runs(settings, self.situation.colors.proxy)
        if not any(each.live for each in running):
            running.sort(key=lambda each: each.color != self.situation.target.color)
        cost, unknown = (None, "")
        if self._switched and not good:
            cost, unknown = _users_cost(self.situation, evidence)
        rehearsal = tx.state.last_rehearsal() if good and self._switched else None
        no_reasons = good or status is Status.PLAN
        gone = self._old_color_gone(running) if good and self._switched else ()
        return SessionResult(
            status,
            settings.project,
            code,
            tuple(running),
            observed_s_ago=time.monotonic() - observed,
            as_before=tx.restored is None,
            reasons=() if no_reasons else reasons_of(self.outcomes, evidence.checks, self.trouble),
            report=report_path(evidence),
            next_steps=() if no_reasons or status is Status.ROLLBACK_FAILED else (TRY_AGAIN,),
            passed=count_outcomes(evidence)[Outcome.YES],
            release_open=tx.state.open_release() is not None,
            staged=self._staged(running) if status is Status.RELEASED else "",
            notes=gone,
            rollback_s=float(rehearsal["seconds"]) if rehearsal and not gone else None,
            failed_requests=cost.failed if cost and (cost.failed or not unknown) else None,
            failed_s=cost.span_s if cost and cost.failed else None,
            failed_unknown=unknown,
            schema="" if good else str(evidence.facts.get("schema", "")),
        )

    def _staged(self, running: Sequence[Running]) -> str:
        """The color that was deployed and gets no traffic; empty if users have what was released."""
        color, settings = self.situation.target.color, self.situation.settings
        if self._switched or self.situation.request.deploy is None or settings.proxy is None or color is None:
            return ""
        return "" if any(each.live and each.color == color for each in running) else color

    def _old_color_gone(self, running: Sequence[Running]) -> tuple[str, ...]:
        """Says that the old color, which is kept for a rollback, does not run any more."""
        situation = self.situation
        settings, old, proxy = situation.settings, situation.before.live, situation.colors.proxy
        if old is None or proxy is None or not proxy.keeps_old_color or settings.watch.old_color != "keep":
            return ()
        state = next((each.state for each in running if each.color == old), NOTHING)
        if state in {"runs", UNASKED}:
            return ()
        what = "nothing runs there" if state == NOTHING else state
        return (f"{old} is not warm any more ({what}){self._way_back()}; see `cutover status`",)

    def _way_back(self) -> str:
        """`: cutover rollback deploys sha-1 in place on green`; empty while a release is open, which it reverts."""
        from cutover.release.rollback import plan_rollback

        if self.tx.state.open_release() is not None:
            return ""
        try:
            way = plan_rollback(self.tx.state, self.situation.colors.refreshed())
        except (CutoverError, OSError, ValueError) as error:
            return f": {_why(error)}"
        return f": `cutover rollback` {way.text}"


def _tasks_of(settings: Settings, color: str) -> list[docker.SwarmTask] | None:
    """All tasks of the main service that the Swarm remembers, none if it does not say so; None with Compose."""
    if settings.platform.kind != "swarm":
        return None
    with contextlib.suppress(EngineUnavailable):
        name = f"{settings.compose_project(color)}_{settings.service}"
        return docker.swarm_tasks(name, docker.swarm_nodes())
    return []


def _is_said(cause: str, reasons: Sequence[Reason]) -> bool:
    """Whether one of *reasons* says how the container ended, which is the last part of *cause*."""
    return any(cause.rpartition(": ")[2] in each.text for each in reasons)


def url_result(request: ReleaseRequest, evidence: Evidence, outcomes: Outcomes) -> SessionResult:
    """The result of a gate of plain URLs, which could not change anything."""
    code = exit_code(outcomes)
    statuses = {OK: Status.GATE_PASSED, FAILED: Status.GATE_FAILED}
    said = "passed what can be asked over HTTP" if code == OK else "did not pass"
    limits = "a URL has no container here, so nothing else was asked and nothing could be changed"
    return SessionResult(
        statuses.get(code, Status.INCONCLUSIVE),
        request.targets[0],
        code,
        reasons=() if code == OK else reasons_of(outcomes, evidence.checks),
        passed=count_outcomes(evidence)[Outcome.YES],
        sentence=f"{', '.join(request.targets)} {said}; {limits}.",
    )


def release_files(tx: Transaction | None) -> ReleaseFiles:
    """The undo script and the journal of this release, for the report."""
    if tx is None or not tx.changed:
        return ReleaseFiles()
    rows: list[dict[str, Any]] = []
    undo = ""
    with contextlib.suppress(ConfigError):
        rows += [row for row in tx.state.history() if row.get("release") == tx.id]
    with contextlib.suppress(OSError):
        undo = (tx.state.root / "undo.sh").read_text(encoding="utf-8")
    return ReleaseFiles(tx.id, undo, rows)


def _flips(tx: Transaction) -> bool:
    return any(each.name == SWITCH for each in tx.changes)


def _users_cost(situation: Situation, evidence: Evidence) -> tuple[UsersCost, str]:
    """What users got since the switch by the log of each proxy, and why that is not known or not all of it."""
    from cutover.proxy.access_log import access_logs
    from cutover.proxy.base import own_paths
    from cutover.watch.traffic import UsersCost, cost_since

    settings, color = situation.settings, situation.target.color
    switched = [step.at - step.seconds for step in evidence.steps if step.name == "switch"]
    if settings.proxy is None or color is None or not switched:
        return UsersCost(), "no switch was seen"
    if not (logs := access_logs(settings)):
        return UsersCost(), f"{settings.source} has no [proxy] access_log"
    cost = cost_since(logs, color, switched[-1], own_paths(settings))
    return cost, cost.unknown or str(evidence.facts.get("proxy_silent", ""))


# --- verified releases -----------------------------------------------------------------------------------------------
def record_running(situation: Situation, began: float) -> None:
    """Record as verified what runs on the target, which has passed a whole gate that *began* then (since 1970).

    Nothing is recorded while a session releases (its own end does that), or if it cannot be recorded now.
    """
    state = situation.state
    with contextlib.suppress(CutoverError, OSError):
        state.prepare()
        with state.locked(lock_owner(situation.request.summary)):
            if state.open_release() is None:
                _record_container(situation, began)


def _record_container(situation: Situation, began: float) -> None:
    state, color = situation.state, situation.color
    previous = previous_of(situation.colors, color)
    found = main_container(situation.settings, color)
    # A container that was started during the gate is not the one that the gate has checked.
    if previous is None or found is None or seconds_of(found.started_at) >= began:
        return
    if state.verified_record(color, found) is None:
        tag, identity = tag_of(found.image_name) or "", (found.image, found.config_hash, found.id)
        record = Record(color, tag, *identity, previous.file.name, verified=True, by=who(), at=now())
        state.keep_record(record)


def _why(error: Exception) -> str:
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error)


def _refresh_record(settings: Settings, state: State, color: str) -> None:
    """The record of what was restored gets the id of the new container, and stays verified."""
    # What cannot be written down now changes nothing for users.
    with contextlib.suppress(CutoverError, OSError):
        found = main_container(settings, color)
        for row in reversed(state.records(color)):
            if found and row.verified and row.matches(found):
                if row.container != found.id:
                    state.keep_record(replace(row, container=found.id, at=now()))
                return


def _last_verified(situation: Situation) -> Record | None:
    """The last verified release of the target, unless a verified one runs or the engine does not answer.

    None also if another container runs there than when the gate began: the gate says nothing about it.
    """
    settings, color = situation.settings, situation.target.color
    if color is None or len(situation.request.targets) != 1:
        return None
    if not (good := [row for row in situation.state.records(color) if row.verified]):
        return None
    try:
        found = main_container(settings, color)
    except EngineUnavailable:
        return None
    was, now_there = situation.target, found.id if found else ""
    # A Swarm replaces the task of a release that crashes: it is the same release by its tag.
    tasks = settings.platform.kind == "swarm" and found is not None and tag_of(found.image_name) == was.tag
    if not tasks and now_there != was.container:
        return None
    return None if situation.state.verified_record(color, found) else good[-1]


def _open_restore(tx: Transaction, situation: Situation, record: Record) -> None:
    """Open a release that consists of its undo: *record* is restored, and if needed the traffic goes back.

    Its journal entry says what users are to have, for whoever reverts it.
    """
    from cutover.release.rollback import live_before_operator, note_live, on_top
    from cutover.release.switch import back_change

    settings, state, color = situation.settings, situation.state, record.color
    path = state.release_path(color, record.file)
    reference = images_of_file(path).get(settings.service)
    if reference is None or docker.image_id(record.image) is None:
        why = "its file is damaged" if reference is None and path.is_file() else "its file or image is gone"
        raise ConfigError(f"{color}: the verified release {record.tag} cannot be put back, {why}")
    # The record knows the container of the main service only: the others are started anew from the file.
    ran = dict.fromkeys(settings.services, record.container)
    wait_s = settings.gate.start_timeout or RESTORE_WAIT_S
    previous = PreviousRelease(path, ran, {reference: record.image}, wait_s)
    undo = undo_lines(state.root, project_of(settings, color, previous.file), settings.services, previous)
    before, to = situation.before, live_before_operator(situation)
    if to is not None:
        note_live(settings, state, color, on_top)
        before = BeforeRelease(to.color, to.tag, to.image)
    elif before.live in {None, color}:
        before = BeforeRelease(before.live, record.tag, record.image)
    tx.restored, tx.before = record, before
    if to is not None:
        tx.apply(back_change(situation.colors, to.color))
    text = f"{record.tag} on {color}, the last verified release"
    tx.apply(Change("put back", text, ("true",), undo, RESTORE_BUDGET_S))


def _name_restored(tx: Transaction, settings: Settings, record: Record) -> None:
    """Record where the traffic went, and write the restored tag to the env file for the next `compose up`."""
    if _flips(tx):
        went = {"color": tx.before.live, "tag": tx.before.tag, "who": who()}
        tx.state.journal("rolled back", release=tx.id, **went)
    with contextlib.suppress(OSError):
        set_env_value(settings.colors[record.color].env_file, settings.env_keys.tag, record.tag)
