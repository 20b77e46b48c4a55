"""A leaderboard as one HTML page: no script, no request, everything from runs escaped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from .columns import Intervals
from .sections import Section
from .wording import blocks, figure, label, notes, shows_ranks, standing, title

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>wronglung leaderboard</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 22%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 96rem; margin: 2rem auto; padding: 0 1rem; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
.scroll { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; white-space: nowrap; }
th, td { padding: .3rem .7rem; text-align: right; }
th:first-child { text-align: left; padding-left: 0; }
thead th { border-block: 2px solid currentColor; border-bottom-width: 1px; }
tbody th { font-weight: inherit; }
tbody { border-bottom: 1px solid var(--line); }
tbody:last-child { border-bottom: 2px solid currentColor; }
tbody.aside { opacity: .8; font-style: italic; }
footer { font-size: .9rem; }
</style>
</head>
<body>
<h1>wronglung leaderboard</h1>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for table in section.tables %}
<div class="scroll" role="region" tabindex="0" aria-label="{{ table.head[0] }}: {{ section.title }}">
<table>
<thead><tr>{% for one in table.head %}<th scope="col">{{ one }}</th>{% endfor %}</tr></thead>
{% for group in table.groups %}
<tbody{% if group.aside %} class="aside"{% endif %}>
{% for row in group.rows %}
<tr><th scope="row">{{ row.name }}</th>
{%- for cell in row.cells %}<td>{% if cell.best %}<strong>{{ cell.text }}</strong>{% else %}{{ cell.text }}{% endif %}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
{% endfor %}
</table>
</div>
{% endfor %}
</section>
{% endfor %}
<footer>
{% for note in notes %}
<p>{{ note }}</p>
{% endfor %}
</footer>
</body>
</html>
"""


def html(sections: Sequence[Section], intervals: Intervals) -> str:
    """A page that opens from disk; the best figures of a column, and those that tie, are bold."""
    from jinja2 import Environment

    shown = []
    for section in sections:
        tables = []
        for at, (corner, columns) in enumerate(blocks(section) if section.applicable else ()):
            ranks = at == 0 and shows_ranks(section)
            groups = []
            for kind, lines in groupby(section.lines, key=lambda line: (line.published, line.role, bool(line.misses))):
                rows = [
                    {
                        "name": label(line),
                        "cells": [{"text": standing(line)}] * ranks
                        + [
                            {
                                "text": figure(line.figures[column.key], column, intervals),
                                "best": column.key in line.best,
                            }
                            for column in columns
                        ],
                    }
                    for line in lines
                ]
                groups.append({"aside": kind != (False, "model", False), "rows": rows})
            head = [corner, *(["Rank"] if ranks else []), *(column.label for column in columns)]
            tables.append({"head": head, "groups": groups})
        shown.append({"title": title(section), "tables": tables})
    said = notes(sections, intervals)
    if any(line.best for section in sections for line in section.lines):
        said.append("Bold: the best of the ranked models, and those not distinguishable from it.")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_PAGE).render(sections=shown, notes=said).rstrip("\n")
