"""The dashboards for Grafana, as JSON that it imports: what the ledger does, and what one worker does."""

import json
from typing import Any, Final, NamedTuple

_SOURCE: Final = {"type": "prometheus", "uid": "${source}"}
_WIDTH: Final = 24
_HEIGHT: Final = 8


class Panel(NamedTuple):
    """A graph: its queries, each with the legend of its lines, and the unit as Grafana calls it."""

    title: str
    about: str
    unit: str
    queries: tuple[tuple[str, str], ...]


class Dashboard(NamedTuple):
    """A page of panels, two in a row."""

    name: str
    title: str
    panels: tuple[Panel, ...]
    per_worker: bool = False


def _quantiles(metric: str, by: str = "") -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f'histogram_quantile({share}, sum by (le{by}) (rate({metric}_bucket{{instance=~"$worker"}}[$__rate_interval])))',
            f"p{round(100 * share)}" + ("" if not by else " {{step}}"),
        )
        for share in (0.5, 0.99)
    )


LEDGER: Final = Dashboard(
    "ledger",
    "Core Tables: ledger",
    (
        Panel(
            "How stale reads are",
            "Seconds since each lane was last folded to the end of its log.",
            "s",
            (("max by (lane) (core_tables_lane_behind_seconds)", "lane {{lane}}"),),
        ),
        Panel(
            "Records that wait",
            "The end of each log minus what is folded.",
            "short",
            (("max by (lane) (core_tables_lane_lag_records)", "lane {{lane}}"),),
        ),
        Panel(
            "Lanes",
            "How many lanes are folded, wait or have stopped, and how many have a worker.",
            "short",
            (
                ("sum by (state) (core_tables_lane_state)", "{{state}}"),
                ("core_tables_ledger_lanes_owned", "with a worker"),
                ("core_tables_ledger_lanes", "all"),
            ),
        ),
        Panel(
            "Records",
            "Records that were decided, a second.",
            "cps",
            (("sum by (outcome) (rate(core_tables_records_total[$__rate_interval]))", "{{outcome}}"),),
        ),
        Panel(
            "Refusals",
            "Why records are refused, a second.",
            "cps",
            (('sum by (reason) (rate(core_tables_records_total{outcome="refused"}[$__rate_interval]))', "{{reason}}"),),
        ),
        Panel(
            "Append to commit",
            "From the broker's time of the newest record of a batch to its commit.",
            "s",
            tuple(
                (
                    f"histogram_quantile({share}, sum by (le) (rate(core_tables_commit_age_seconds_bucket[$__rate_interval])))",
                    name,
                )
                for share, name in ((0.5, "p50"), (0.99, "p99"))
            ),
        ),
        Panel(
            "Audit behind",
            "Seconds since all outcomes of each lane were published.",
            "s",
            (("max by (lane) (core_tables_audit_behind_seconds)", "lane {{lane}}"),),
        ),
        Panel(
            "Open transactions",
            "Records that a transaction of another program hides.",
            "short",
            (
                (
                    "core_tables_ledger_lane_log_end_offset - core_tables_ledger_lane_last_stable_offset",
                    "lane {{lane}}",
                ),
            ),
        ),
        Panel(
            "Drift",
            "Work orders that are not the fold of their ledger rows, and how many were compared a minute.",
            "short",
            (
                ("core_tables_drift_work_orders", "differ"),
                ("rate(core_tables_drift_compared_total[$__rate_interval]) * 60", "compared a minute"),
            ),
        ),
        Panel(
            "Growth",
            "Records that are appended, a second, by lane.",
            "cps",
            (("rate(core_tables_ledger_lane_log_end_offset[$__rate_interval])", "lane {{lane}}"),),
        ),
        Panel(
            "Releases",
            "How many workers run each release, and how many lanes each fold version wrote.",
            "short",
            (
                ("count by (version, fold_version) (core_tables_worker_info)", "{{version}}, fold {{fold_version}}"),
                ("core_tables_database_fold_versions", "lanes of fold {{fold_version}}"),
            ),
        ),
        Panel(
            "Monitor",
            "Whether what the monitor asks answers.",
            "short",
            (("core_tables_monitor_source_answers", "{{source}}"),),
        ),
    ),
)

WORKER: Final = Dashboard(
    "worker",
    "Core Tables: worker",
    (
        Panel(
            "Batches",
            "Batches a second, by what became of them.",
            "ops",
            (
                (
                    'sum by (result) (rate(core_tables_batches_total{instance=~"$worker"}[$__rate_interval]))',
                    "{{result}}",
                ),
            ),
        ),
        Panel("A batch", "How long batches take.", "s", _quantiles("core_tables_batch_seconds")),
        Panel(
            "Steps of a batch", "How long its steps take.", "s", _quantiles("core_tables_batch_step_seconds", ", step")
        ),
        Panel(
            "Turns",
            "Seconds since each thread gave a sign of life.",
            "s",
            (('time() - core_tables_thread_turn_timestamp_seconds{instance=~"$worker"}', "{{instance}} {{thread}}"),),
        ),
        Panel(
            "Reopens",
            "Lanes, and audit producers, that were opened again, in ten minutes.",
            "short",
            (
                ('sum by (cause) (increase(core_tables_reopens_total{instance=~"$worker"}[10m]))', "lane: {{cause}}"),
                (
                    'sum by (cause) (increase(core_tables_audit_reopens_total{instance=~"$worker"}[10m]))',
                    "audit: {{cause}}",
                ),
            ),
        ),
        Panel(
            "Rebalances",
            "Changes by the group, in ten minutes.",
            "short",
            (('sum by (kind) (increase(core_tables_rebalances_total{instance=~"$worker"}[10m]))', "{{kind}}"),),
        ),
        Panel(
            "Audit queue",
            "Outcomes that wait to be published, the limit, and whether fetching is paused.",
            "short",
            (
                ('core_tables_audit_queue_records{instance=~"$worker"}', "{{instance}}"),
                ('core_tables_audit_queue_limit_records{instance=~"$worker"}', "limit"),
                ('core_tables_fetch_paused{instance=~"$worker"}', "paused: {{instance}}"),
                ('increase(core_tables_fetch_pauses_total{instance=~"$worker"}[10m])', "pauses in 10 min"),
            ),
        ),
        Panel(
            "Audit lag",
            "Outcomes that are not published yet, by lane.",
            "short",
            (('core_tables_audit_lag_records{instance=~"$worker"}', "lane {{lane}}"),),
        ),
        Panel(
            "States in memory",
            "Work orders in memory, and the share of a batch's that were there.",
            "short",
            (
                ('core_tables_states_in_memory{instance=~"$worker"}', "{{instance}}"),
                (
                    'sum(rate(core_tables_state_lookups_total{instance=~"$worker",found="true"}[$__rate_interval])) '
                    '/ sum(rate(core_tables_state_lookups_total{instance=~"$worker"}[$__rate_interval]))',
                    "share found",
                ),
            ),
        ),
        Panel(
            "Cache",
            "Labels written a second, and calls that failed.",
            "cps",
            (
                (
                    'sum by (result) (rate(core_tables_cache_moves_total{instance=~"$worker"}[$__rate_interval]))',
                    "{{result}}",
                ),
                ('rate(core_tables_cache_failures_total{instance=~"$worker"}[$__rate_interval])', "failed"),
            ),
        ),
        Panel(
            "Processor",
            "Seconds of processor time a second.",
            "short",
            (('rate(process_cpu_seconds_total{instance=~"$worker"}[$__rate_interval])', "{{instance}}"),),
        ),
        Panel(
            "Memory",
            "Resident memory.",
            "bytes",
            (('process_resident_memory_bytes{instance=~"$worker"}', "{{instance}}"),),
        ),
    ),
    per_worker=True,
)
DASHBOARDS: Final = (LEDGER, WORKER)


def dashboard_json(dashboard: Dashboard) -> str:
    """A dashboard as Grafana imports it."""
    return json.dumps(_dashboard(dashboard), indent=1) + "\n"


def _dashboard(dashboard: Dashboard) -> dict[str, Any]:
    variables: list[dict[str, Any]] = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}
    ]
    if dashboard.per_worker:
        variables.append(
            {
                "name": "worker",
                "label": "Worker",
                "type": "query",
                "datasource": _SOURCE,
                "query": "label_values(core_tables_worker_info, instance)",
                "refresh": 2,
                "multi": True,
                "includeAll": True,
            }
        )
    return {
        "uid": f"core-tables-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["core-tables"],
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "schemaVersion": 39,
        "templating": {"list": variables},
        "panels": [_panel(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    half = _WIDTH // 2
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _SOURCE,
        "gridPos": {"x": half * (number % 2), "y": _HEIGHT * (number // 2), "w": half, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": expr, "legendFormat": legend}
            for place, (expr, legend) in enumerate(panel.queries)
        ],
    }
