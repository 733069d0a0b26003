"""The documentation builds, offline and without a warning; links and commands in it are real."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import typer

import unicas_edge
from tests.support.places import ROOT
from unicas_edge.cli.app import app

PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
WRITTEN = [*PAGES, ROOT / "SECURITY.md", *sorted((ROOT / "examples").rglob("*.md"))]


def name(path):
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for needed in ("material", "mkdocstrings"):
        pytest.importorskip(needed, reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "-d",
            folder,
        ],  # not --quiet: it hides warnings
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loads(HTMLParser):
    """What a page loads by itself, links to follow left out."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "img", "iframe", "source"):
            self.found.append(given.get("src") or "")
        if tag == "link":
            self.found.append(given.get("href") or "")


def test_a_page_loads_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text())
        assert any(each.endswith(".css") for each in loads.found)
        away = [each for each in loads.found if re.match(r"(https?:)?//", each)]
        assert not away, page


def test_every_public_name_has_its_place_in_the_api_pages(site):
    text = "".join(page.read_text() for page in (site / "api").glob("*.html"))
    for public in unicas_edge.__all__:
        assert public in text, public
    for error in ("SlideError", "SessionError", "OutputError"):
        assert f'id="unicas_edge.errors.{error}"' in text


@pytest.mark.parametrize("path", WRITTEN, ids=name)
def test_relative_links_lead_somewhere(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.S)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if not re.match(r"https?://", link):
            assert (path.parent / link).exists(), link


def test_the_readme_is_short_and_keeps_its_promises():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 1100
    for kept in ("make screen", "make test", "Research use only; not a medical device"):
        assert kept in text
    for picture in (ROOT / "docs/images").iterdir():
        assert picture.stat().st_size <= 200_000, picture


def test_the_index_lists_every_decision():
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\(([a-z-]+\.md)\)", (folder / "index.md").read_text())
    assert sorted([*listed, "index.md"]) == sorted(path.name for path in folder.iterdir())


def commands():
    """Every command line of ours in the pages: (page, words)."""
    for path in WRITTEN:
        for block in re.findall(r"```sh\n(.*?)```", path.read_text(), flags=re.S):
            for line in block.splitlines():
                words = shlex.split(line, comments=True)
                if words and words[0].endswith("unicas-edge"):
                    yield name(path), words[1:]


def options(words):
    """Return the options of the command that `words` name; fail where there is no such command."""
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and not rest[0].startswith("-"):
        assert rest[0] in command.commands, rest
        command = command.commands[rest.pop(0)]
    given = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    return {"--help", *given}, rest


def test_the_pages_use_commands_and_options_that_exist():
    found = list(commands())
    assert len(found) > 30
    for page, words in found:
        known, rest = options(words)
        unknown = [w for w in rest if w.startswith("-") and w not in known]
        assert not unknown, (page, words)
