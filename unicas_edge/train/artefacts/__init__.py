"""Pictures of what is not cells to be judged: artefacts of slides, and things that are no slide."""
