import numpy as np
import pytest

from loaders.preview import contact_sheet


def test_views_are_rows_and_frames_are_columns() -> None:
    frames = np.arange(2 * 3, dtype=np.uint8).reshape(2, 3, 1, 1, 1) * np.ones((1, 1, 4, 5, 3), np.uint8)
    sheet = contact_sheet(frames)
    assert sheet.shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3) and sheet.dtype == np.uint8
    assert sheet[0, ::7, 0].tolist() == [0, 1, 2] and sheet[6, ::7, 0].tolist() == [3, 4, 5]
    assert (sheet[4:6] == 255).all() and (sheet[:, 5:7] == 255).all()


def test_normalised_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        contact_sheet(np.zeros((1, 1, 4, 4, 3), np.float32))
