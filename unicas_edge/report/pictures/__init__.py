"""The pictures of a result: heat maps over the slide, the tiles that carried it."""
