"""Whether enough of a slide was seen to say anything: by its pixels, and by its tokens."""
