"""OpenVINO: the engine, and the memory of its mapped weights."""
