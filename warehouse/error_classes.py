"""The closed list of what can be wrong with a media file, and the error that carries one of these classes."""

MISSING = "missing_file"
CRASHED, HUNG, TOO_LARGE = "decoder_crashed", "decoder_hung", "too_large"
QUARANTINED = (
    "unreadable_file", "empty_file", "unreadable_container", "no_video_stream", "encrypted", "no_frames", "truncated",
    "interval_missing", "decode_error", TOO_LARGE, CRASHED, HUNG,
)  # fmt: skip
"""Error classes of files that are there (docs/error_classes.md says what each means and what helps)."""


class MediaError(Exception):
    """A media file cannot be opened: ``error_class`` is one of this module's, ``detail`` the decoder's own words."""

    def __init__(self, error_class: str, detail: str) -> None:
        super().__init__(f"{error_class}: {detail}")
        self.error_class, self.detail = error_class, detail


def words(error: Exception) -> str:
    """The decoder's own words without the path, which may be long and is in ``files``."""
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"
