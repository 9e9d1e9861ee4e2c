"""Alerts and dashboards as code."""
