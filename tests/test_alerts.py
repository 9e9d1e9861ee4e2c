"""Alerts and dashboards: what fires and what does not, and that they ask for metrics that there are."""

import json
import re
from pathlib import Path

import pytest

from core_tables.deploy.observability import committed
from core_tables.deploy.observability.alerts import ALERTS
from core_tables.deploy.observability.dashboards import DASHBOARDS

from .metric_tables import OPERATIONS, documented
from .promtool import firing

RUNBOOK = OPERATIONS.with_name("RUNBOOK.md")
SUFFIXES = ("", "_total", "_bucket", "_count", "_sum")
DAY_S = 86_400  # series begin at 0
QUIET = {
    'core_tables_worker_info{instance="w",fold_version="1"}': "1x400",
    'core_tables_ledger_lanes{instance="m"}': "12x400",
    'core_tables_ledger_lanes_owned{instance="m"}': "12x400",
    'core_tables_lane_lag_records{instance="w",lane="3"}': "0x400",
    'core_tables_lane_applied_offset{instance="w",lane="3"}': "100x400",
    'core_tables_lane_log_end_offset{instance="w",lane="3"}': "100x400",
    'core_tables_lane_last_stable_offset{instance="w",lane="3"}': "100x400",
    'core_tables_lane_behind_seconds{instance="w",lane="3"}': "0.5x400",
    'core_tables_audit_behind_seconds{instance="w",lane="3"}': "0.5x400",
    'core_tables_lane_state{instance="w",lane="3",state="folding"}': "1x400",
    'core_tables_thread_turn_timestamp_seconds{instance="w",thread="fold"}': "0+15x400",
    'core_tables_fetch_paused{instance="w"}': "0x400",
    'core_tables_records_total{instance="w",outcome="accepted"}': "0+1500x400",
    'core_tables_records_total{instance="w",outcome="refused"}': "0+15x400",
    'core_tables_commit_age_seconds_count{instance="w"}': "0+300x400",
    'core_tables_commit_age_seconds_bucket{instance="w",le="1.0"}': "0+299x400",
    'core_tables_rebalances_total{instance="w",kind="revoked"}': "1x400",
    'core_tables_reopens_total{instance="w",cause="moved"}': "2x400",
    'core_tables_cache_failures_total{instance="w"}': "0x400",
    'core_tables_drift_work_orders{instance="m"}': "0x400",
    'core_tables_monitor_source_answers{instance="m",source="kafka"}': "1x400",
    'core_tables_certificate_not_after_timestamp_seconds{instance="w",service="kafka",kind="client"}': f"{30 * DAY_S}x400",
}


def changed(*left_out: str, **series: str) -> dict[str, str]:
    """The series of a quiet ledger with others in place of those that begin with these names, and without some."""
    found = (
        {name: values for name, values in QUIET.items() if not name.startswith(left_out)} if left_out else dict(QUIET)
    )
    for start, values in series.items():
        names = [name for name in found if name.startswith(f"core_tables_{start}{{")]
        assert names, start
        found.update(dict.fromkeys(names, values))
    return found


STUCK = {"lane_lag_records": "50x400", "lane_log_end_offset": "150x400", "lane_last_stable_offset": "150x400"}


@pytest.mark.parametrize(
    ("series", "minutes", "expected"),
    [
        (changed(), 45, set()),
        (changed("core_tables_worker_info"), 4, set()),
        (changed("core_tables_worker_info"), 6, {"NoWorker"}),
        (changed("core_tables_ledger_lanes_owned"), 6, {"LaneUnowned"}),
        (changed(ledger_lanes_owned="12x10 6x3 12x400"), 4, set()),
        (changed(ledger_lanes_owned="11x400"), 6, {"LaneUnowned"}),
        (changed(**STUCK), 9, set()),
        (changed(**STUCK), 13, {"LaneStuck"}),
        (changed(**STUCK, lane_applied_offset="100+0.2x400"), 45, set()),
        (changed(lane_behind_seconds="0+15x400"), 6, set()),
        (changed(lane_behind_seconds="0+15x400"), 7, {"Behind"}),
        (changed(lane_behind_seconds="90x10 0x400"), 10, set()),
        (changed(lane_last_stable_offset="90x400", lane_behind_seconds="0+15x400"), 12, {"OpenTransaction"}),
        (
            changed(thread_turn_timestamp_seconds="60x400", lane_behind_seconds="0+15x400", **STUCK),
            15,
            {"ThreadStands"},
        ),
        (
            changed(fetch_paused="1x400", audit_behind_seconds="0+15x400", lane_behind_seconds="0+15x400", **STUCK),
            15,
            {"Paused"},
        ),
        (changed(audit_behind_seconds="0+15x400"), 7, {"AuditBehind"}),
        (changed(audit_behind_seconds="0+15x400", lane_state="0x400"), 20, set()),
        (changed(drift_work_orders="1x400"), 3, {"Drift"}),
        (changed(commit_age_seconds_bucket="0+200x400"), 10, {"CommitAgeBurnsBudget"}),
        (changed(commit_age_seconds_count="0x20 5x400", commit_age_seconds_bucket="0x400"), 10, set()),
        (changed(records_total="0+100x400"), 10, {"RefusedShare"}),
        (changed(rebalances_total="1+1x400"), 10, {"Flapping"}),
        (changed(reopens_total="0x20 12x400"), 10, set()),
        (changed(cache_failures_total="0+3x400"), 12, {"CacheDown"}),
        (changed(cache_failures_total="0x20 1x400"), 20, set()),
        (changed(monitor_source_answers="0x400"), 12, {"MonitorBlind"}),
        (changed(certificate_not_after_timestamp_seconds=f"{20 * DAY_S}x400"), 59, set()),
        (changed(certificate_not_after_timestamp_seconds=f"{20 * DAY_S}x400"), 65, {"CertificateEndsSoon"}),
        (changed(certificate_not_after_timestamp_seconds=f"{2 * DAY_S}x400"), 65, {"CertificateEnds"}),
        (changed(certificate_not_after_timestamp_seconds="60x400"), 10, {"CertificateEnds"}),
        (changed("core_tables_certificate"), 65, set()),
        (
            {
                **changed(lane_behind_seconds="0+15x400", **STUCK),
                'core_tables_lane_stopped_info{instance="w",lane="3",cause="defect"}': "1x400",
            },
            15,
            {"LaneStopped"},
        ),
        ({**QUIET, 'core_tables_worker_info{instance="v",fold_version="2"}': "1x400"}, 50, set()),
        (
            {
                **QUIET,
                'core_tables_worker_info{instance="v",fold_version="2"}': "1x400",
                'core_tables_worker_info{instance="w",fold_version="1"}': "1x400",
            },
            65,
            {"FoldVersionsMixed"},
        ),
        (
            {
                **QUIET,
                'core_tables_batch_step_seconds_bucket{instance="w",step="commit",le="0.5"}': "0+1x400",
                'core_tables_batch_step_seconds_bucket{instance="w",step="commit",le="1.0"}': "0+15x400",
                'core_tables_batch_step_seconds_bucket{instance="w",step="commit",le="+Inf"}': "0+15x400",
            },
            15,
            {"CommitSlow"},
        ),
    ],
    ids=[
        "all is well",
        "no worker for a moment",
        "no worker at all",
        "no monitor",
        "a rebalance is no alert",
        "a lane that nobody has",
        "not stuck yet",
        "stuck",
        "slow is not stuck",
        "not behind for long enough",
        "behind",
        "was behind after a restart",
        "an open transaction",
        "a thread that makes no turns",
        "a full audit queue",
        "an audit that is behind",
        "a lane that waits has nothing new to publish",
        "drift",
        "slow commits",
        "a few slow commits",
        "many refusals",
        "flapping",
        "one takeover is no flapping",
        "no cache",
        "a cache that failed once",
        "a monitor without answers",
        "a certificate that is renewed within the hour",
        "a certificate that ends within three weeks",
        "a certificate that ends within three days",
        "a certificate that has ended",
        "no certificate",
        "a stopped lane",
        "a rollout",
        "two fold versions",
        "a slow Postgres",
    ],
)
def test_an_alert_fires_for_its_cause_and_no_other_does(
    tmp_path: Path, series: dict[str, str], minutes: int, expected: set[str]
) -> None:
    firing(tmp_path, series, minutes, expected)


@pytest.mark.parametrize("name", committed.files())
def test_a_committed_file_is_what_its_source_gives(name: str) -> None:
    assert (committed.COMMITTED / name).read_text("utf-8") == committed.files()[name], "run `make generate`"


def test_every_metric_of_an_alert_or_a_panel_is_in_the_tables() -> None:
    """And test_metrics.py and test_monitor.py hold those against real scrapes."""
    known = {f"{name}{suffix}" for name in documented() for suffix in SUFFIXES}
    asked = [alert.expr for alert in ALERTS]
    asked += [expr for dashboard in DASHBOARDS for panel in dashboard.panels for expr, _ in panel.queries]
    assert {name for expr in asked for name in re.findall(r"core_tables_\w+", expr)} - known == set()


def test_every_metric_of_the_tables_is_in_an_alert_or_a_panel() -> None:
    asked = " ".join(committed.files().values())
    shown_elsewhere = {"core_tables_ledger_lane_first_offset", "core_tables_lane_audited_offset"}
    shown_elsewhere |= {"core_tables_ledger_lane_applied_offset", "core_tables_ledger_lane_audited_offset"}
    assert {name for name in documented() if name not in asked} == shown_elsewhere


def test_a_dashboard_has_each_panel_at_a_place_of_its_own() -> None:
    for name, text in committed.files().items():
        if name.endswith(".json"):
            places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in json.loads(text)["panels"]]
            assert len(set(places)) == len(places) == 12


def test_the_alerts_are_those_of_the_operations_page_and_lead_to_the_runbook() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (page|ticket) \| (\w+) \| ", OPERATIONS.read_text("utf-8"), re.MULTILINE)
    assert rows == [(alert.name, alert.severity, alert.lasts) for alert in ALERTS]
    titles = re.findall(r"^#+ (.*)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    assert {alert.see for alert in ALERTS} <= anchors
