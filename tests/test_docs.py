"""Documents that repeat what the code says are held to it."""

import re
from pathlib import Path

from warehouse.curation.decisions import REASONS

DOCS = Path(__file__).parent.parent / "docs"


def test_every_reason_is_explained_as_in_the_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", (DOCS / "curation.md").read_text(), flags=re.MULTILINE)
    without_links = {reason: re.sub(r": \[[^]]+\]\([^)]+\)", "", text) for reason, text in rows}
    assert without_links == REASONS


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
