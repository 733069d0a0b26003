"""DICOMweb (DICOM PS3.18): slides come in by STOW-RS, and structured reports go out by WADO-RS."""
