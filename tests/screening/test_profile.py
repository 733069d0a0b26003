"""Profiles: every number has a reason, `auto` takes only what is there, what is wrong is named."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.places import ROOT
from unicas_edge.core import machine as device
from unicas_edge.core.machine import Device, this_device
from unicas_edge.engines import EngineOptions
from unicas_edge.engines.onnxruntime import OrtEncoder
from unicas_edge.errors import ProfileError
from unicas_edge.screening import profile
from unicas_edge.screening.options import RECORDED, Options
from unicas_edge.screening.profile import load_profile, profiled, refusal, settle

VNNI = frozenset({"avx2", "avx512f", "avx512_vnni"})
X86, X86_VNNI = Device("x86_64", frozenset({"avx2"})), Device("x86_64", VNNI)
RTX = Device("x86_64", VNNI, nvidia=True)


def board(name):
    return Device("aarch64", frozenset({"asimd"}), name)


@pytest.fixture(scope="module")
def bundle(untrained_bundle):
    return untrained_bundle


def asked(*args, **kwargs):
    return Options(engine=EngineOptions(*args, **kwargs))


@pytest.fixture
def written(tmp_path):
    """Return a profile file: the built-in x86-cpu with something replaced."""

    def write(old="", new=""):
        text = (ROOT / "profiles" / "x86-cpu.toml").read_text()
        assert old in text
        path = tmp_path / "mine.toml"
        path.write_text(text.replace(old, new, 1))
        return str(path)

    return write


# ---- the built-in ones --------------------------------------------------------------------------


def test_the_files_are_the_known_names():
    assert {path.stem for path in (ROOT / "profiles").glob("*.toml")} == set(profile.NAMES)
    assert len(set(profile.NAMES)) == len(profile.NAMES)
    fields = set(profile.Profile.model_fields) - {"device", "match", "why"}
    assert set(profile.SETTINGS) == fields <= set(RECORDED)


@pytest.mark.parametrize("name", profile.NAMES)
def test_every_built_in_has_a_reason_for_every_setting(name):
    found = load_profile(name)
    assert (found.name, found.passed_over) == (name, ())
    assert set(found.profile.why) == set(profile.SETTINGS)
    assert found.profile.match is not None
    for reason in found.profile.why.values():
        assert reason.startswith(profile.ORIGINS)


@pytest.mark.parametrize("name", [n for n in profile.NAMES if "jetson" in n or "rtx" in n])
def test_no_figure_of_a_gpu_is_said_to_be_measured(name):
    assert not any(why.startswith("measured") for why in load_profile(name).profile.why.values())
    assert "by us: no figure is measured" in (ROOT / "profiles" / f"{name}.toml").read_text()


def test_they_are_shipped():
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert tools["package-dir"]["unicas_edge.profiles"] == "profiles"
    assert tools["package-data"]["unicas_edge.profiles"] == ["*.toml"]
    installed = {entry.name for entry in resources.files("unicas_edge.profiles").iterdir()}
    assert {f"{name}.toml" for name in profile.NAMES} <= installed


def test_a_profile_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        load_profile("x86-cpu").profile.readers = 3


# ---- auto ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (X86, "x86-cpu"),
        (X86_VNNI, "x86-cpu-vnni"),
        (Device("amd64"), "x86-cpu"),
        (Device("x86_64", frozenset({"avx_vnni"})), "x86-cpu-vnni"),
        (board(""), "arm64-cpu"),
        (Device("arm64"), "arm64-cpu"),
        (board("Raspberry Pi 5 Model B"), "arm64-cpu"),
        (board("NVIDIA Orin Nano Developer Kit"), "jetson-orin-nano"),
        (board("NVIDIA Jetson Orin Nano Developer Kit"), "jetson-orin-nano"),
        (board("NVIDIA Orin NX Developer Kit"), "jetson-orin-nx"),
        (board("NVIDIA Jetson AGX Orin Developer Kit"), "jetson-agx-orin"),
        (board("Jetson AGX Orin"), "jetson-agx-orin"),
        (RTX, "rtx-workstation"),
    ],
)
def test_auto_knows_machines(machine, name):
    assert load_profile("auto", lambda _: None, machine).name == name


@pytest.mark.parametrize(
    ("machine", "name", "provider"),
    [
        (RTX, "x86-cpu-vnni", "CUDAExecutionProvider"),
        (board("NVIDIA Orin NX Developer Kit"), "arm64-cpu", "TensorrtExecutionProvider"),
    ],
)
def test_auto_never_takes_an_engine_that_is_not_there(machine, name, provider):
    found = load_profile("auto", device=machine)  # the onnxruntime of the tests has no GPU
    assert found.name == name
    (note,) = found.passed_over
    assert provider in note
    assert "was not used" in note
    assert "onnxruntime-gpu" in note


def test_auto_never_takes_an_engine_that_the_bundle_does_not_vouch_for(bundle, monkeypatch):
    monkeypatch.setattr(OrtEncoder, "missing", lambda backend: None)
    assert load_profile("auto", device=RTX).name == "rtx-workstation"
    found = load_profile("auto", refusal(bundle, Options()), RTX)
    assert found.name == "x86-cpu-vnni"
    assert "was not verified" in found.passed_over[0]
    found = load_profile("auto", refusal(bundle, asked(allow_unverified=True)), RTX)
    assert found.name == "rtx-workstation"


def test_an_engine_named_by_the_user_is_for_the_engine_to_refuse(bundle):
    wanted = asked("onnxruntime-cuda")
    assert load_profile("auto", refusal(bundle, wanted), RTX).name == "rtx-workstation"
    other = load_profile("auto", refusal(bundle, asked("openvino")), RTX)
    assert other.name == "x86-cpu-vnni"
    assert "it is for onnxruntime-cuda, not openvino" in other.passed_over[0]


def test_openvino_that_is_not_installed_is_passed_over(monkeypatch):
    found = load_profile("x86-cpu").profile.model_copy(update={"backend": "openvino"})
    assert profile.not_installed(found) is None
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert "openvino is not installed; pip install" in profile.not_installed(found)


def test_a_machine_without_a_profile_is_told_how_to_get_one():
    with pytest.raises(ProfileError, match=r"fits riscv64; write one .* --profile FILE\.toml"):
        load_profile("auto", device=Device("riscv64"))


def test_this_machine_has_a_profile(bundle):
    found = load_profile("auto", refusal(bundle, Options()))
    assert found.profile.match.fits(this_device())


def test_a_machine_is_known_by_what_its_system_says(tmp_path, monkeypatch):
    monkeypatch.setattr(device.platform, "machine", lambda: "AArch64")
    monkeypatch.setattr(device, "cpu_flags", lambda: frozenset({"asimddp"}))
    monkeypatch.setattr(device, "_BOARD", tmp_path / "model")
    monkeypatch.setattr(device, "_NVIDIA", (tmp_path / "version", tmp_path / "nvidia0"))
    assert this_device() == Device("aarch64", frozenset({"asimddp"}))
    (tmp_path / "model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    (tmp_path / "nvidia0").touch()
    assert this_device().board == "NVIDIA Jetson AGX Orin Developer Kit"
    assert this_device().nvidia
    (tmp_path / "model").write_bytes(b"\xff" * 10_000)
    assert len(this_device().board) <= 4096


# ---- who decides --------------------------------------------------------------------------------


def test_the_user_goes_before_the_profile():
    jetson = load_profile("jetson-orin-nano").profile
    said = EngineOptions("onnxruntime-tensorrt", "auto", 1, 8, 512)
    assert settle(jetson, Options()) == Options(engine=said, readers=2, queue_batches=2)
    mine = EngineOptions("openvino", "bf16", 5, 3, 11, allow_unverified=True)
    user = Options(max_tiles=9, mpp=0.5, reader="vips", colour="none", engine=mine)
    assert settle(jetson, user) == dataclasses.replace(user, readers=2, queue_batches=2)
    part = settle(jetson, asked(batch_size=1)).engine
    assert (part.backend, part.batch_size) == ("onnxruntime-tensorrt", 1)


def test_auto_in_a_profile_leaves_it_open():
    found = settle(load_profile("x86-cpu").profile, Options())
    assert found == Options(readers=2, queue_batches=1)


def test_a_profiles_precision_is_for_its_engine():
    half = load_profile("rtx-workstation").profile.model_copy(update={"precision": "fp16"})
    assert settle(half, Options()).engine.precision == "fp16"
    assert settle(half, asked("onnxruntime-cuda")).engine.precision == "fp16"
    assert settle(half, asked("onnxruntime")).engine.precision == "auto"
    assert settle(half, asked(precision="fp32")).engine.precision == "fp32"


def test_what_is_recorded_is_every_setting_and_the_profiles_name(bundle, written):
    path = written("readers = 2", "readers = 6")
    found = profiled(path, bundle, Options(max_tiles=9)).recorded()
    assert (found["max_tiles"], found["readers"], found["profile"]) == (9, 6, path)
    settings = {f.name for kind in (Options, EngineOptions) for f in dataclasses.fields(kind)}
    assert tuple(found) == RECORDED
    assert set(RECORDED) == settings - {"engine"}


# ---- what is wrong ------------------------------------------------------------------------------


def test_a_file_of_the_users_is_read(written):
    path = written("readers = 2", "readers = 6")
    assert (load_profile(path).name, load_profile(path).profile.readers) == (path, 6)


def test_a_file_needs_no_match(written):
    path = written('[match]\nmachine = ["x86_64", "amd64"]\n')
    assert load_profile(path).profile.match is None


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ProfileError, match=r"unknown profile 'toaster'; there are: auto, jetson"):
        load_profile("toaster")
    with pytest.raises(ProfileError, match=r"none\.toml: no such file; the built-in"):
        load_profile("none.toml")


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("readers = 2", "reader = 2", "readers: Field required; reader: Extra inputs"),
        ("readers = 2", 'readers = "2"', "readers: Input should be a valid integer"),
        ("readers = 2", "readers = 0", "readers: Input should be greater than or equal to 1"),
        ("readers = 2", "readers = 2.0", "readers: Input should be a valid integer"),
        ("readers = 2", "readers = true", "readers: Input should be a valid integer"),
        ("readers = 2", "readers = 2020-01-01", "readers: Input should be a valid integer"),
        ("readers = 2", f"readers = {10**30}", "readers: "),
        ("readers = 2", "readers = nan", "readers: "),
        ('batch_size = "auto"', 'batch_size = "many"', "batch_size"),
        ('backend = "auto"', 'backend = "abacus"', "backend"),
        ('precision = "auto"', 'precision = "fp17"', "precision"),
        ("\n[match]", "\n[match]\nflag = 1", "match.flag: Extra inputs"),
        ('readers = "measured', 'readers = "guess', r"why.readers must say where the value comes"),
        ('readers = "measured: ', 'readers = "measured: "\n#', r"why.readers must say where"),
        ('\nreaders = "m', '\n# "m', r"\[why\] has no reason for readers"),
        (
            "\n[why]",
            "\n[why]\ncolour = 'x'",
            "gives a reason for an unknown setting: colour",
        ),
        ("\n[why]", "\n[[why]]", "why: Input should be an object"),
        ("readers = 2", "readers = 2\nreaders = 3", "not a TOML file in UTF-8"),
        ("readers = 2", "readers = " + "[" * 20_000, "not a TOML file in UTF-8"),
        ("readers = 2", "readers = 2\n#" + "x" * 65_536, "over 65,536 bytes"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(written, old, new, cause):
    path = written(old, new)
    with pytest.raises(ProfileError, match=cause) as caught:
        load_profile(path)
    assert str(caught.value).startswith(path)


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "utf16.toml").write_text("readers = 2", encoding="utf-16")
    with pytest.raises(ProfileError, match="not a TOML file in UTF-8"):
        load_profile(str(tmp_path / "utf16.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(ProfileError, match="no such file"):
        load_profile(str(tmp_path / "folder.toml"))
    (tmp_path / "empty.toml").touch()
    with pytest.raises(ProfileError, match=r"device: Field required; .* and 5 more"):
        load_profile(str(tmp_path / "empty.toml"))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.integers(2, 2500).map(lambda n: (ROOT / "profiles" / "x86-cpu.toml").read_bytes()[:-n])
)
def test_any_bytes_that_are_no_profile_are_a_profile_error(tmp_path, data):
    path = Path(tmp_path / "any.toml")
    path.write_bytes(data)
    with pytest.raises(ProfileError, match=r"any\.toml: "):
        load_profile(str(path))
