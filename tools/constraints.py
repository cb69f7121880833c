"""constraints.txt from poetry.lock, so that pip installs what Poetry locked: `python -m tools.constraints`."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = "# From poetry.lock by `poe constraints`; do not edit. A test fails when the two differ."


def render(lock: Path) -> str:
    """One `name==version` per locked package, with its marker where the lock has one for all groups."""
    lines = []
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        line = f"{package['name']}=={package['version']}"
        marker = package.get("markers")
        lines.append(f"{line} ; {marker}" if isinstance(marker, str) else line)
    return "\n".join([HEADER, *sorted(lines)]) + "\n"


if __name__ == "__main__":
    text = render(ROOT / "poetry.lock")
    (ROOT / "constraints.txt").write_text(text, encoding="utf-8")
    print(f"constraints.txt: {len(text.splitlines()) - 1} packages")
