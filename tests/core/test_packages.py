"""The versions that a run records: every engine's, and of nothing twice."""

from __future__ import annotations

from importlib.metadata import version

from unicas_edge import __version__
from unicas_edge.core.packages import PACKAGES, installed, versions
from unicas_edge.engines.registry import ENGINES


def test_every_engine_is_recorded():
    assert len(set(PACKAGES)) == len(PACKAGES)
    assert {row.package for row in ENGINES} <= set(PACKAGES)


def test_versions_are_those_of_the_distributions():
    found = versions()
    assert found["unicas-edge"] == __version__
    assert found["numpy"] == version("numpy")
    assert {name: found[name] for name in PACKAGES} == installed()


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr("unicas_edge.core.packages.PACKAGES", ("numpy", "no-such-distribution"))
    assert installed() == {"numpy": version("numpy"), "no-such-distribution": None}
