"""What pip installs from what Poetry locked: constraints.txt for a checkout, requirements/*.txt for the images.
`python -m tools.constraints` writes both."""

import tomllib
from pathlib import Path

from tools import requirements
from tools.requirements import HEADER

ROOT = Path(__file__).resolve().parent.parent


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
    for name, text in requirements.render(ROOT / "poetry.lock").items():
        (ROOT / "requirements" / f"{name}.txt").write_text(text, encoding="utf-8")
        print(f"requirements/{name}.txt: {text.count('==')} packages, {text.count('--hash=')} wheels")
