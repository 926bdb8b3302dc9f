"""Lay out in build/pages what `make site` builds: README.md, and every file that links lead to from there.

Each file keeps its own path, so a link works on the site as it does in the repository. Only a link to a folder, which a
site cannot show, becomes its text.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^\]]*)\]\((?!\w+:)([^)#]+)[^)]*\)")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def linked(start: Path) -> set[Path]:
    """A page, and the files that links lead to from it and from the pages found."""
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.suffix == ".md":
            waiting += [(path.parent / link).resolve() for _, link in LINK.findall(CODE.sub("", path.read_text()))]
    return found


def lay_out(folder: Path) -> None:
    """Copy them; `folder` is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in {*linked(ROOT / "README.md"), ROOT / "docs" / "site.css"}:
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
        if path.suffix == ".md":
            copy.write_text(without_folders(path))


def without_folders(page: Path) -> str:
    """The text of a page, where a link to a folder is only its text."""
    return LINK.sub(lambda link: link[1] if (page.parent / link[2]).is_dir() else link[0], page.read_text())


if __name__ == "__main__":
    lay_out(ROOT / "build" / "pages")
