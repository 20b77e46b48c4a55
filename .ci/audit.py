"""Ask the advisory service about every installed package: fails on a known vulnerability, and says when nothing could be asked.

    python .ci/audit.py

Exit status 1 for a vulnerability; 0 where none is known, and, with a warning that nothing was audited, where the service cannot be
reached: a machine without it can neither pass nor fail this check.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def told(report: dict[str, Any]) -> tuple[list[str], int, int]:
    """The vulnerabilities in words, and how many packages were and were not audited, of pip-audit's JSON report."""
    packages = report.get("dependencies", [])
    audited = [one for one in packages if "vulns" in one and "skip_reason" not in one]
    found = [
        f"{one['name']} {one['version']}: {fault['id']}"
        + (f", fixed in {', '.join(fault['fix_versions'])}" if fault.get("fix_versions") else "")
        for one in audited
        for fault in one["vulns"]
    ]
    return found, len(audited), len(packages) - len(audited)


def main() -> int:
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--skip-editable"],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    try:
        found, audited, left = told(json.loads(done.stdout))
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1]
        sys.stderr.write(f"NOT AUDITED: no advisory data could be had ({last})\n")
        return 0
    if found:
        sys.stderr.write("known vulnerabilities:\n" + "".join(f"  {one}\n" for one in found))
        return 1
    if not audited:
        sys.stderr.write(f"NOT AUDITED: the advisory service knows none of the {left} installed packages\n")
        return 0
    sys.stdout.write(f"{audited} packages audited, no known vulnerability; {left} are not known to the service\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
