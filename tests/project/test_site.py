"""The site that `make site` builds: it has every page, every link on it leads somewhere, and it loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from tests.project.test_docs import PAGES, ROOT

PAGE = re.compile(r": (\S+\.md)$", re.MULTILINE)


def test_every_page_is_in_the_menu_once():
    listed = PAGE.findall((ROOT / "mkdocs.yml").read_text())
    assert len(listed) == len(set(listed))
    assert {str(page.relative_to(ROOT)) for page in PAGES} <= set(listed)
    assert [name for name in listed if not (ROOT / name).is_file()] == []


class Loads(HTMLParser):
    """What a browser asks for to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get("href") if tag == "link" else given.get("src")
        if address and given.get("rel") not in {"canonical", "next", "prev"}:
            self.addresses.append(address)


@pytest.mark.heavy
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere():
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    built = subprocess.run(
        ["make", "site", f"PYTHON={sys.executable}"],
        cwd=ROOT,
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, (
        built.stdout + built.stderr
    )  # `strict` in mkdocs.yml: a link or anchor without a target fails
    site = ROOT / "build" / "site"
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(PAGES)
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        for address in loads.addresses:
            local = address.split("#")[0].split("?")[0]
            root = site if local.startswith("/") else page.parent
            assert (root / local.lstrip("/")).exists(), f"{page.relative_to(site)} loads {address}"
    styles = "".join(style.read_text() for style in site.rglob("*.css"))
    assert [url for url in re.findall(r"url\(([^)]*)\)", styles) if not url.strip("\"'").startswith("data:")] == []
