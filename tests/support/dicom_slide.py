"""A whole slide image as a DICOM file that OpenSlide reads: tiled, JPEG, one level."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import simplejpeg
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from tests.support.dicom_header import SLIDE_IMAGE, VOLUME

TILE = 256


def dicom_slide(
    rgb: np.ndarray,
    *,
    um_px: float = 0.5,
    study: str = "1.2.3",
    series: str = "1.2.3.4",
    uid: str = "1.2.3.4.5",
    kind: str = SLIDE_IMAGE,
    image_type: str = VOLUME,
    **more: str,
) -> bytes:
    """Return the file of uint8 RGB [h, w, 3], whose sides are multiples of `TILE`.

    `more` are further elements by keyword.
    """
    height, width, _ = rgb.shape
    found = Dataset()
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    found.file_meta.MediaStorageSOPClassUID, found.file_meta.MediaStorageSOPInstanceUID = kind, uid
    found.SOPClassUID, found.SOPInstanceUID = kind, uid
    found.StudyInstanceUID, found.SeriesInstanceUID = study, series
    found.ImageType, found.Modality = image_type.split("\\"), "SM"
    found.PatientName, found.PatientID, found.StudyDate = "Doe^Jane", "p 1", "20261128"
    found.SamplesPerPixel, found.PhotometricInterpretation = 3, "YBR_FULL_422"
    found.PlanarConfiguration, found.Rows, found.Columns = 0, TILE, TILE
    found.BitsAllocated = found.BitsStored = 8
    found.HighBit, found.PixelRepresentation = 7, 0
    found.TotalPixelMatrixColumns, found.TotalPixelMatrixRows = width, height
    found.ImagedVolumeWidth, found.ImagedVolumeHeight = (
        side * um_px / 1000 for side in (width, height)
    )
    found.DimensionOrganizationType = "TILED_FULL"
    found.NumberOfFrames = (width // TILE) * (height // TILE)
    measures, functional = Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [um_px / 1000, um_px / 1000], 0.001
    functional.PixelMeasuresSequence = [measures]
    found.SharedFunctionalGroupsSequence = [functional]
    found.PixelData = encapsulate(_frames(rgb))
    for keyword, value in more.items():
        setattr(found, keyword, value)
    buffer = io.BytesIO()
    found.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_dicom_slide(path: Path, rgb: np.ndarray, **more: str) -> Path:
    path.write_bytes(dicom_slide(rgb, **more))
    return path


def _frames(rgb: np.ndarray) -> list[bytes]:
    height, width, _ = rgb.shape
    tiles = (
        rgb[y : y + TILE, x : x + TILE]
        for y in range(0, height, TILE)
        for x in range(0, width, TILE)
    )
    return [
        simplejpeg.encode_jpeg(np.ascontiguousarray(tile), 90, colorsubsampling="422")
        for tile in tiles
    ]
