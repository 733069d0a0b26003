"""What background slides show by themselves: for such a task they say neither yes nor no.

The six LBC slides come without findings of infection. They were looked at by us, not by a
cytologist: on one, bacteria cover whole squamous cells and blur their edges nearly everywhere,
which is what clue cells look like (Bethesda 2014, shift in flora suggestive of bacterial
vaginosis).
"""

from __future__ import annotations

#: Tasks, by the slide's name.
SHOWN: dict[str, tuple[str, ...]] = {"D22061800125C101_20": ("cluecell",)}
