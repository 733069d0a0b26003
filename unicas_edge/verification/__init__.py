"""Whether the engines agree, and what this installation can do."""
