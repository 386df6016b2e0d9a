"""The performance page, written from the records in `docs/performance`: `docs/performance.md`.

The newest figures come first, by topic, each with command, date, commit and
machine; the history is a list of links. `bathyscope bench report` writes the
page, and a test compares it with the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.report.markdown import table
from evaluation.report.records import Record, Section, newest, read_records, read_sections, superseded
from evaluation.report.topics import TOPICS
from models.errors import DataError

__all__ = ["PAGE", "performance_page"]

PAGE = "performance.md"
"""File of the page in the folder of the documentation."""

_FOLDER = "performance"

_INTRODUCTION = """# Performance record

Written by `bathyscope bench report` from the files in `docs/performance`; not to be edited. To add figures, put the
result file of a `bench` or `reproduce` command (`results.json`) at `docs/performance/records/TOPIC/CASE-DATE.json`, and
run the command: of each topic and case the newest record is shown.

Scores are as `models/metrics.py` defines them: optimal assignment within 10 µm in 3D unless stated otherwise; truth
outside the depth range or the field is ignored. The methods know the optics of simulated frames only from a simulated
noisy sweep, unless the text says "exact PSF". Slow methods saw few frames; ± is the standard error. Commands have
their present names. How the experiments are made is in [method.md](method.md)."""


def performance_page(docs: Path) -> str:
    """Markdown of the page.

    Parameters
    ----------
    docs : Path
        Folder of the documentation.

    Raises
    ------
    DataError
        When there are no records, one cannot be read or drawn, or its topic is not known.
    """
    records = read_records(docs / _FOLDER / "records")
    if not records:
        raise DataError(f"{docs} has no records of performance.", "Name the folder docs of a checkout with --docs.")
    known = [topic.name for topic in TOPICS]
    unknown = sorted({record.topic for record in records}.difference(known))
    if unknown:
        raise DataError(f"There is no topic {', '.join(unknown)}.", f"Choose among {', '.join(known)}.")
    current = newest(records)
    parts = [_INTRODUCTION]
    above: dict[str, set[str]] = {}
    for topic in TOPICS:
        own = [record for record in current if record.topic == topic.name]
        chosen = sorted(own, key=lambda record: record.date, reverse=True)
        if chosen:
            try:
                tables = topic.tables(chosen)
            except (KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"A record of {topic.name} cannot be drawn: a figure is missing ({error!r}).",
                    "Leave result files as the command wrote them.",
                ) from error
            remarks = [remark for record in chosen for remark in record.remarks]
            parts += [f"## {topic.title}", topic.text, *tables, *remarks, *_origins(chosen, above)]
    sections = read_sections(docs / _FOLDER / "history")
    return "\n\n".join([*parts, *_history(superseded(records), sections, docs)]) + "\n"


def _origins(records: Sequence[Record], above: dict[str, set[str]]) -> list[str]:
    """Commands of the records below their date, commit and machine; records of one origin together.

    `above` has the commands of each origin that are on the page already, and gets these: each is there once.
    """
    together: dict[str, list[Record]] = {}
    for record in records:
        origin = f"{record.date}, {_commit(record.provenance)}, {_machine(record.provenance['machine'])}"
        together.setdefault(origin, []).append(record)
    parts = []
    for origin, chosen in together.items():
        of = f"{', '.join(record.title for record in chosen)}: " if len(together) > 1 else ""
        lines = dict.fromkeys(line for record in chosen for line in record.provenance["command"].splitlines())
        known = above.setdefault(origin, set())
        added = [line for line in lines if line not in known]
        rest = "; the other commands are above" if len(added) < len(lines) else ""
        parts.append(
            "\n".join([f"{of}{origin}{rest}{':' if added else '.'}", "", *(f"    {line}" for line in added)]).strip()
        )
        known.update(lines)
    return parts


def _commit(provenance: Mapping[str, Any]) -> str:
    commit = provenance["commit"]
    if commit is None:
        return "commit not recorded"
    return f"commit {commit if ',' in commit else commit[:8]}" + (", changed" if provenance.get("dirty") else "")


def _machine(machine: Mapping[str, Any]) -> str:
    amx = {True: ", AMX", False: ", no AMX", None: ""}[machine["amx"]]
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'}"
    return f"{cores} of {machine['processor']}{amx}, {machine['memory_gb']:g} GB"


def _history(records: Sequence[Record], sections: Sequence[Section], docs: Path) -> list[str]:
    """Links to older records and sections, the newest first."""
    rows = [
        (record.date, record.topic, f"{record.topic}: {record.title}", _commit(record.provenance), record.path)
        for record in records
    ]
    rows += [(each.date, ", ".join(each.topics), each.title, f"commit {each.commit}", each.path) for each in sections]
    if not rows:
        return []
    lines = [
        [date, f"[{title}]({path.relative_to(docs).as_posix()})", topics, commit]
        for date, topics, title, commit, path in sorted(rows, key=lambda row: row[0], reverse=True)
    ]
    return ["## History", table(["date", "figures", "topics", "commit"], lines)]
