"""The documentation builds without a network or a warning; the README's links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from tests.support.places import ROOT

PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"]
LOADED = re.compile(r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(https?:[^"'> ]+)""")
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_docs_is_built(site):
    pages = {
        path.relative_to(ROOT / "docs").with_suffix("") for path in (ROOT / "docs").rglob("*.md")
    }
    built = {path.parent.relative_to(site) for path in site.rglob("index.html")}
    assert {str(page).removesuffix("index").rstrip("/") or "." for page in pages} <= {
        str(page) for page in built
    }


def test_public_names_are_documented(site):
    text = (site / "api" / "unicas_edge" / "index.html").read_text()
    for name in ("screen", "Session", "Bundle", "SlideResult", "Aggregator"):
        assert f"unicas_edge.{name}" in text or f">{name}<" in text, name


def test_pages_load_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"""<(?:script|link|img)[^>]+(?:src|href)=["']?(https?:[^"'> ]+)""", page.read_text()
        )
        assert not loaded, f"{page.relative_to(site)}: {loaded}"


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"]
)
def test_relative_links_lead_somewhere(name):
    page = ROOT / name
    targets = [
        t for t in LINK.findall(page.read_text()) if not t.startswith(("http", "mailto", "#"))
    ]
    assert targets or name != "README.md"
    missing = [t for t in targets if not (page.parent / t.partition("#")[0]).exists()]
    assert not missing


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().split()) <= 1100
