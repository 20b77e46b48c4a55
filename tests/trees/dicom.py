"""DICOM films as hospitals store them, for the trees of collections that ship them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

_DIGITAL_XRAY_FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.1")
_INSTANCE = UID("1.2.826.0.1.3680043.8.498.1")


def save_dicom(path: Path, pixels: npt.NDArray[np.uint16], **tags: Any) -> None:
    """Write unsigned 16-bit values [rows, columns] as a valid file: preamble, file meta information, explicit VR little endian.

    ``tags`` are further elements by keyword (``PhotometricInterpretation="MONOCHROME1"``, ``WindowCenter=2048``), and
    replace the ones set here. Twelve bits are said to be stored, as usual for films; say ``BitsStored=16, HighBit=15``
    for values above 4095. The same arguments give the same bytes. Missing folders are made.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = _DIGITAL_XRAY_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = _INSTANCE
    film = Dataset()
    film.file_meta = meta
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Modality = "DX"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.PixelData = pixels.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(film, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    film.save_as(path, enforce_file_format=True)
