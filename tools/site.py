"""Build the documentation site: `python -m tools.site`, or `make docs`.

The pages of `docs/` and the generated reference (`tools/reference.py`) are put into `build/docs`; Zensical builds them
into `build/site` (`zensical.toml`). Every warning is an error. Afterwards the built pages are read again: each link to
a page, a file or a heading must lead somewhere, and no page may load anything from another host.
"""

import re
import shutil
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tools.reference import pages

ROOT = Path(__file__).resolve().parents[1]

LOADED = {("script", "src"), ("link", "href"), ("img", "src"), ("source", "src"), ("iframe", "src"), ("audio", "src")}
"""Attributes whose address a browser loads by itself."""

UPWARDS = re.compile(r"\[([^\]]*)\]\((\.\./[^)]*)\)")
"""A link that may lead from a page of `docs/` to a file of the repository that is not on the site."""


class Page(HTMLParser):
    """What one built page links to, what it loads, and the headings that can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the attributes of one element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        is_hint = tag == "link" and values.get("rel") in ("canonical", "prev", "next", "alternate")
        self.loads += [values[name] for kind, name in LOADED if kind == tag and name in values and not is_hint]


def gather(into: Path) -> None:
    """Put the pages of the site into a folder."""
    shutil.copytree(ROOT / "docs", into)
    (into / "reference").mkdir()
    for name, text in pages().items():
        (into / "reference" / name).write_text(text, encoding="utf-8")
    for path in into.rglob("*.md"):
        text = path.read_text(encoding="utf-8")
        home = (ROOT / "docs" / path.relative_to(into)).parent
        path.write_text(UPWARDS.sub(partial(_inside, home), text), encoding="utf-8")


def _inside(home: Path, link: re.Match[str]) -> str:
    """Return a link as it is if it stays on the site; its text and the name of the file otherwise."""
    target = (home / urlsplit(link[2]).path).resolve()
    is_on_site = target.is_relative_to(ROOT / "docs")
    return link[0] if is_on_site else f"{link[1]} (`{target.relative_to(ROOT)}` in the repository)"


def build(folder: Path) -> list[str]:
    """Gather and build in a folder that has `zensical.toml`; return what is wrong, one line each."""
    docs, site = folder / "build" / "docs", folder / "build" / "site"
    for old in (docs, site):
        shutil.rmtree(old, ignore_errors=True)
    gather(docs)
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        return [f"zensical: {line}" for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return wrong_links(site)


def wrong_links(site: Path) -> list[str]:
    """Return a line for each link of a built site that leads nowhere, and for each file of another host."""
    read = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    wrong = []
    for path, page in read.items():
        name = path.relative_to(site)
        wrong += [f"{name}: loads {url}" for url in page.loads if urlsplit(url).netloc]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            base = site if parts.path.startswith("/") else path.parent
            target = (base / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and target in read and unquote(parts.fragment) not in read[target].anchors:
                wrong.append(f"{name}: {link} names no heading")
    return wrong


def main() -> None:
    """Build the site of this repository; exit with 1 if anything is wrong."""
    wrong = build(ROOT)
    for line in wrong:
        print(line, file=sys.stderr)
    if wrong:
        raise SystemExit(1)
    print(f"built: {ROOT / 'build' / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
