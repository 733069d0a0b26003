"""Test files that take longest, in the order in which they begin.

A file is run by one worker: the long ones first, so that no worker is left alone at the end. As
`pytest --durations=0` tells, summed by file; only the order is of use, so it need not be exact.
"""

from __future__ import annotations

LONGEST_FIRST = (
    "train/test_smoke.py",
    "adequacy/test_screened.py",
    "cli/test_console.py",
    "cli/test_sources.py",
    "screening/test_supervisor.py",
    "c/test_aggregator.py",
    "c/test_session.py",
    "faces/test_java.py",
    "faces/test_csharp.py",
    "faces/test_cpp.py",
    "cli/test_screen.py",
    "docs/test_examples.py",
    "c/test_packaging.py",
    "c/test_manifest.py",
    "train/compose/test_compose.py",
    "train/aggregator/test_fit.py",
    "train/encoder/test_distil.py",
    "c/test_pixels.py",
    "train/demo/test_calibration.py",
    "verification/test_verify.py",
    "c/test_library.py",
    "screening/test_screener.py",
    "train/encoder/test_models.py",
    "train/encoder/test_adapt.py",
    "train/aggregator/test_guide.py",
    "slide/test_jpeg.py",
    "export/test_experts.py",
    "screening/test_session_lives.py",
    "serve/test_openapi.py",
    "train/loop/test_processes.py",
    "train/aggregator/test_cross_validate.py",
    "aggregator/test_aggregator.py",
    "train/heads/test_bundle.py",
    "c/test_encoders.py",
    "c/test_weights_hostile.py",
    "c/test_bundle.py",
    "bundle/test_default.py",
    "screening/test_spool.py",
    "models/test_encoders.py",
    "engines/test_openvino.py",
)
