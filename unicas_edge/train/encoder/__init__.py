"""Encoders: the torch module, pre-training, distilling, adapting."""
