"""The alerts: what is wrong, for how long, and who is woken. Prometheus reads core-tables.rules.yml, which is written from here.

Each says one thing: where two would describe the same trouble, the one that names the cause is left.
"""

from typing import Final, Literal, NamedTuple

AlertSeverity = Literal["page", "ticket"]


class Alert(NamedTuple):
    """An alert: `expr` holds for `lasts` before it fires. `see` is the place in docs/RUNBOOK.md that says what to do."""

    name: str
    severity: AlertSeverity
    lasts: str
    expr: str
    summary: str
    see: str


_STOPPED: Final = "core_tables_lane_stopped_info"
_STANDS: Final = "(time() - core_tables_thread_turn_timestamp_seconds > 90)"
_HELD: Final = "(core_tables_lane_log_end_offset - core_tables_lane_last_stable_offset > 0)"
_BURNS: Final = (
    '(1 - sum(rate(core_tables_commit_age_seconds_bucket{{le="1.0"}}[{0}])) / sum(rate(core_tables_commit_age_seconds_count[{0}])))'
    " > 14.4 * 0.01"
)
_VALID_FOR: Final = "core_tables_certificate_not_after_timestamp_seconds - time()"
_DAY_S: Final = 86_400

ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        "NoWorker",
        "page",
        "5m",
        "absent(core_tables_worker_info)",
        "No worker is running, or none can be scraped",
        "first-look",
    ),
    Alert(
        "LaneUnowned",
        "page",
        "5m",
        "(core_tables_ledger_lanes_owned < core_tables_ledger_lanes and on () count(core_tables_worker_info)) "
        "or absent(core_tables_ledger_lanes_owned)",
        "A lane has no worker, or the monitor cannot say",
        "first-look",
    ),
    Alert(
        "LaneStopped",
        "page",
        "1m",
        f"{_STOPPED} == 1",
        "Lane {{ $labels.lane }} stopped ({{ $labels.cause }})",
        "when-a-lane-stops",
    ),
    Alert(
        "LaneStuck",
        "page",
        "10m",
        "core_tables_lane_lag_records > 0 and changes(core_tables_lane_applied_offset[2m]) == 0 "
        f"unless on (lane) {_STOPPED} unless on (lane) {_HELD} "
        f"unless on (instance) core_tables_fetch_paused == 1 unless on (instance) {_STANDS}",
        "Lane {{ $labels.lane }} has records and folds none",
        "when-a-lane-reopens",
    ),
    Alert(
        "Behind",
        "page",
        "5m",
        f"core_tables_lane_behind_seconds > 60 unless on (lane) {_STOPPED} unless on (lane) {_HELD} "
        f"unless on (instance) core_tables_fetch_paused == 1 unless on (instance) {_STANDS}",
        "Lane {{ $labels.lane }} is {{ $value | humanizeDuration }} behind its log",
        "when-a-lane-reopens",
    ),
    Alert(
        "ThreadStands",
        "page",
        "30s",
        _STANDS,
        "The thread {{ $labels.thread }} of {{ $labels.instance }} makes no turns",
        "first-look",
    ),
    Alert(
        "Paused",
        "page",
        "5m",
        "core_tables_fetch_paused == 1",
        "{{ $labels.instance }} fetches nothing, because the audit queue is full",
        "first-look",
    ),
    Alert(
        "AuditBehind",
        "page",
        "1m",
        'core_tables_audit_behind_seconds > 300 and on (lane) core_tables_lane_state{state="folding"} == 1 '
        f"unless on (instance) core_tables_fetch_paused == 1 unless on (instance) {_STANDS}",
        "Outcomes of lane {{ $labels.lane }} have not been published for {{ $value | humanizeDuration }}",
        "log-lines",
    ),
    Alert(
        "Drift",
        "page",
        "2m",
        "core_tables_drift_work_orders > 0",
        "{{ $value }} work orders are not the fold of their ledger rows",
        "when-verify-finds-differences",
    ),
    Alert(
        "CommitAgeBurnsBudget",
        "page",
        "2m",
        # One late commit of a few says nothing about a budget.
        f"{_BURNS.format('1h')} and {_BURNS.format('5m')} and sum(increase(core_tables_commit_age_seconds_count[1h])) > 100",
        "More than 14 % of the commits of the last hour came later than a second after the append",
        "first-look",
    ),
    Alert(
        "CertificateEnds",
        "page",
        "5m",
        f"{_VALID_FOR} < {3 * _DAY_S}",
        "A certificate that {{ $labels.instance }} uses with {{ $labels.service }} ({{ $labels.kind }}) "
        "{{ if lt $value 0.0 }}has ended{{ else }}ends in {{ $value | humanizeDuration }}{{ end }}",
        "a-certificate-ends",
    ),
    Alert(
        "OpenTransaction",
        "ticket",
        "10m",
        f"max by (lane) {_HELD}",
        "A program holds a transaction open on lane {{ $labels.lane }}, and nothing after its start is folded",
        "first-look",
    ),
    Alert(
        "RefusedShare",
        "ticket",
        "5m",
        'sum(rate(core_tables_records_total{outcome="refused"}[15m])) / sum(rate(core_tables_records_total[15m])) > 0.05',
        "{{ $value | humanizePercentage }} of the records are refused",
        "first-look",
    ),
    Alert(
        "CommitSlow",
        "ticket",
        "10m",
        "histogram_quantile(0.9, sum by (le, instance) "
        '(rate(core_tables_batch_step_seconds_bucket{step="commit"}[10m]))) > 0.5',
        "A commit of {{ $labels.instance }} takes {{ $value | humanizeDuration }}",
        "first-look",
    ),
    Alert(
        "Flapping",
        "ticket",
        "5m",
        'sum by (instance) (increase(core_tables_rebalances_total{kind=~"revoked|lost"}[15m])) > 6 '
        'or sum by (instance) (increase(core_tables_reopens_total{cause=~"moved|position|log"}[15m])) > 60',
        "Lanes come to {{ $labels.instance }} and leave again",
        "when-a-lane-reopens",
    ),
    Alert(
        "CacheDown",
        "ticket",
        "10m",
        "increase(core_tables_cache_failures_total[5m]) > 0",
        "The cache does not answer {{ $labels.instance }}, so pending lists come from Postgres",
        "log-lines",
    ),
    Alert(
        "FoldVersionsMixed",
        "ticket",
        "1h",
        "count(count by (fold_version) (core_tables_worker_info or core_tables_database_fold_versions)) > 1",
        "Workers or tables are of more than one fold version; run `core-tables rebuild` when all workers run one release",
        "upgrade",
    ),
    Alert(
        "CertificateEndsSoon",
        "ticket",
        "1h",
        f"({_VALID_FOR} < {21 * _DAY_S}) >= {3 * _DAY_S}",
        "A certificate that {{ $labels.instance }} uses with {{ $labels.service }} ({{ $labels.kind }}) "
        "ends in {{ $value | humanizeDuration }}",
        "a-certificate-ends",
    ),
    Alert(
        "MonitorBlind",
        "ticket",
        "10m",
        "core_tables_monitor_source_answers == 0",
        "The monitor gets no answer: {{ $labels.source }}",
        "log-lines",
    ),
)


def rules(alerts: tuple[Alert, ...] = ALERTS, *, lasts: str | None = None) -> str:
    """A file of rules; with `lasts`, each alert fires after that time already, for a test that does not wait."""
    lines = [
        "# Written by `make generate` from deploy/observability/alerts.py.",
        "groups:",
        "  - name: core-tables",
        "    rules:",
    ]
    for alert in alerts:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {_quoted(alert.expr)}",
            f"        for: {lasts or alert.lasts}",
            f"        labels: {{severity: {alert.severity}}}",
            "        annotations:",
            f"          summary: {_quoted(alert.summary)}",
            f"          runbook: docs/RUNBOOK.md#{alert.see}",
        ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
