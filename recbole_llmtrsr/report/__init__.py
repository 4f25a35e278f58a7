"""A comparison as one self-contained HTML page: tables with intervals, plots, settings and versions."""

from recbole_llmtrsr.report.page import REPORT, page, write_report

__all__ = ["REPORT", "page", "write_report"]
