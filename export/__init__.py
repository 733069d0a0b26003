"""Turns checkpoints into bundles: ONNX, quantisation, engines."""
