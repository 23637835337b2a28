"""Labels: each clip's class in each taxonomy, with the native names of several sources merged by aliases."""

from collections.abc import Iterable, Mapping
from typing import Any

from warehouse.config import Config


def label_rows(config: Config, memberships: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of ``labels``: one for each (clip, taxonomy) for which a source of a collection of that taxonomy has a name.

    Class ids count the merged class names in alphabetical order. Where sources disagree about a clip, the one that
    comes first in ``sources.toml`` wins.
    """
    priority = {source.name: source.priority for source in config.sources}
    feeds = {source.name: set(source.collections) for source in config.sources}
    ordered = sorted(
        (m for m in memberships if m["label"] is not None),
        key=lambda m: (priority[m["source"]], m["clip_id"], m["split"]),
    )
    rows = []
    for taxonomy in config.taxonomies:
        collections = {c.name for c in config.collections if c.taxonomy == taxonomy.name}
        names: dict[str, tuple[str, str]] = {}
        for membership in ordered:
            if feeds[membership["source"]] & collections:
                merged = taxonomy.aliases.get(membership["label"], membership["label"])
                names.setdefault(membership["clip_id"], (merged, membership["source"]))
        class_ids = {name: index for index, name in enumerate(sorted({name for name, _ in names.values()}))}
        rows += [
            {
                "clip_id": clip_id,
                "taxonomy": taxonomy.name,
                "class_id": class_ids[name],
                "class_name": name,
                "source": source,
            }
            for clip_id, (name, source) in sorted(names.items())
        ]
    return rows


def class_names(rows: Iterable[Mapping[str, Any]], taxonomy: str) -> list[str]:
    """Class names of a taxonomy in the order of their ids."""
    names = {row["class_id"]: row["class_name"] for row in rows if row["taxonomy"] == taxonomy}
    return [names[index] for index in sorted(names)]
