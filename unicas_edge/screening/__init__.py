"""One slide, many slides: the stages joined, from pixels to a result in its folder."""
