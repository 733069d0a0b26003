"""One image of a TIFF as its directory describes it, before anything of it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

#: (page, SubIFD or -1), as libtiff counts them
Place = tuple[int, int]

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
DESCRIPTION, SAMPLES, X_RESOLUTION, Y_RESOLUTION, PLANAR = 270, 277, 282, 283, 284
RESOLUTION_UNIT, SOFTWARE, TILE_WIDTH, SUB_IFDS = 296, 305, 322, 330
SUBSAMPLING, XMP, ICC, NDPI = 530, 700, 34675, 65420
#: Read into `Picture.numbers`, `Picture.ratios` and `Picture.text`.
NUMBERS = (
    SUBFILE,
    WIDTH,
    HEIGHT,
    BITS,
    COMPRESSION,
    PHOTOMETRIC,
    SAMPLES,
    PLANAR,
    RESOLUTION_UNIT,
    TILE_WIDTH,
    SUBSAMPLING,
)
RATIOS = (X_RESOLUTION, Y_RESOLUTION)
TEXTS = (DESCRIPTION, SOFTWARE, XMP)
#: Images whose XMP is looked at: Ventana's stands in one of the first.
MARKED = 8

JPEG = 7
JPEG_2000 = frozenset({33003, 33004, 33005, 34712})
_JPEG_2000_APERIO = JPEG_2000 - {34712}
#: PhotometricInterpretation -> (samples, colour) of JPEG tiles that the fast path decodes
JPEG_COLOURS = {1: (1, "grey"), 2: (3, "rgb"), 6: (3, "ycbcr")}
YCBCR = 6
_GREY = frozenset({0, 1})
#: NewSubfileType bits. Aperio marks its macro with 8, which no standard defines.
_REDUCED, _PAGE, _MASK, _MACRO = 1, 2, 4, 8
#: TIFF Compression as people know it, for messages.
CODECS = {
    1: "no compression",
    5: "LZW",
    6: "old-style JPEG",
    7: "JPEG",
    8: "Deflate",
    32946: "Deflate",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG (DNG)",
    34925: "LZMA",
    34933: "PNG",
    34934: "JPEG XR",
    22610: "JPEG XR",
    50000: "Zstandard",
    50001: "WebP",
    50002: "JPEG XL",
    52546: "JPEG XL",
}


@dataclass(frozen=True)
class Picture:
    """What the directory of one image says. `place` is None where libtiff does not count it."""

    place: Place | None
    numbers: dict[int, tuple[int, ...]]
    ratios: dict[int, float] = field(default_factory=dict)
    text: dict[int, bytes] = field(default_factory=dict)
    codes: frozenset[int] = frozenset()

    def number(self, code: int, default: int) -> int:
        """Return the first value of an integer tag."""
        return next(iter(self.numbers.get(code, ())), default)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.number(WIDTH, 0), self.number(HEIGHT, 0)

    @property
    def area(self) -> int:
        """Pixels."""
        return self.size[0] * self.size[1]

    @property
    def tiled(self) -> bool:
        """Whether it is stored in tiles rather than strips."""
        return TILE_WIDTH in self.codes

    @property
    def grey(self) -> bool:
        """Whether it has one channel of brightness, and so no stain."""
        return self.number(SAMPLES, 1) < 3 and self.number(PHOTOMETRIC, 1) in _GREY

    @property
    def is_sub(self) -> bool:
        """Whether it hangs from another image as a SubIFD."""
        return self.place is None or self.place[1] >= 0

    @property
    def reduced(self) -> bool:
        """Whether it says that it is another image made smaller."""
        return bool(self.number(SUBFILE, 0) & _REDUCED)

    @property
    def apart(self) -> bool:
        """Whether it says that it is a mask, or Aperio's macro."""
        return bool(self.number(SUBFILE, 0) & (_MASK | _MACRO))

    @property
    def description(self) -> str:
        """The beginning of its ImageDescription."""
        return self.text.get(DESCRIPTION, b"").decode("utf-8", errors="replace").rstrip("\0")

    @property
    def fast(self) -> bool:
        """Whether the fast path decodes it: tiles of interleaved 8-bit JPEG."""
        samples, _ = JPEG_COLOURS.get(self.number(PHOTOMETRIC, 0), (0, ""))
        return (
            self.tiled
            and self.number(COMPRESSION, 1) == JPEG
            and self.number(SAMPLES, 1) == samples
            and set(self.numbers.get(BITS, ())) == {8}
            and (samples == 1 or self.number(PLANAR, 1) == 1)
        )

    @property
    def codec(self) -> str:
        """Its compression, in words."""
        number = self.number(COMPRESSION, 1)
        return CODECS.get(number, f"TIFF compression {number}")

    def __str__(self) -> str:
        """Return "600 x 620" for messages: no word of the file's own, which may name a patient."""
        return f"{self.size[0]} x {self.size[1]}"


@dataclass
class Survey:
    """What the walk found: every image in file order; `ndpi` ends it at once."""

    path: Path
    pictures: list[Picture] = field(default_factory=list)
    ndpi: bool = False

    @property
    def first(self) -> Picture:
        """The first image, which carries what a file says of itself."""
        return self.pictures[0] if self.pictures else Picture(None, {})

    @property
    def vendor(self) -> str | None:
        """The dialect that only OpenSlide reads rightly, or None."""
        first = self.first
        description, software = (first.text.get(code, b"") for code in (DESCRIPTION, SOFTWARE))
        codec = first.number(COMPRESSION, 1)
        told = {
            "Hamamatsu NDPI": self.ndpi,
            "Philips TIFF": software.startswith(b"Philips"),
            "Trestle": software.startswith(b"MedScan"),
            "Leica SCN": b"leica-microsystems.com/scn" in description,
            "Ventana BIF": any(b"iScan" in p.text.get(XMP, b"") for p in self.pictures[:MARKED]),
            "JPEG 2000 TIFF": codec in _JPEG_2000_APERIO
            or (codec in JPEG_2000 and description.startswith(b"Aperio")),
        }
        return next((name for name, yes in told.items() if yes), None)
